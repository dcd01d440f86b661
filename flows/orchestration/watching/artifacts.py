"""Writes the artifacts of a run for the Prefect UI: progress, tables, pages and links.

Their keys begin with the key of the run's folder, so that two runs share no artifact.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.planning.time_estimate import WORTH_SAYING, in_words


def artifact_key(run_key: str, what: str) -> str:
    """Returns the key of an artifact: Prefect accepts lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{run_key}-{what}".lower()).strip("-")


class StageProgress:
    """The progress artifact of one stage, with the time that is left at the pace so far.

    Args:
        run_key: of the run's folder.
        stage: name of the stage.
        total: number of its videos.
        done: number of videos that were done before.
    """

    def __init__(self, run_key: str, stage: str, total: int, done: int) -> None:
        self._stage, self._total = stage, total
        self._done = self._before = done
        self._started = time.monotonic()
        self._id = cast(
            UUID,
            create_progress_artifact(
                progress=self._percent(),
                key=artifact_key(run_key, f"progress-{stage}"),
                description=self._words(),
            ),
        )

    def advance(self, videos: int) -> None:
        """More videos were done."""
        self._done += videos
        update_progress_artifact(
            artifact_id=self._id, progress=self._percent(), description=self._words()
        )

    def _percent(self) -> float:
        return 100.0 * self._done / self._total if self._total else 100.0

    def _words(self) -> str:
        words = f"Stage {self._stage}: {self._done} of {self._total} videos"
        mine = self._done - self._before
        if not mine:
            return words
        left = (time.monotonic() - self._started) / mine * (self._total - self._done)
        return f"{words}, about {in_words(left)} left" if left >= WORTH_SAYING else words


def stage_table(rows: Sequence[dict[str, Any]], run_key: str, run_name: str) -> None:
    """The table of stage figures: shards, videos, frames, seconds, throughput."""
    create_table_artifact(
        table=list(rows),
        key=artifact_key(run_key, "stages"),
        description=f"Stage figures of {run_name}",
    )


def page(markdown: str, run_key: str, what: str, description: str) -> None:
    """A page of Markdown, such as ``outcome``, ``samples`` or ``training``."""
    create_markdown_artifact(markdown, key=artifact_key(run_key, what), description=description)


def report_link(address: str, run_key: str, run_name: str) -> None:
    """A link to the report."""
    create_link_artifact(
        address,
        link_text=f"Report of {run_name}",
        key=artifact_key(run_key, "report"),
        description=f"Report of {run_name}",
    )
