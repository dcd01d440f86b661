"""Seconds and memory that it takes to see that a finished run has nothing to do.

Writes a data set in the layout of Ref-YouTube-VOS (its index alone: 3,500 videos of 27 frames with
four expressions) and the receipts and products of a finished run, each as large as a real one's
list of files, into a temporary folder. Then asks `run --dry-run` and `run` what is left, each in a
process of its own. Prints seconds and peak memory; ends with 1 above what is held to.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from flows.context import RunContext
from flows.planning.commit import commit_plan
from flows.planning.products import joined
from flows.planning.run_paths import RunPaths
from flows.planning.sources import digest_of_sources
from flows.planning.stages import ALL, SHARD_STAGES, STAGE
from pipeline.config import RunConfig, load_config
from pipeline.types import QUALITY_FIGURES, FrameQuality, Receipt
from storage.files.checksums import product_digest
from storage.run.ledger import Ledger
from storage.tables import write_quality

HELD_TO_SECONDS, HELD_TO_MB = 5.0, 500.0
FRAMES, EXPRESSIONS = 27, 4

FILES = {
    "augment": 1,
    "ground": 1,
    "segment": 27,
    "track": 1,
    "fuse": 1 + EXPRESSIONS * 22,
    "rank": 6 + EXPRESSIONS,
}
"""Stage -> files a video; of the tables, files a shard."""


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: from its start to its end, with the interpreter's own start.
        cpu_seconds: of it and of the system on its behalf; what is left where others keep the
            machine busy.
        megabytes: its largest resident set.
    """

    seconds: float
    cpu_seconds: float
    megabytes: float


def write_dataset(root: Path, videos: int) -> None:
    """The index of the data set, and a file for every frame that planning looks at."""
    index = {
        f"{number:010x}": {
            "expressions": {
                str(row): {"exp": f"the animal on the left that runs {number} {row}", "obj_id": "1"}
                for row in range(EXPRESSIONS)
            },
            "frames": [f"{5 * frame:05d}" for frame in range(FRAMES)],
        }
        for number in range(videos)
    }
    folder = root / "meta_expressions" / "train"
    folder.mkdir(parents=True)
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": index}))
    for name, entry in index.items():
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            place = root / "train" / kind / name
            place.mkdir(parents=True)
            for frame in entry["frames"]:
                (place / f"{frame}.{suffix}").touch()


def write_run(config: RunConfig) -> None:
    """Receipts of all stages on all shards, and as much of the products as planning looks at."""
    context = RunContext(config)
    plan = context.make_plan()
    commit_plan(config, plan, ())
    ledger, paths = Ledger(config.run_folder), RunPaths(config.run_folder)
    sources = cache(context.source_digests().of_shard)
    products: dict[str, dict[str, str]] = {}
    for stage, jobs in plan.jobs.items():
        for job in jobs:
            name, videos = job.shard.name, job.shard.videos
            product = STAGE[stage].product(paths, name)[0]
            _write_product(product, videos if product.suffix == ".zarr" else ())
            if stage == "rank":
                _write_product(paths.masks, videos)
                write_quality(product, _quality(videos))
            files = _files(stage, name, videos)
            made = product_digest(files)
            products.setdefault(stage, {})[name] = made
            receipt = Receipt(
                stage,
                name,
                job.fingerprint,
                videos,
                counts={"videos": float(len(videos)), "frames": float(FRAMES * len(videos))},
                seconds=1.0,
                basis=dict(job.basis),
                made_from={
                    item: joined(products[item])
                    if name == ALL and item in SHARD_STAGES
                    else products[item][name]
                    for item in STAGE[stage].reads
                    if item in products
                }
                | {
                    kind: digest_of_sources(
                        sources, plan.run_shards if name == ALL else [job.shard], kind
                    )
                    for kind in STAGE[stage].looks_at(config)
                },
                files=files,
                product=made,
            )
            ledger.commit(receipt)


def _write_product(path: Path, videos: tuple[str, ...]) -> None:
    """A product as deep as a run looks into it: a file, or a folder with one for each video."""
    if not videos:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for video in videos:
        (path / video / "logits").mkdir(parents=True)


def _quality(videos: tuple[str, ...]) -> Iterator[FrameQuality]:
    """A row for every frame of every expression, all with a mask."""
    for video in videos:
        for expression in range(EXPRESSIONS):
            for frame in range(FRAMES):
                values = dict.fromkeys(QUALITY_FIGURES, 0.5)
                yield FrameQuality(
                    video, str(expression), frame, f"{5 * frame:05d}", **values, status=1, reason=""
                )


def _files(stage: str, shard: str, videos: tuple[str, ...]) -> dict[str, str]:
    mark = f"12345 {0:032x}"
    if stage not in FILES or FILES[stage] == 1:
        return {f"{stage}/{shard}": mark}
    return {
        f"{stage}/{shard}.zarr/{video}/0/predicted_iou/c/{number}/0": mark
        for video in videos
        for number in range(FILES[stage])
    }


def cost(*words: str) -> tuple[Cost, str]:
    """What a command of ours takes in a process of its own, and what it prints."""
    code = (
        "import sys; from flows.commands.main import main;"
        " sys.argv = ['pseudolabels', *sys.argv[1:]]; main()"
    )
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    shown = child.stdout.read().strip()
    _, status, usage = _wait(child)
    if status != 0:
        raise SystemExit(f"{' '.join(words)} ended with {status}:\n{shown}")
    seconds = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu, usage.ru_maxrss / 1024), shown


def _wait(child: subprocess.Popen[str]) -> tuple[int, int, resource.struct_rusage]:
    pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return pid, child.returncode, usage


def main(
    videos: Annotated[int, typer.Option(min=1, help="Videos of the data set.")] = 3500,
    shard_videos: Annotated[int, typer.Option(min=1, help="Videos a shard.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "data", Path(folder) / "runs"
        write_dataset(root, videos)
        options = ["dataset.name=refytvos", f'dataset.root="{root}"', f'out="{out}"']
        options += [f"shard_videos={shard_videos}", "device=cpu"]
        config = load_config(None, options)
        write_run(config)
        size = sum(path.stat().st_size for path in out.rglob("ledger/*/*.json"))
        found = {}
        for name, words in (("dry run", ["run", "--dry-run"]), ("run", ["run"])):
            found[name], shown = cost(*words, *options)
            assert "everything is done" in shown.lower() or "is done" in shown, shown
    if as_json:
        rows = {name: vars(item) for name, item in found.items()}
        about = {"videos": videos, "expressions": EXPRESSIONS, "shard_videos": shard_videos}
        typer.echo(json.dumps(about | {"receipt_bytes": size} | rows, indent=2))
    else:
        print(
            f"{videos} videos x {EXPRESSIONS} expressions, {shard_videos} videos a shard;"
            f" receipts of {size / 1e6:.0f} MB"
        )
        for name, item in found.items():
            print(
                f"  {name:8} {item.seconds:6.2f} s  {item.cpu_seconds:6.2f} s of CPU"
                f"  {item.megabytes:6.0f} MB"
            )
    worst = found.values()
    if any(c.seconds > HELD_TO_SECONDS or c.megabytes > HELD_TO_MB for c in worst):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
