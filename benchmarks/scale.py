"""What planning, resuming, merging and reporting take for many videos, with fake stages.

    .venv/bin/python -m benchmarks.scale table [--videos 1000 --videos 10000]

Every step runs in a process of its own, whose largest resident set is noted. Jobs go through the
executor and the ledger as in a run. The fake stages write tables of real form with two expressions
of four frames for each video, and a link to the same masks for every video. Their receipts list as
many files as those of a real run, because these lists are most of a ledger. Frames are one shared
file. The time of real stages is not in the figures, nor is that of Prefect's server. Ends with 1
above what is held to. The folder is best one in memory (`--folder /dev/shm`): what is measured is
the project's own work and not how fast a disk flushes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.resume import FILES
from flows.context import Parts, RunContext
from flows.integrity.content_digest import content_digest
from flows.labelling.executor import InProcess, execute
from flows.labelling.jobs import do_job
from flows.orchestration.task_groups import task_runs
from flows.outcome import read_outcome
from flows.planning import receipts
from flows.planning.commit import commit_plan
from flows.planning.plan import Job
from flows.planning.sources import digest_of_sources
from flows.planning.stage_selection import Scope
from flows.planning.stages import ALL, SHARD_STAGES, STAGE
from flows.timing import BUSY
from pipeline.config import RunConfig, load_config
from pipeline.packed_masks import PackedMasks
from pipeline.types import (
    QUALITY_FIGURES,
    Augmentation,
    Boxes,
    Expression,
    FrameQuality,
    Positive,
    Provenance,
    PseudoMask,
    Receipt,
    SampleKey,
    VideoRef,
    VideoSources,
)
from storage.arrays.masks import MaskStore
from storage.files.checksums import product_digest
from storage.run.ledger import Ledger
from storage.run.lock import RunLock
from storage.tables import GroundWriter, write_augmentations, write_quality

FRAMES, EXPRESSIONS, SIZE = 4, 2, (18, 32)
STEPS = (
    "first plan",
    "execute",
    "nothing to do",
    "one in ten lost",
    "what came of it",
    "merge",
    "evaluate",
    "report",
    "digest",
)

PLANNING = ("first plan", "receipts", "nothing to do", "one in ten lost")

HELD_TO_MB = {"first plan": 1000.0, "nothing to do": 1000.0, "one in ten lost": 1000.0}
HELD_TO_GROWTH = 15.0
"""Ten times the videos may take so many times the seconds of planning."""


class Reader:
    """A data set of many videos that are all read from the same file."""

    name, split, in_order = "refytvos", "train", False

    def __init__(self, videos: int, place: Path) -> None:
        self._videos, self._place = videos, place

    def video_ids(self) -> list[str]:
        return [f"{number:010x}" for number in range(self._videos)]

    def video(self, video_id: str) -> VideoRef:
        names = tuple(f"{frame:05d}" for frame in range(FRAMES))
        return VideoRef(video_id, names, (self._place,) * FRAMES, *SIZE)

    def expressions(self, video_id: str) -> list[Expression]:
        return [
            Expression(
                SampleKey(self.name, self.split, video_id, str(row)),
                f"the animal number {video_id} on the left that runs away {row}",
            )
            for row in range(EXPRESSIONS)
        ]

    def sources(self, video_id: str) -> VideoSources:
        return VideoSources((), (self._place,), (self._place,))

    def frame(self, *_: Any) -> Any:
        return np.zeros((*SIZE, 3), np.uint8)

    def truth(self, *_: Any) -> None:
        return None

    void = boxes = truth


def fake_work(job: Job, context: RunContext, outcome: receipts.Outcome) -> None:
    """Writes the product of a stage on a shard, as far as later steps look into it."""
    place = context.paths.part(job.stage, job.shard.name)
    reader, videos = context.reader(), job.shard.videos
    outcome.counts["videos"] = len(videos)
    if job.stage == "augment":
        items = [_augmentation(item) for video in videos for item in reader.expressions(video)]
        write_augmentations(place, items)
    elif job.stage == "ground":
        with GroundWriter(place) as writer:
            for video in videos:
                writer.write_video(video, ["a"], [_one_box()] * FRAMES)
    elif job.stage == "rank":
        rows = (row for video in videos for row in _quality(video))
        write_quality(place, rows)
        for video in videos:
            _link_masks(context, video)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def _augmentation(item: Expression) -> Augmentation:
    positive = Positive(item.text, 1.0, 1.0)
    return Augmentation(item.key, (positive,), (), Provenance("fake", "1", "1", 0))


def _one_box() -> Boxes:
    zero = np.zeros(1, np.int32)
    return Boxes(np.array([[1, 1, 9, 9]], np.float32), np.ones(1, np.float32), zero, zero)


def _quality(video: str) -> list[FrameQuality]:
    values = dict.fromkeys(QUALITY_FIGURES, 0.5)
    return [
        FrameQuality(video, str(row), frame, f"{frame:05d}", **values, status=1, reason="")
        for row in range(EXPRESSIONS)
        for frame in range(FRAMES)
    ]


def _link_masks(context: RunContext, video: str) -> None:
    """Links a video of the mask store to masks that all videos share."""
    store = MaskStore(context.paths.masks)
    template = context.paths.folder.parent / "template"
    if not template.exists():
        shared = MaskStore(template)
        ref, masks = context.reader().video(video), []
        for item in context.reader().expressions(video):
            mask = np.zeros((FRAMES, *SIZE), np.bool_)
            mask[:, 2:8, 3:9] = True
            weight, status = np.ones(FRAMES, np.float32), np.ones(FRAMES, np.uint8)
            masks.append(PseudoMask(item.key, PackedMasks.of(mask), weight, status, ""))
        shared.write_video(ref, ["a sentence"] * EXPRESSIONS, masks)
        template.joinpath(video).rename(template / "masks of all")
        store.ensure_root()
    store.place(video).unlink(missing_ok=True)
    store.place(video).symlink_to(template / "masks of all")


def marks_of_real_runs(paths: Any, stage: Any, shard: str, videos: Sequence[str]) -> dict[str, str]:
    """Returns as many marks as the receipt of a real run has."""
    mark = f"12345 {0:032x}"
    count = FILES.get(stage.name, 1)
    if count == 1:
        return {f"{stage.name}/{shard}": mark}
    names = [f"{stage.name}/{shard}.zarr/{v}/0/predicted_iou/c" for v in videos]
    return {f"{name}/{number}/0": mark for name in names for number in range(count)}


def context_of(folder: Path, videos: int, shard_videos: int) -> RunContext:
    """Returns the context of a fake run."""
    words = ["dataset.name=refytvos", f'out="{folder}"', "student.enabled=false", "device=cpu"]
    words += ["augment.source=lexicon", f"shard_videos={shard_videos}", "report.samples=4"]
    config: RunConfig = load_config(None, words)
    weights = folder / "weights.bin"
    if not weights.exists():
        weights.write_bytes(b"frames and weights of a fake run")
    context = RunContext(config, Parts(checkpoint_files=lambda name: [weights]))
    context._readers["train"] = Reader(videos, weights)
    return context


def do_step(name: str, context: RunContext) -> dict[str, Any]:
    """Does a step. Returns figures beside its time and memory."""
    if name == "execute":
        return _execute(context)
    if name == "receipts":
        return _write_receipts(context)
    if name == "one in ten lost":
        return _plan_with_losses(context)
    if name == "what came of it":
        return {"samples": read_outcome(context.config).count}
    if name == "digest":
        return {"digest": content_digest(context.paths.folder)}
    plan = context.make_plan()
    if name in ("merge", "evaluate", "report"):
        context.plan = plan
        with RunLock(context.paths.folder):
            do_job(plan.job(name, ALL), context)
        size = context.paths.report.stat().st_size if name == "report" else 0
        return {"bytes": size}
    return {"due": len(plan.pending()), "task runs": task_runs(plan)}


def use_fake_stages() -> None:
    """Puts the fake stages in the place of the real ones, in this process."""
    setattr(receipts, "marks_of", marks_of_real_runs)  # noqa: B010
    for stage in SHARD_STAGES:
        module = ModuleType(f"flows.labelling.{stage}")
        module.run = fake_work  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module


def _execute(context: RunContext) -> dict[str, Any]:
    use_fake_stages()
    scope = Scope(SHARD_STAGES)
    with RunLock(context.paths.folder):
        context.plan = plan = context.make_plan(scope=scope)
        commit_plan(context.config, plan, ())
        execute(context, InProcess(context))
    return {"shards": len(plan.shards)}


def _write_receipts(context: RunContext) -> dict[str, Any]:
    """Writes the receipts of all stages on all shards without any work, and empty products."""
    plan = context.make_plan()
    with RunLock(context.paths.folder):
        commit_plan(context.config, plan, ())
        ledger, digests = Ledger(context.paths.folder), cache(context.source_digests().of_shard)
        products: dict[tuple[str, str], str] = {}
        for job in (job for stage in SHARD_STAGES for job in plan.jobs[stage]):
            shard, stage = job.shard, STAGE[job.stage]
            place = context.paths.part(job.stage, shard.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
            files = marks_of_real_runs(context.paths, stage, shard.name, shard.videos)
            products[job.stage, shard.name] = product = product_digest(files)
            made_from = {name: products[name, shard.name] for name in stage.reads}
            for kind in stage.looks_at(context.config):
                made_from[kind] = digest_of_sources(digests, [shard], kind)
            receipt = Receipt(
                job.stage,
                shard.name,
                job.fingerprint,
                shard.videos,
                counts={"videos": float(len(shard.videos)), "frames": 1.0, BUSY: 1.0},
                seconds=1.0,
                basis=dict(job.basis),
                made_from=made_from,
                files=files,
                product=product,
            )
            ledger.commit(receipt)
    return {"shards": len(plan.shards)}


def _plan_with_losses(context: RunContext) -> dict[str, Any]:
    """Plans after one shard in ten has lost its masks, and puts them back."""
    ledger = Ledger(context.paths.folder)
    lost = [path for number, path in enumerate(ledger.receipt_paths("rank")) if number % 10 == 0]
    for path in lost:
        path.rename(path.with_suffix(".lost"))
    try:
        return {"due": len(context.make_plan().pending("rank"))}
    finally:
        for path in lost:
            path.with_suffix(".lost").rename(path)


def objects_in(folder: Path) -> int:
    """Returns the number of files, folders and links below a folder."""
    return sum(len(folders) + len(names) for _, folders, names in os.walk(folder))


def measured(name: str, folder: Path, videos: int, shard_videos: int) -> dict[str, Any]:
    """Does a step in a process of its own. Returns seconds, megabytes, and what the step says."""
    words = [str(folder), str(videos), str(shard_videos), name]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "step", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"step": name, "seconds": time.perf_counter() - start, **found}


app = typer.Typer(add_completion=False)


@app.command(hidden=True)
def step(folder: Path, videos: int, shard_videos: int, name: str) -> None:
    context = context_of(folder, videos, shard_videos)
    start = time.process_time()
    found = do_step(name, context)
    used = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": used, "megabytes": peak, **found}))


@app.command()
def table(
    videos: Annotated[
        list[int] | None, typer.Option(min=1, help="Videos; can be repeated.")
    ] = None,
    shard_videos: Annotated[int, typer.Option(min=1, help="Videos of a shard.")] = 4,
    folder: Annotated[Path | None, typer.Option(help="For temporary files.")] = None,
    planning: Annotated[
        bool, typer.Option("--planning", help="Planning alone, over receipts without products.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    rows: list[dict[str, Any]] = []
    for count in videos or [1000, 10_000]:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for name in PLANNING if planning else STEPS:
                row = {"videos": count, **measured(name, Path(place), count, shard_videos)}
                rows.append(row)
                if not as_json:
                    _print_row(row)
            objects = objects_in(Path(place))
            shutil.rmtree(place)
            Path(place).mkdir()
        if not as_json:
            print(f"{count:9} objects on disk: {objects}")
    if as_json:
        print(json.dumps(rows, indent=2))
    if not _is_held(rows):
        raise typer.Exit(1)


def _print_row(row: dict[str, Any]) -> None:
    said = {name: row[name] for name in row.keys() - {"videos", "step", "cpu", "megabytes"}}
    said["seconds"] = round(said["seconds"], 1)
    print(
        f"{row['videos']:9} {row['step']:16} {row['cpu']:8.2f} s of CPU {row['megabytes']:7.0f} MB"
        f"  {said}",
        flush=True,
    )


def _grows_linearly(few: dict[str, Any], many: dict[str, Any]) -> bool:
    ratio = many["videos"] / few["videos"]
    return bool(many["cpu"] <= HELD_TO_GROWTH / 10 * ratio * few["cpu"] + 1)


def _is_held(rows: list[dict[str, Any]]) -> bool:
    steps: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        steps.setdefault(row["step"], []).append(row)
    held = all(row["megabytes"] <= HELD_TO_MB.get(row["step"], np.inf) for row in rows)
    for name in HELD_TO_MB:
        held &= all(map(_grows_linearly, steps[name], steps[name][1:]))
    return held


if __name__ == "__main__":
    app()
