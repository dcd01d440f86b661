"""What is to be done: the shards of a run, a fingerprint for every (stage, shard), and which of
them the ledger already holds.

Planning reads the data set's index, the ledger, and digests of weights; it imports no model
library and no orchestrator, so that a run with nothing to do ends at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from flows.paths import ALL, RUN_STAGES, SHARD_STAGES, STAGES, RunPaths
from pipeline.config import EXECUTION, RunConfig
from pipeline.errors import ConfigError, InputError
from pipeline.fingerprint import digest, file_digest
from pipeline.ports import DatasetReader
from pipeline.types import Receipt
from storage.atomic import replace_file

STAGE_VERSIONS: Mapping[str, int] = {
    "augment": 1,
    "ground": 1,
    "segment": 1,
    "fuse": 1,
    "rank": 1,
    "merge": 1,
    "student": 1,
    "evaluate": 1,
    "report": 1,
}
"""Raised when a stage gives another result for the same configuration."""

_INPUTS: Mapping[str, tuple[str, ...]] = {
    "augment": (),
    "ground": ("augment",),
    "segment": ("ground",),
    "fuse": ("augment", "ground", "segment"),
    "rank": ("fuse",),
}


class ReceiptBook(Protocol):
    """What planning needs of the ledger."""

    def receipt(self, stage: str, shard: str) -> Receipt | None: ...


@dataclass(frozen=True)
class Shard:
    """Some videos that are worked on, committed and resumed together."""

    name: str
    videos: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One stage on one shard.

    Attributes:
        fingerprint: of all that the product depends on.
        done: whether the ledger holds a receipt with that fingerprint, and the product is there.
    """

    stage: str
    shard: Shard
    fingerprint: str
    done: bool


@dataclass(frozen=True)
class Plan:
    """The jobs of a run, by stage, in the order they are done."""

    shards: tuple[Shard, ...]
    jobs: Mapping[str, tuple[Job, ...]]

    def pending(self, stage: str | None = None) -> tuple[Job, ...]:
        """Jobs not done, of one stage or of all."""
        stages = STAGES if stage is None else (stage,)
        return tuple(job for name in stages for job in self.jobs.get(name, ()) if not job.done)

    def job(self, stage: str, shard: str) -> Job:
        """The job of that stage and shard."""
        return next(job for job in self.jobs[stage] if job.shard.name == shard)

    @property
    def videos(self) -> int:
        """Videos of the run."""
        return sum(len(shard.videos) for shard in self.shards)


def make_shards(video_ids: Sequence[str], only: Sequence[str], size: int) -> tuple[Shard, ...]:
    """Cuts the videos, in sorted order, into shards named 00000, 00001, ...

    Raises:
        ConfigError: ``only`` names a video that the data set lacks, or nothing is left.
    """
    missing = sorted(set(only) - set(video_ids))
    if missing:
        raise ConfigError(
            f"dataset.only_videos: no video {missing[0]!r} in the data set, which has"
            f" {len(video_ids)}, such as {video_ids[0]!r}"
            if video_ids
            else f"dataset.only_videos: no video {missing[0]!r}; the data set has none"
        )
    kept = [video for video in sorted(video_ids) if not only or video in set(only)]
    return tuple(
        Shard(f"{number:05d}", tuple(kept[start : start + size]))
        for number, start in enumerate(range(0, len(kept), size))
    )


