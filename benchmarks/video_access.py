"""How fast clips come out of video files, beside the same frames unpacked to JPEGs.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.video_access [--json]

Both sides are the reader of ``videos`` in this process, over the same frames, in turns: clips of
consecutive frames at random places, as a student reads them, and all frames in order, as the stages
do. The files are H.264 with a key frame every ``--keys`` frames. Rates count CPU time.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer
from PIL import Image

from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex, VideoRef
from storage.datasets import open_dataset

_QUALITY = 92


@dataclass(frozen=True)
class Row:
    """One way of reading.

    Attributes:
        files, jpegs: frames a second of CPU time.
        ratio: median of files divided by jpegs, of one pass each.
        lowest, highest: of that ratio over the passes.
    """

    name: str
    files: float
    jpegs: float
    ratio: float
    lowest: float
    highest: float


def write_both(root: Path, videos: int, frames: int, size: tuple[int, int], keys: int) -> None:
    """Writes the same videos as files and as folders of JPEGs, each with its table."""
    for name in ("files", "jpegs"):
        (root / name).mkdir()
        rows = [f"v{number},something" for number in range(videos)]
        table = root / name / "expressions.csv"
        table.write_text("\n".join(["video,text", *rows]), encoding="utf-8")
    for number in range(videos):
        folder = root / "jpegs" / f"v{number}"
        folder.mkdir()
        noise = np.random.default_rng(number).integers(0, 60, (*size, 3), np.uint8)
        with av.open(str(root / "files" / f"v{number}.mp4"), "w") as file:
            stream: Any = file.add_stream("libx264", rate=25, options={"g": str(keys)})
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for index in range(frames):
                image = np.roll(noise, (2 * index, 3 * index), (0, 1))
                image[:60, index : index + 60] = (200, 40, 40)
                Image.fromarray(image).save(folder / f"{index:05d}.jpg", quality=_QUALITY)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(stream.encode())


def clips_at_random(
    reader: DatasetReader, videos: Sequence[VideoRef], clips: int, length: int, seed: int
) -> int:
    """Reads clips of consecutive frames; returns the number of frames."""
    chance = random.Random(seed)
    for _ in range(clips):
        video = chance.choice(videos)
        first = chance.randrange(len(video) - length + 1)
        for index in range(first, first + length):
            reader.frame(video, FrameIndex(index))
    return clips * length


def all_in_order(reader: DatasetReader, videos: Sequence[VideoRef]) -> int:
    """Reads every frame; returns their number."""
    for video in videos:
        for index in range(len(video)):
            reader.frame(video, FrameIndex(index))
    return sum(map(len, videos))


def measure(root: Path, passes: int, clips: int, length: int) -> list[Row]:
    """A row a way of reading."""
    readers = {name: open_dataset("videos", root / name, "train") for name in ("files", "jpegs")}
    videos = {
        name: [reader.video(video) for video in reader.video_ids()]
        for name, reader in readers.items()
    }
    ways: dict[str, Callable[[str, int], int]] = {
        f"clips of {length} frames at random": lambda name, turn: clips_at_random(
            readers[name], videos[name], clips, length, turn
        ),
        "all frames in order": lambda name, turn: all_in_order(readers[name], videos[name]),
    }
    rows = []
    for what, read in ways.items():
        rates: dict[str, list[float]] = {"files": [], "jpegs": []}
        for turn in range(passes):
            for name in rates:
                start = time.process_time()
                rates[name].append(read(name, turn) / (time.process_time() - start))
        ratios = [file / jpeg for file, jpeg in zip(rates["files"], rates["jpegs"], strict=True)]
        files, jpegs, middle = map(statistics.median, (rates["files"], rates["jpegs"], ratios))
        rows.append(Row(what, files, jpegs, middle, min(ratios), max(ratios)))
    return rows


def main(
    videos: Annotated[int, typer.Option(min=1)] = 8,
    frames: Annotated[int, typer.Option(min=8)] = 120,
    height: Annotated[int, typer.Option(min=64)] = 360,
    keys: Annotated[int, typer.Option(min=1, help="frames from a key frame to the next")] = 30,
    clips: Annotated[int, typer.Option(min=1, help="of a pass")] = 40,
    length: Annotated[int, typer.Option(min=1, help="frames of a clip")] = 3,
    passes: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        size = height, height * 16 // 9 // 2 * 2
        write_both(Path(folder), videos, frames, size, keys)
        rows = measure(Path(folder), passes, clips, length)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{videos} videos of {frames} frames, {size[0]} x {size[1]}, a key frame every {keys}")
    for row in rows:
        print(
            f"  {row.name}: {row.files:.0f} frames/s from files, {row.jpegs:.0f} from JPEGs;"
            f" {row.ratio:.2f} times as fast ({row.lowest:.2f} to {row.highest:.2f})"
        )


if __name__ == "__main__":
    typer.run(main)
