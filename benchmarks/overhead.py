"""The share of a run's time that goes to the code around the models, at full model size on a CPU.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.overhead [--videos 2] [--frames 4] [--json]

One run of the real flow, from `augment` to `rank`, with Prefect and its server, over a few videos
of 360 x 640; ViT-B and Swin-T in full size with random weights, which find as many boxes as trained
ones, but often the same for all sentences, so that few masks are decoded and written. The models
are built, and the libraries and the server started, before the clock starts: that is paid once, not
by the video. The clock is wall-clock time and stops when `run` returns. Model time is what `ground`
and `segment` spend between being handed a batch of frames and giving back its boxes or masks; all
else is ours: decoding that is waited for, queues, fuse, rank, writes, the ledger, planning and
Prefect. Ends with 1 above what is held to.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.data.videos import write_videos
from benchmarks.throughput import dino_of, sam_of
from flows.commands.run import run_all
from flows.context import Parts
from flows.orchestration.servers import server
from flows.planning.stage_selection import scope_of
from flows.timing import BUSY, FRAMES, WRITES
from pipeline.config import GroundConfig, RunConfig, load_config
from pipeline.types import Receipt
from stages.ground.grounder import GroundingDinoGrounder
from stages.ground.grounder import prepare as prepare_dino
from stages.segment.segmenter import SamSegmenter, prepare
from storage.run.ledger import Ledger

HELD_TO = 0.05
STAGES = ("augment", "ground", "segment", "track", "fuse", "rank")
MODELS = ("ground", "segment")


def parts_of(config: RunConfig, demo: bool, weights: Path) -> Parts:
    """The stages' ways in, with models that are built already.

    Args:
        weights: a file whose digest stands for every checkpoint.
    """
    if demo:
        return Parts()
    dino = prepare_dino(dino_of(False, config.ground), config.ground)
    sam = prepare(sam_of(False, "vit_b"), config.segment, torch.device("cpu"))
    return Parts(
        grounder=lambda chosen, device: GroundingDinoGrounder(dino, chosen.ground),
        segmenter=lambda chosen, device: SamSegmenter(sam, chosen.segment),
        checkpoint_files=lambda checkpoint: [weights],
    )


def config_of(folder: Path, demo: bool, short_side: int) -> RunConfig:
    options = [
        "dataset.name=refytvos",
        f'dataset.root="{folder / "data"}"',
        f'out="{folder / "runs"}"',
        "student.enabled=false",
        "device=cpu",
        "shard_videos=2",
        "augment.negatives=4",
    ]
    if not demo:
        sides = GroundConfig(short_side=short_side, long_side=round(short_side * 1333 / 800))
        options += [
            "ground.backbone=swin_T_224_1k",
            f"ground.short_side={sides.short_side}",
            f"ground.long_side={sides.long_side}",
            "ground.batch_pairs=1",
            "segment.model=vit_b",
            "segment.batch_frames=2",
            "ground.batch_frames=2",
        ]
    return load_config(None, options)


def measure(
    videos: int = 2,
    frames: int = 4,
    expressions: int = 4,
    demo: bool = False,
    short_side: int = 800,
) -> dict[str, Any]:
    """Seconds of one run, by where they went."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder / "data", videos, frames, expressions, 360, 640)
        config = config_of(folder, demo, short_side)
        weights = folder / "weights.bin"
        weights.write_bytes(b"random")
        parts = parts_of(config, demo, weights)
        before = dict(os.environ)
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        os.environ.pop("PREFECT_API_URL", None)
        server.quiet(os.environ)
        try:
            os.environ["PREFECT_API_URL"] = server.ensure()
            import flows.orchestration.labelling_flow  # noqa: F401

            start = time.perf_counter()
            run_all(config, Console(stderr=True), parts=parts, scope=scope_of(config, None, "rank"))
            whole = time.perf_counter() - start
        finally:
            server.stop()
            os.environ.clear()
            os.environ.update(before)
        ledger = Ledger(config.run_folder)
        receipts = {stage: list(ledger.receipts(stage)) for stage in STAGES}
    return _account(whole, receipts)


def _account(whole: float, receipts: dict[str, list[Receipt]]) -> dict[str, Any]:
    def total(kind: str, stages: tuple[str, ...] = STAGES) -> float:
        return sum(item.counts[kind] for stage in stages for item in receipts[stage])

    inside = sum(item.seconds for found in receipts.values() for item in found)
    models, work = total(BUSY, MODELS), total(BUSY) - total(BUSY, MODELS)
    waits = {"waiting for frames": total(FRAMES), "waiting for writes": total(WRITES)}
    seconds = {
        "models": models,
        **waits,
        "augment, track, fuse and rank": work,
        "reading, opening and committing products": inside - models - work - sum(waits.values()),
        "planning and Prefect": whole - inside,
    }
    return {
        "seconds": whole,
        "share_around_the_models": 1 - models / whole,
        "frames": {stage: total_frames(receipts[stage]) for stage in STAGES},
        "parts": seconds,
    }


def total_frames(receipts: list[Receipt]) -> int:
    return int(sum(item.counts.get("frames", 0) for item in receipts))


def main(
    videos: Annotated[int, typer.Option(min=1)] = 2,
    frames: Annotated[int, typer.Option(min=1, help="of a video")] = 4,
    expressions: Annotated[int, typer.Option(min=1, help="of a video")] = 4,
    demo: Annotated[bool, typer.Option("--demo", help="the shipped small models")] = False,
    short_side: Annotated[int, typer.Option(min=64, help="of Swin-T's input, pixels")] = 800,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    found = measure(videos, frames, expressions, demo, short_side)
    share = found["share_around_the_models"]
    if as_json:
        about = {"videos": videos, "frames_a_video": frames, "expressions": expressions}
        models = "demo" if demo else f"vit_b and Swin-T at {short_side} pixels, random weights"
        about_models = {"models": models, "threads": torch.get_num_threads()}
        typer.echo(json.dumps(about | about_models | found, indent=2))
    else:
        print(f"{found['seconds']:.1f} s in all; {share:.1%} around the models")
        for name, seconds in found["parts"].items():
            print(f"  {name:42} {seconds:8.2f} s  {seconds / found['seconds']:6.1%}")
    if not demo and share > HELD_TO:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
