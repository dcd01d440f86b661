"""How long `fuse` and `rank` take from stored candidates, at the size of Ref-YouTube-VOS.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.refuse [--videos 8] [--profile] [--json]

Writes what `augment`, `ground` and `segment` leave of a few videos: 27 frames of 360 x 640, 4
expressions with 6 positives and 48 negatives each, three boxes a sentence about four objects, near
boxes sharing a mask of 144 x 256 cells. Then does the shards of `fuse` and `rank` as a run
does them, and scales to 3,500 videos on two processes, for shards do not depend on each other. The
clock is CPU time. Ends with 1 where that is more than is held to.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.data.videos import write_videos
from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.planning.plan import Job
from flows.planning.shards import Shard
from pipeline.config import RunConfig, load_config
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Negative,
    Positive,
    Provenance,
    SampleKey,
)
from stages.segment.segmenter import merge_boxes
from storage.arrays.candidates import CandidateWriter
from storage.tables import GroundWriter, write_augmentations

FRAMES, EXPRESSIONS, POSITIVES, NEGATIVES, OBJECTS = 27, 4, 6, 48, 4
HEIGHT, WIDTH, ROWS, COLUMNS = 360, 640, 144, 256
VIDEOS, PROCESSES = 3500, 2
HELD_TO_MINUTES = 30.0


def augmentations_of(video: str) -> list[Augmentation]:
    return [
        Augmentation(
            SampleKey("refytvos", "train", video, str(row)),
            tuple(Positive(f"positive {k} of {row}", 1 - 0.05 * k, 0.9) for k in range(POSITIVES)),
            tuple(Negative(f"negative {k} of {row}", None) for k in range(NEGATIVES)),
            Provenance("synthetic", "", "", 0),
        )
        for row in range(EXPRESSIONS)
    ]


def frames_of(
    mine: list[Augmentation], rng: np.random.Generator
) -> Iterator[tuple[Boxes, Candidates]]:
    """A frame's boxes and masks; objects move, a positive takes its own, a negative any."""
    start = rng.uniform(0.05, 0.5, (OBJECTS, 2)) * (WIDTH, HEIGHT)
    speed, size = rng.normal(0, 4, (OBJECTS, 2)), rng.uniform(0.15, 0.35, (OBJECTS, 2))
    sentences = [
        row % OBJECTS if place < POSITIVES else int(rng.integers(OBJECTS))
        for row in range(len(mine))
        for place in range(POSITIVES + NEGATIVES)
    ]
    y, x = np.mgrid[0:ROWS, 0:COLUMNS] * (HEIGHT / ROWS)
    for time_ in range(FRAMES):
        low = np.clip(start + speed * time_, 0, (WIDTH * 0.6, HEIGHT * 0.6))
        extent = size * (WIDTH, HEIGHT)
        order = np.array([(first + rank) % OBJECTS for first in sentences for rank in range(3)])
        off = rng.normal(0, 0.01, (len(order), 4)) * np.tile(extent[order], 2)
        xyxy = np.concatenate([low[order], low[order] + extent[order]], 1) + off
        xyxy = np.clip(xyxy, 0, [WIDTH, HEIGHT] * 2).astype(np.float32)
        text = np.repeat(np.arange(len(sentences), dtype=np.int32), 3)
        rank = np.tile(np.arange(3, dtype=np.int32), len(sentences))
        score = (0.8 - 0.2 * rank + rng.normal(0, 0.03, len(rank))).clip(0, 1).astype(np.float32)
        kept, row = merge_boxes(xyxy, 0.95)
        logits = np.stack([_mask(box, x, y) for box in xyxy[kept]])
        ones = np.full(len(kept), 0.9, np.float32)
        yield Boxes(xyxy, score, text, rank), Candidates(logits, ones, ones, row)


def _mask(
    box: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float16]:
    """Logits of an ellipse in a box."""
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1)
    distance = np.hypot((x - centre[0]) / radius[0], (y - centre[1]) / radius[1])
    logits: NDArray[np.float16] = np.clip(12 * (1 - distance), -32, 32).astype(np.float16)
    return logits


def write_inputs(context: RunContext, shard: Shard) -> None:
    """What the stages before leave of a shard."""
    paths = context.paths
    written = {video: augmentations_of(video) for video in shard.videos}
    write_augmentations(
        paths.part("augment", shard.name), [item for mine in written.values() for item in mine]
    )
    with (
        GroundWriter(paths.part("ground", shard.name)) as ground,
        CandidateWriter(paths.part("segment", shard.name), "synthetic") as segment,
    ):
        for number, (video, mine) in enumerate(written.items()):
            found = list(frames_of(mine, np.random.default_rng(number)))
            texts = [item.text for each in mine for item in each.positives]
            texts += [item.text for each in mine for item in each.negatives]
            ground.write_video(video, texts, [boxes for boxes, _ in found])
            segment.write_video(video, [candidates for _, candidates in found])


def config_of(folder: Path) -> RunConfig:
    options = ["dataset.name=refytvos", f'dataset.root="{folder / "data"}"']
    return load_config(None, [*options, f'out="{folder / "runs"}"', "student.enabled=false"])


def measure(videos: int = 8, profile: bool = False) -> dict[str, Any]:
    """CPU seconds of each stage, and what they come to for the whole data set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder / "data", videos, FRAMES, EXPRESSIONS, HEIGHT, WIDTH)
        context = RunContext(config_of(folder))
        ids = list(context.reader().video_ids())
        shards = [Shard(f"{at:05d}", tuple(ids[at : at + 4])) for at in range(0, videos, 4)]
        for shard in shards:
            write_inputs(context, shard)
        import stages.fuse
        import stages.rank
        import stages.track  # noqa: F401

        profiler = cProfile.Profile()
        seconds = {}
        for stage in ("track", "fuse", "rank"):
            start = time.process_time()
            if profile:
                profiler.enable()
            for shard in shards:
                do_job(Job(stage, shard, stage), context)
            profiler.disable()
            seconds[stage] = (time.process_time() - start) / videos
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    minutes = sum(seconds.values()) * VIDEOS / PROCESSES / 60
    return {"videos": videos, "seconds_a_video": seconds, "minutes": minutes}


def main(
    videos: Annotated[int, typer.Option(min=1, help="that are measured")] = 8,
    profile: Annotated[bool, typer.Option("--profile", help="where the time goes")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    found = measure(videos, profile)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        for stage, seconds in found["seconds_a_video"].items():
            print(f"  {stage}: {seconds:.3f} s of CPU a video of {FRAMES} frames")
        print(
            f"{VIDEOS} videos x {EXPRESSIONS} expressions x {FRAMES} frames x {POSITIVES}"
            f" positives on {PROCESSES} cores: {found['minutes']:.1f} minutes, scaled from"
            f" {videos} videos"
        )
    if found["minutes"] > HELD_TO_MINUTES:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
