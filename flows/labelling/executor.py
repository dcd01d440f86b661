"""Goes over a plan: every stage in order, its shards, then the stages of the whole run.

A :class:`Launcher` decides where a job runs: in this process, as a Prefect task run, or on a Ray
worker. All launchers call :func:`flows.labelling.jobs.do_job`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from flows.context import RunContext
from flows.labelling.jobs import attempt
from flows.outcome import RunOutcome
from flows.planning.plan import Job, Plan, still_holds
from flows.planning.products import inputs_now
from flows.planning.stages import (
    ALL,
    RUN_STAGES,
    SHARD_STAGES,
    STAGE,
    STAGES,
    shard_stages_of,
)
from pipeline.errors import (
    CheckpointError,
    ConfigError,
    EndpointError,
    LockLostError,
    ModelError,
    NoRoomError,
    ObjectStoreError,
    PseudoLabelError,
    UnknownDatasetError,
)
from storage.run.ledger import Ledger

FATAL = (
    CheckpointError,
    ConfigError,
    EndpointError,
    LockLostError,
    ModelError,
    NoRoomError,
    ObjectStoreError,
    UnknownDatasetError,
)
"""Errors that the next shard would raise as well."""


class RunFailedError(PseudoLabelError):
    """More shards failed than ``maximum_failed_share`` allows. Finished work is kept."""


@dataclass
class Summary:
    """The outcome of a run.

    Attributes:
        failed: (stage, shard) -> the error, in words.
        outcome: what came of it, if a launcher has read it.
    """

    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    outcome: RunOutcome | None = None


class Launcher(Protocol):
    """Runs jobs somewhere, and shows their progress."""

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        """Runs jobs of one stage. Yields each job when it ends, with None or its error."""
        ...

    def stage_begins(self, stage: str, videos: int, done: int) -> None:
        """A stage begins: its number of videos, and how many of them were done before."""
        ...

    def videos_done(self, count: int) -> None:
        """More videos of the stage are done."""
        ...

    def run_ends(self, summary: Summary) -> None:
        """All stages have been processed. Failures are in the summary."""
        ...


class InProcess:
    """A launcher that runs the jobs in this process, one after the other."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        for job in jobs:
            yield job, attempt(job, self._context)

    def stage_begins(self, stage: str, videos: int, done: int) -> None: ...

    def videos_done(self, count: int) -> None: ...

    def run_ends(self, summary: Summary) -> None: ...


def execute(context: RunContext, launcher: Launcher) -> Summary:
    """Runs the pending jobs of a plan.

    Raises:
        RunFailedError: too large a share of the shards failed, or a stage of the whole run did.
        PseudoLabelError: an error that every further shard would raise.
    """
    run = _Execution(context, context.the_plan, launcher)
    for stage in shard_stages_of(context.config):
        if stage in context.the_plan.stages:
            run.shard_stage(stage)
    run.check_share()
    for stage in RUN_STAGES:
        if stage in context.the_plan.stages:
            run.run_stage(stage)
    launcher.run_ends(run.summary)
    run.check_run_stages()
    return run.summary


class _Execution:
    """One pass over a plan."""

    def __init__(self, context: RunContext, plan: Plan, launcher: Launcher) -> None:
        self._context, self._plan, self._launcher = context, plan, launcher
        self._ledger = Ledger(context.config.run_folder)
        self.summary = Summary()

    def shard_stage(self, stage: str) -> None:
        """Runs the pending jobs of a stage, except for shards that failed in an earlier stage."""
        jobs, progress = self._plan.jobs[stage], self._context.progress
        failed_before = {shard for _, shard in self.summary.failed}
        left = [job for job in jobs if not job.done and job.shard.name not in failed_before]
        todo = [job for job in left if not self._holds(job, ())]
        total = _videos(jobs)
        done = _videos(job for job in jobs if job.done) + _videos(left) - _videos(todo)
        progress.begin(stage, total, "videos")
        progress.done_before(done)
        if todo:
            self._launcher.stage_begins(stage, total, done)
        for job, error in self._launcher.ended(todo):
            if self._went_well(job, error):
                self._tell_skipped(job)
                self._launcher.videos_done(len(job.shard.videos))
        self._context.release()
        progress.end("" if todo else "done before")

    def run_stage(self, stage: str) -> None:
        """Runs a stage of the whole run, if it is pending and no earlier one failed."""
        jobs, failed = self._plan.jobs.get(stage, ()), self.summary.failed
        if not jobs or (jobs[0].done and not failed):
            return
        [job] = jobs
        # If the student failed, the masks can still be measured and reported.
        if any(name in RUN_STAGES and name != "student" for name, _ in failed):
            return
        if not failed and self._holds(job, self._context.finished_shards()):
            return
        if failed:
            # A result without these shards must be made again once they are there.
            job = replace(job, fingerprint=f"partial-{job.fingerprint}")
        for item, error in self._launcher.ended([job]):
            self._went_well(item, error)

    def check_share(self) -> None:
        """Raises RunFailedError if too many shards failed."""
        failed = {shard for stage, shard in self.summary.failed if stage in SHARD_STAGES}
        share = len(failed) / max(1, len(self._plan.shards))
        if failed and share > self._context.config.maximum_failed_share:
            raise RunFailedError(
                f"{len(failed)} of {len(self._plan.shards)} shards failed:\n{self._failures()}"
            )

    def check_run_stages(self) -> None:
        """Raises RunFailedError if a stage of the whole run failed."""
        if any(stage in RUN_STAGES for stage, _ in self.summary.failed):
            raise RunFailedError(self._failures())

    def _holds(self, job: Job, shards: Sequence[str]) -> bool:
        """Whether a waiting job is done after all, because its inputs came out as they were."""
        if job.state != "waits":
            return False
        planned = [stage for stage in STAGES if self._plan.jobs.get(stage)]
        now = inputs_now(self._ledger, STAGE[job.stage], job.shard.name, planned, shards)
        return still_holds(job, now)

    def _went_well(self, job: Job, error: Exception | None) -> bool:
        """Whether a job succeeded. If not, its error goes into the summary."""
        if error is None:
            return True
        if isinstance(error, FATAL):
            raise error
        self.summary.failed[job.stage, job.shard.name] = in_words(error)
        self._context.progress.say(f"{job.name} failed: {in_words(error)}", "red")
        return False

    def _tell_skipped(self, job: Job) -> None:
        receipt = self._ledger.receipt(job.stage, job.shard.name)
        for video, reason in (receipt.skipped if receipt else {}).items():
            self._context.progress.say(f"skipped {video}: {reason}", "yellow")

    def _failures(self) -> str:
        return "\n".join(
            f"  {stage} {'' if shard == ALL else shard}: {error}"
            for (stage, shard), error in self.summary.failed.items()
        )


def in_words(error: Exception) -> str:
    """Returns the message of an error; for errors of other code, with its type."""
    if isinstance(error, PseudoLabelError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _videos(jobs: Iterable[Job]) -> int:
    return sum(len(job.shard.videos) for job in jobs)