def make_plan(
    config: RunConfig,
    reader: DatasetReader,
    book: ReceiptBook,
    weights: Callable[[str], str],
    retry_set_aside: bool = False,
) -> Plan:
    """The plan of a run.

    Args:
        config: resolved.
        reader: of the split to label.
        book: the run's ledger.
        weights: digest of a checkpoint, given its name or path.
        retry_set_aside: shards with videos set aside are not done.
    """
    paths = RunPaths(config.run_folder)
    shards = make_shards(reader.video_ids(), config.dataset.only_videos, config.shard_videos)
    bases = {stage: _base(stage, config, weights) for stage in (*SHARD_STAGES, *RUN_STAGES)}
    jobs: dict[str, list[Job]] = {stage: [] for stage in STAGES}

    def add(stage: str, shard: Shard, fingerprint: str, aside: set[str]) -> str:
        receipt = book.receipt(stage, shard.name)
        if receipt is not None:
            aside.update(receipt.set_aside)
        done = (
            receipt is not None
            and receipt.error is None
            and receipt.fingerprint == fingerprint
            and not (retry_set_aside and aside)
            # A video that was set aside before and is there now must go through.
            and receipt.counts.get("videos", 0) == len(set(shard.videos) - aside)
            and paths.product(stage, shard.name).exists()
        )
        jobs[stage].append(Job(stage, shard, fingerprint, done))
        return fingerprint

    all_aside: set[str] = set()

    for shard in shards:
        prints: dict[str, str] = {}
        aside: set[str] = set()
        texts = _texts(reader, shard)
        for stage in SHARD_STAGES:
            inputs: dict[str, Any] = {name: prints[name] for name in _INPUTS[stage]}
            if stage == "augment":
                inputs["texts"] = texts
            value = {**bases[stage], "inputs": inputs, "videos": shard.videos}
            prints[stage] = add(stage, shard, digest(value), aside)
        all_aside |= aside
    everything = Shard(ALL, tuple(video for shard in shards for video in shard.videos))
    ranked = [job.fingerprint for job in jobs["rank"]]
    previous: dict[str, Any] = {"rank": ranked}
    for stage in _run_stages(config):
        value = {**bases[stage], "inputs": previous}
        previous[stage] = add(stage, everything, digest(value), all_aside)
    if not all(job.done for job in jobs["rank"]):
        for stage in RUN_STAGES:
            jobs[stage] = [replace(job, done=False) for job in jobs[stage]]
    return Plan(shards, {stage: tuple(items) for stage, items in jobs.items()})


class WeightDigests:
    """Digests of weight files, remembered by path, size and time of change: a gigabyte takes
    seconds to read, and every run asks for it.

    Args:
        path: the JSON file that remembers them; missing or broken reads as empty.
        files: the weight files of a checkpoint.
    """

    def __init__(self, path: Path, files: Callable[[str], Sequence[Path]]) -> None:
        self._path = path
        self._files = files
        try:
            self._known: dict[str, str] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def of_checkpoint(self, checkpoint: str) -> str:
        """Digest of a checkpoint's weights. Raises CheckpointError where there are none."""
        return digest([self.of_file(path) for path in self._files(checkpoint)])

    def of_file(self, path: Path) -> str:
        """SHA-256 of a file, remembered. Raises OSError as ``open`` does."""
        key = _identity(path)
        if key not in self._known:
            self._known[key] = file_digest(path)
            with replace_file(self._path, "w") as file:
                json.dump(self._known, file, indent=1)
        return self._known[key]

    def peek(self, path: Path) -> str:
        """SHA-256 of a file; nothing is written."""
        return self._known.get(_identity(path)) or file_digest(path)


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def _run_stages(config: RunConfig) -> Iterator[str]:
    for stage in RUN_STAGES:
        if stage != "student" or config.student.enabled:
            yield stage


def _base(stage: str, config: RunConfig, weights: Callable[[str], str]) -> dict[str, Any]:
    """What a stage's products depend on beside its inputs; no path, device or batch size."""
    base: dict[str, Any] = {"stage": stage, "version": STAGE_VERSIONS[stage]}
    section = getattr(config, stage, None)
    if section is not None:
        leave_out = EXECUTION | {"checkpoint", "sha256", "file", "text_encoder", "api_key_env"}
        base["config"] = {
            name: value
            for name, value in section.model_dump(mode="json").items()
            if name not in leave_out
        }
    if stage == "augment":
        base["seed"] = config.seed
        base["dataset"] = {"name": config.dataset.name, "split": config.dataset.split}
        base["config"].pop("timeout_seconds")
        if config.augment.source == "model":
            base["weights"] = weights(config.augment.checkpoint)
        if config.augment.source == "file" and config.augment.file is not None:
            base["file"] = _input_digest(config.augment.file)
    elif stage == "ground" and config.ground.source == "model":
        base["weights"] = weights(config.ground.checkpoint)
    elif stage == "segment":
        base["weights"] = weights(config.segment.checkpoint)
    elif stage == "student":
        base["seed"] = config.seed
        base["predict_split"] = config.dataset.predict_split
        # The student's encoders are the demo grounder's.
        base["weights"] = weights("demo:ground")
    return base


def _input_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(
            path, error.strerror or str(error), "a WSRVOS augmentation file", "check augment.file"
        ) from error


def _texts(reader: DatasetReader, shard: Shard) -> dict[str, Any]:
    """The sentences of a shard; a video whose sentences cannot be read is noted as such."""
    texts: dict[str, Any] = {}
    for video in shard.videos:
        try:
            texts[video] = [(e.key.expression, e.text) for e in reader.expressions(video)]
        except InputError as error:
            texts[video] = str(error.found)
    return texts
