"""Writes the artifacts of a run for the Prefect UI: progress, a table of stages, samples."""

from __future__ import annotations

import re
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

from flows.report.stage_table import stage_rows
from pipeline.types import Receipt


def key_of(run_name: str, what: str) -> str:
    """Returns the key of an artifact: Prefect accepts lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{run_name}-{what}".lower()).strip("-")


class StageProgress:
    """The progress artifact of one stage.

    Args:
        run_name: name of the run's folder.
        stage: name of the stage.
        total: number of its videos.
        done: number of videos that were done before.
    """

    def __init__(self, run_name: str, stage: str, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._id = cast(
            UUID,
            create_progress_artifact(
                progress=self._percent(),
                key=key_of(run_name, f"progress-{stage}"),
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
        table=stage_rows(receipts),
        key=key_of(run_name, "stages"),
        description=f"Stage figures of {run_name}",
    )


def samples_page(markdown: str, run_name: str) -> None:
    """The page of sample overlays."""
    description = f"Sample overlays of {run_name}"
    create_markdown_artifact(markdown, key=key_of(run_name, "samples"), description=description)


def report_link(path: Path, run_name: str) -> None:
    """A link to the report."""
    key = key_of(run_name, "report")
    create_link_artifact(path.resolve().as_uri(), link_text=str(path), key=key)


def curves_page(markdown: str, title: str) -> None:
    """The losses of a training, and J&F where it was measured."""
    create_markdown_artifact(
        markdown, key=key_of(title, "training"), description=f"Training of {title}"
    )
