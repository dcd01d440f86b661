"""What the Prefect UI shows of a run beside its graph: progress, stage figures, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.figures import stage_rows
from pipeline.types import Receipt


class StageProgress:
    """The progress artifact of one stage.

    Args:
        stage: its name.
        total: videos it has to do in all.
        done: videos that were done before.
    """

    def __init__(self, stage: str, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._id = cast(
            UUID,
            create_progress_artifact(
                progress=self._percent(),
                key=f"progress-{stage}",
                description=f"Stage {stage}: {total} videos",
            ),
        )

    def advance(self, videos: int) -> None:
        """More videos were done."""
        self._done += videos
        update_progress_artifact(artifact_id=self._id, progress=self._percent())

    def _percent(self) -> float:
        return 100.0 * self._done / self._total if self._total else 100.0


def stage_table(receipts: Sequence[Receipt], run_name: str) -> None:
    """The table of stage figures: shards, videos, frames, seconds, throughput."""
    create_table_artifact(
        table=stage_rows(receipts), key="stages", description=f"Stage figures of {run_name}"
    )


def samples_page(markdown: str) -> None:
    """The page of sample overlays."""
    create_markdown_artifact(markdown, key="samples", description="Sample overlays")


def report_link(path: Path) -> None:
    """A link to the report."""
    create_link_artifact(path.resolve().as_uri(), link_text=str(path), key="report")
