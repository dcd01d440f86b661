"""Plans a run: its shards, a fingerprint for every (stage, shard), and what is due and why.

Planning reads the data set's index, the ledger, and digests of weights. It writes nothing, and
imports no model library and no orchestrator, so that a run with nothing to do ends at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from sys import intern
from typing import Any, Literal, Protocol

from flows.planning import reasons
from flows.planning.fingerprints import texts_of_shard
from flows.planning.mirrored import existence
from flows.planning.products import joined
from flows.planning.run_paths import RunPaths
from flows.planning.shards import Cut, Shard, cut_shards
from flows.planning.sources import Digests, NotFetchedError, digest_of_sources
from flows.planning.stages import ALL, STAGE, STAGES, shard_stages_of
from flows.planning.weight_digests import WeightDigests
from pipeline.config import RunConfig
from pipeline.fingerprint import canonical_json, digest, file_digest
from pipeline.ports import DatasetReader
from pipeline.types import Failure, Receipt

State = Literal["done", "due", "waits"]


class ReceiptBook(Protocol):
    """What planning needs of the ledger."""

    def receipt(self, stage: str, shard: str) -> Receipt | None: ...

    def failure(self, stage: str, shard: str) -> Failure | None: ...


@dataclass(frozen=True)
class Job:
    """One stage on one shard.

    Attributes:
        fingerprint: of everything that the product depends on.
        state: ``done``: there is a receipt with this fingerprint, the product exists, and its
            inputs are as they were. ``waits``: the same, but an input is to be made again; the job
            is due only if that input comes out different. ``due``: everything else.
        reason: why it is not done; empty if it is.
        basis: what the fingerprint was made from.
        receipt: the receipt in the ledger, with any fingerprint; without its list of files.
        failure: the last failure, if there is no receipt.
    """

    stage: str
    shard: Shard
    fingerprint: str
    state: State = "due"
    reason: str = reasons.NO_RECEIPT
    basis: Mapping[str, Any] = field(default_factory=dict)
    receipt: Receipt | None = None
    failure: Failure | None = None

    @property
    def done(self) -> bool:
        return self.state == "done"

    @property
    def name(self) -> str:
        """Name of its task run."""
        return self.stage if self.shard.name == ALL else f"{self.stage} {self.shard.name}"


@dataclass(frozen=True)
class Plan:
    """The jobs of a run, by stage, in the order in which they are done.

    Attributes:
        shards: shards to work on.
        layout: all shards of the run.
        finished_others: finished shards that were not asked for. Stages of the whole run cover
            them too.
        stages: stages to do. Jobs of other stages are planned but not done.
        retired: shards whose videos are all gone from the data set.
        along: number of videos that are included because they share a shard with one asked for.
        gone: videos that have results and are gone from the data set.
    """

    shards: tuple[Shard, ...]
    jobs: Mapping[str, tuple[Job, ...]]
    layout: tuple[Shard, ...] = ()
    finished_others: tuple[Shard, ...] = ()
    stages: tuple[str, ...] = STAGES
    retired: tuple[str, ...] = ()
    along: int = 0
    gone: tuple[str, ...] = ()

    def pending(self, stage: str | None = None) -> tuple[Job, ...]:
        """Returns the jobs that are due, of one stage or of all stages to do."""
        stages = self.stages if stage is None else (stage,)
        return tuple(j for name in stages for j in self.jobs.get(name, ()) if j.state == "due")

    def job(self, stage: str, shard: str) -> Job:
        """Returns the job of a stage and shard."""
        return next(job for job in self.jobs[stage] if job.shard.name == shard)

    @property
    def run_shards(self) -> tuple[Shard, ...]:
        """The shards that stages of the whole run cover, by name."""
        return tuple(sorted((*self.shards, *self.finished_others), key=lambda item: item.name))

    @property
    def videos(self) -> int:
        """Number of videos to work on."""
        return sum(len(shard.videos) for shard in self.shards)


def make_plan(
    config: RunConfig,
    reader: DatasetReader,
    book: ReceiptBook,
    weights: Callable[[str], str],
    retry_skipped: bool = False,
    known: Mapping[str, Sequence[str]] | None = None,
    again: Collection[str] = (),
    stages: Sequence[str] = STAGES,
    sources: Digests | None = None,
    decided: Callable[[Sequence[str]], str] = lambda videos: "",
) -> Plan:
    """Returns the plan of a run.

    Args:
        config: resolved configuration.
        reader: of the split to label.
        book: the run's ledger.
        weights: returns the digest of a checkpoint, given its name or path.
        retry_skipped: shards with skipped videos are due.
        known: shard -> videos, as cut by earlier runs.
        again: stages that are due even if they are done.
        stages: stages to do.
        sources: returns digests of frames and ground truth; those that take a download, and all
            if it is None, are taken as unchanged.
        decided: returns a digest of what people decided about videos; empty for nothing.

    Raises:
        ConfigError: ``dataset.only_videos`` names a video that the data set lacks.
    """
    only = config.dataset.only_videos
    cut = cut_shards(known or {}, reader.video_ids(), only, config.shard_videos)
    planner = _Planner(config, reader, book, weights, retry_skipped, again, sources, decided)
    return planner.plan(cut, stages)


@dataclass(frozen=True)
class _Input:
    """A product that a job reads: whether it is done, and its digest."""

    stage: str
    done: bool
    product: str

    @classmethod
    def of(cls, job: Job) -> _Input:
        return cls(job.stage, job.done, job.receipt.product if job.receipt else "")


class _Planner:
    """One pass over the ledger. Every receipt is read once."""

    def __init__(
        self,
        config: RunConfig,
        reader: DatasetReader,
        book: ReceiptBook,
        weights: Callable[[str], str],
        retry: bool,
        again: Collection[str],
        sources: Digests | None,
        decided: Callable[[Sequence[str]], str],
    ) -> None:
        self._config, self._reader, self._book, self._decided = config, reader, book, decided
        self._retry, self._again = retry, again
        # Several stages read the same files.
        self._sources = None if sources is None else cache(sources)
        self._paths = RunPaths(config.run_folder)
        self._exists = existence(config.run_folder)
        self._run_stages = tuple(
            stage.name for stage in STAGE.values() if stage.over == "run" and stage.is_on(config)
        )
        self._shard_stages = shard_stages_of(config)
        # Convert to JSON and back, because it is compared with the basis in a receipt.
        self._bases: dict[str, dict[str, Any]] = {
            stage: json.loads(canonical_json(STAGE[stage].basis(config, weights)))
            for stage in (*self._shard_stages, *self._run_stages)
        }
        self._jobs: dict[str, list[Job]] = {stage: [] for stage in STAGES}
        self._aside: set[str] = set()

    def plan(self, cut: Cut, stages: Sequence[str]) -> Plan:
        """Returns all jobs of the selected shards and of the whole run."""
        for shard in cut.selected:
            self._shard_jobs(shard)
        selected = {shard.name for shard in cut.selected}
        others: dict[str, dict[str, Receipt]] = {}
        for shard in cut.shards:
            if shard.name not in selected:
                receipts = self._receipts(shard.name)
                if "rank" in receipts:
                    others[shard.name] = receipts
        finished = tuple(shard for shard in cut.shards if shard.name in others)
        plan = Plan(
            cut.selected,
            {},
            layout=cut.shards,
            finished_others=finished,
            stages=tuple(stages),
            retired=cut.retired,
            along=cut.along,
            gone=tuple(
                video
                for shard, videos in cut.gone.items()
                if self._receipts(shard)
                for video in videos
            ),
        )
        self._run_jobs(plan, others)
        return replace(plan, jobs={stage: tuple(items) for stage, items in self._jobs.items()})

    def _shard_jobs(self, shard: Shard) -> None:
        texts = texts_of_shard(self._reader, shard)
        receipts = {stage: self._receipt(stage, shard.name) for stage in self._shard_stages}
        missing: frozenset[str] = frozenset()
        while True:
            made, aside = self._jobs_of_shard(shard, texts, receipts, missing)
            needed = frozenset(_released_and_needed(made))
            if needed <= missing:
                break
            missing |= needed
        for stage, job in made.items():
            self._jobs[stage].append(job)
        self._aside |= aside

    def _jobs_of_shard(
        self,
        shard: Shard,
        texts: Mapping[str, Any],
        receipts: Mapping[str, Receipt | None],
        missing: Collection[str],
    ) -> tuple[dict[str, Job], set[str]]:
        """Returns a job of each stage, and the videos that are skipped.

        Args:
            missing: stages whose products were released and are needed.
        """
        made: dict[str, Job] = {}
        aside: set[str] = set()
        for stage in self._shard_stages:
            read = [made[name] for name in STAGE[stage].reads if name in made]
            inputs: dict[str, Any] = {job.stage: job.fingerprint for job in read}
            basis = {**self._bases[stage], "inputs": inputs}
            # Without decisions there is no such key, and the fingerprint is as it was before them.
            if stage == "rank" and (decisions := self._decided(shard.videos)):
                basis["decisions"] = decisions
            value = {**basis, "videos": shard.videos}
            if stage == "augment":
                value["inputs"] = {"texts": texts}
                basis["texts"] = digest(texts)
            asked = Job(stage, shard, digest(value), basis=basis)
            receipt = receipts[stage]
            reads = [_Input.of(job) for job in read]
            reads += self._looked_at(receipt, stage, [shard])
            job = self._judged(asked, receipt, reads, aside)
            if stage in missing and job.state != "due":
                job = replace(job, state="due", reason=reasons.RELEASED[stage])
            made[stage] = job
        return made, aside

    def _run_jobs(self, plan: Plan, others: Mapping[str, Mapping[str, Receipt]]) -> None:
        for receipts in others.values():
            self._aside.update(*(receipt.skipped for receipt in receipts.values()))
        shards = plan.run_shards
        everything = Shard(ALL, tuple(video for shard in shards for video in shard.videos))
        stages = self._shard_stages
        jobs = {stage: {job.shard.name: job for job in self._jobs[stage]} for stage in stages}
        ranked = [
            jobs["rank"][shard.name].fingerprint
            if shard.name in jobs["rank"]
            else others[shard.name]["rank"].fingerprint
            for shard in shards
        ]
        previous: dict[str, Any] = {"rank": ranked}
        made = {stage: self._over_shards(stage, jobs[stage], others) for stage in stages}
        for stage in self._run_stages:
            basis = {**self._bases[stage], "inputs": dict(previous)}
            # Later stages follow only if the table comes out different: no student is trained anew
            # because something is promised of its masks.
            previous[stage] = digest(basis)
            if stage == "merge" and self._paths.guarantee.is_file():
                basis["guarantee"] = file_digest(self._paths.guarantee)
            asked = Job(stage, everything, digest(basis), basis=_short(basis))
            receipt = self._receipt(stage, ALL)
            reads = [made[name] for name in STAGE[stage].reads if name in made]
            reads += self._looked_at(receipt, stage, shards)
            job = self._judged(asked, receipt, reads, set(self._aside))
            made[stage] = _Input.of(job)
            self._jobs[stage].append(job)

    def _looked_at(
        self, receipt: Receipt | None, stage: str, shards: Sequence[Shard]
    ) -> list[_Input]:
        """Returns what a stage reads of the data set, without what takes a download. Empty without
        a receipt, because the files are digested when the stage works on them.
        """
        if self._sources is None or receipt is None:
            return []
        found = []
        for kind in STAGE[stage].looks_at(self._config):
            with suppress(NotFetchedError):
                found.append(_Input(kind, True, digest_of_sources(self._sources, shards, kind)))
        return found

    def _over_shards(
        self, stage: str, jobs: Mapping[str, Job], others: Mapping[str, Mapping[str, Receipt]]
    ) -> _Input:
        """Returns the products of a stage for all shards as one input."""
        receipts = {name: job.receipt for name, job in jobs.items()}
        receipts.update((name, found.get(stage)) for name, found in others.items())
        product = joined({name: r.product if r else "" for name, r in receipts.items()})
        return _Input(stage, all(job.done for job in jobs.values()), product)

    def _judged(
        self, job: Job, receipt: Receipt | None, inputs: Sequence[_Input], aside: set[str]
    ) -> Job:
        failure = self._book.failure(job.stage, job.shard.name) if receipt is None else None
        if receipt is not None:
            aside.update(receipt.skipped)
            if receipt.fingerprint == job.fingerprint:
                # What both are made from is the same. A large run has many of them.
                receipt = replace(receipt, basis=dict(job.basis), videos=job.shard.videos)
        state, reason = self._state(job, receipt, failure, inputs, aside)
        return replace(job, state=state, reason=reason, receipt=receipt, failure=failure)

    def _state(
        self,
        job: Job,
        receipt: Receipt | None,
        failure: Failure | None,
        inputs: Sequence[_Input],
        aside: set[str],
    ) -> tuple[State, str]:
        stage, videos = job.stage, job.shard.videos
        if receipt is None:
            return "due", reasons.NO_RECEIPT if failure is None else reasons.failed(failure)
        if stage in self._again:
            return "due", reasons.asked_for(next(name for name in STAGES if name in self._again))
        if receipt.fingerprint != job.fingerprint:
            checkpoint = getattr(getattr(self._config, stage, None), "checkpoint", None)
            return "due", reasons.what_changed(receipt, job.basis, videos, checkpoint)
        first = STAGE[stage].product(self._paths, job.shard.name)[0]
        if not receipt.released and not self._exists(first):
            return "due", reasons.PRODUCT_MISSING
        if self._retry and aside:
            return "due", reasons.SKIPPED
        # A video that was skipped before and can be read now must be processed.
        if receipt.counts.get("videos", 0) != len(set(videos) - aside):
            return "due", reasons.VIDEO_BACK
        for item in inputs:
            if item.done and receipt.made_from.get(item.stage, "") != item.product:
                return "due", reasons.came_out_different(item.stage)
        for item in inputs:
            if not item.done:
                return "waits", reasons.follows(item.stage)
        return "done", ""

    def _receipts(self, shard: str) -> dict[str, Receipt]:
        found = {stage: self._receipt(stage, shard) for stage in self._shard_stages}
        return {stage: r for stage, r in found.items() if r is not None}

    def _receipt(self, stage: str, shard: str) -> Receipt | None:
        receipt = self._book.receipt(stage, shard)
        if receipt is None:
            return None
        # Planning needs only the digest of the files; their list is most of a receipt. Names of
        # counts are the same in all receipts.
        counts = {intern(name): count for name, count in receipt.counts.items()}
        return replace(receipt, files={}, counts=counts)


def _released_and_needed(made: Mapping[str, Job]) -> Iterator[str]:
    """Yields the stages of a shard whose products were released, and that a job reads which is
    not done. A job that waits may read them too."""
    for job in made.values():
        for stage in () if job.done else STAGE[job.stage].reads:
            receipt = made[stage].receipt if stage in made else None
            if receipt is not None and receipt.released and made[stage].state != "due":
                yield stage


def still_holds(job: Job, inputs: Mapping[str, str]) -> bool:
    """Whether a waiting job is done after all: its inputs came out as they were."""
    made_from = {} if job.receipt is None else job.receipt.made_from
    return job.state == "waits" and all(
        made_from.get(stage, "") == product for stage, product in inputs.items()
    )


def _short(basis: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a basis with one digest in place of the fingerprints of all shards."""
    inputs = {
        name: digest(value) if isinstance(value, list) else value
        for name, value in basis["inputs"].items()
    }
    return {**basis, "inputs": inputs}


__all__ = [
    "Job",
    "Plan",
    "ReceiptBook",
    "Shard",
    "WeightDigests",
    "make_plan",
    "still_holds",
]
