"""Peak host memory of stage ``track`` alone, for a short and a long video, for every tracker.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.track_memory [--json]

The boxes and candidates of two squares that move are written first; then a process of its own does
`track` on them. ``association`` has no model. ``sam2`` and ``sam3`` are a tiny random SAM 2.1 and
SAM 3: their masks mean nothing, and what is kept of frames is as of large ones. Ends with 1 where
the long video needs more than a tenth more.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.data.videos import write_videos
from benchmarks.memory import tell
from flows.context import RunContext
from flows.planning.receipts import Outcome
from pipeline.config import RunConfig, load_config
from pipeline.types import Augmentation, Boxes, Candidates, Positive, Provenance, SampleKey
from stages.common.mask_resolution import low_resolution_size
from storage.arrays.candidates import CandidateWriter
from storage.tables import GroundWriter, write_augmentations

TRACKERS = ("association", "sam2", "sam3")
TEXTS = ("the red square", "the blue square")
_SOURCES = {"sam2": "model", "sam3": "sam3"}
SIDE = 40
"""Pixels of a square."""


@dataclass(frozen=True)
class Row:
    """What `track` took for one video."""

    tracker: str
    frames: int
    megabytes: float

    def __str__(self) -> str:
        return f"track, {self.tracker}, {self.frames:3} frames"


def config_of(folder: Path, tracker: str) -> RunConfig:
    words = ["dataset.name=refytvos", f'dataset.root="{folder / "data"}"', "device=cpu"]
    words += [f'out="{folder / "runs"}"', "student.enabled=false"]
    if tracker in _SOURCES:
        words += [f"track.source={_SOURCES[tracker]}", f'track.checkpoint="{folder / tracker}"']
        words += ["track.objects=2"]
    return load_config(None, words)


def write_inputs(folder: Path, frames: int, size: tuple[int, int], tracker: str) -> None:
    """Writes a video, and what `ground` and `segment` would have made of it."""
    write_videos(folder / "data", 1, frames, len(TEXTS), *size)
    if tracker in _SOURCES:
        from benchmarks.data.video_models import write_sam2, write_sam3

        {"sam2": write_sam2, "sam3": write_sam3}[tracker](folder / tracker)
    context = RunContext(config_of(folder, tracker))
    paths, video = context.paths, context.reader().video_ids()[0]
    for stage in ("ground", "segment", "track"):
        (paths.folder / stage).mkdir(parents=True, exist_ok=True)
    said = [_said(SampleKey("refytvos", "train", video, str(row))) for row in range(len(TEXTS))]
    write_augmentations(paths.part("augment", "00000"), said)
    with CandidateWriter(paths.part("segment", "00000"), "made") as store:
        stream = store.start_video(video)
        boxes = []
        for frame in range(frames):
            mine, found = _frame(frame, size)
            boxes.append(mine)
            stream.append([found])
        stream.finish()
    with GroundWriter(paths.part("ground", "00000")) as table:
        table.write_video(video, TEXTS, boxes)


def _said(key: SampleKey) -> Augmentation:
    text = Positive(TEXTS[int(key.expression)], 1.0)
    return Augmentation(key, (text,), (), Provenance("none", "", "", 0))


def _frame(frame: int, size: tuple[int, int]) -> tuple[Boxes, Candidates]:
    height, width = size
    rows, columns = low_resolution_size(height, width, 256)
    way = width - SIDE
    xyxy, logits = [], np.full((2, rows, columns), -4, np.float16)
    for row in range(2):
        turn = (4 * frame + row * way) % (2 * way)
        x, y = min(turn, 2 * way - turn), (1 + 2 * row) * height // 4 - SIDE // 2
        xyxy.append([x, y, x + SIDE, y + SIDE])
        low, high = x * columns // width, (x + SIDE) * columns // width
        logits[row, y * rows // height : (y + SIDE) * rows // height, low:high] = 4
    ones, text = np.full(2, 0.9, np.float32), np.arange(2, dtype=np.int32)
    boxes = Boxes(np.array(xyxy, np.float32), ones, text, np.zeros(2, np.int32))
    return boxes, Candidates(logits, ones, ones, text)


def do_track(folder: Path, tracker: str) -> float:
    """Does the stage in this process; returns its largest resident set in MB."""
    from flows.labelling import track

    context = RunContext(config_of(folder, tracker))
    plan = context.make_plan(remember=False)
    outcome = Outcome()
    track.run(plan.job("track", "00000"), context, outcome)
    if outcome.skipped or not outcome.counts["tracks"]:
        raise SystemExit(f"track: {outcome.skipped or 'no tracks'}; expected two squares")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak(tracker: str, frames: int, size: tuple[int, int]) -> Row:
    """Returns the peak of the stage, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), frames, size, tracker)
        code = "import sys; from pathlib import Path; from benchmarks.track_memory import do_track"
        code += "; print(do_track(Path(sys.argv[1]), sys.argv[2]))"
        command = [sys.executable, "-c", code, name, tracker]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"track ended with {done.returncode}")
    return Row(tracker, frames, float(done.stdout.split()[-1]))


def peaks(short: int, long: int, size: tuple[int, int]) -> dict[str, list[Row]]:
    """Returns, for every tracker, the peaks for a short and a long video."""
    return {
        f"track, {tracker}": [peak(tracker, frames, size) for frames in (short, long)]
        for tracker in TRACKERS
    }


def main(
    short: Annotated[int, typer.Option(min=1, help="frames of a short video")] = 50,
    long: Annotated[int, typer.Option(min=1, help="frames of a long video")] = 500,
    height: Annotated[int, typer.Option(min=96, help="of a frame")] = 144,
    width: Annotated[int, typer.Option(min=96, help="of a frame")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    tell(peaks(short, long, (height, width)), as_json)


if __name__ == "__main__":
    typer.run(main)
