"""Peak host memory of a run, for short and long videos and for few and many.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.memory [--json]

`pseudolabels run --to-stage rank` in a process of its own, with the demo models on a CPU, over
rendered videos: as many videos of 50 and of 500 frames, and 8 and 80 videos of as many frames. The
figure is the largest resident set that the system noted for the process; Prefect's server is not
in it. Then the stage `track` alone, for every tracker (`benchmarks/track_memory.py`). Ends with 1
where the longer or the larger needs more than is held to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data.videos import write_videos

HELD_TO = 1.1
"""Largest ratio: ten times the frames, or ten times the videos, in at most a tenth more."""


@dataclass(frozen=True)
class Row:
    """One run: videos, frames of each, and its largest resident set."""

    videos: int
    frames: int
    megabytes: float

    def __str__(self) -> str:
        return f"{self.videos:3} videos of {self.frames:3} frames"


def peak(
    videos: int, frames: int, expressions: int, size: tuple[int, int], words: list[str]
) -> Row:
    """The peak of one run.

    Raises:
        SystemExit: the run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder / "data", videos, frames, expressions, *size)
        command = [
            *(sys.executable, "-c", "from flows.commands.main import main; main()", "run"),
            *("--dataset", "refytvos", "--root", str(folder / "data")),
            *("--out", str(folder / "runs"), "--device", "cpu", "--to-stage", "rank"),
            *("student.enabled=false", *words),
        ]
        environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect")}
        log = folder / "log"
        with log.open("w") as file:
            child = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        stop = "from flows import server; server.stop()"
        subprocess.run([sys.executable, "-c", stop], env=environment, check=False)
        if child.returncode:
            raise SystemExit(f"run ended with {child.returncode}:\n{log.read_text()[-3000:]}")
    return Row(videos, frames, usage.ru_maxrss / 1024)


def main(
    short: Annotated[int, typer.Option(min=1, help="frames of a short video")] = 50,
    long: Annotated[int, typer.Option(min=1, help="frames of a long video")] = 500,
    few: Annotated[int, typer.Option(min=1, help="videos")] = 8,
    many: Annotated[int, typer.Option(min=1, help="videos")] = 80,
    each: Annotated[int, typer.Option(min=1, help="frames of each of the few and many")] = 6,
    expressions: Annotated[int, typer.Option(min=1, help="of a video")] = 2,
    height: Annotated[int, typer.Option(min=16, help="of a frame")] = 144,
    width: Annotated[int, typer.Option(min=16, help="of a frame")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
    trackers: Annotated[bool, typer.Option(help="measure `track` alone, too")] = True,
    words: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...")] = None,
) -> None:
    pairs = {"frames": ((1, short), (1, long)), "videos": ((few, each), (many, each))}
    found: dict[str, list[Any]] = {
        name: [
            peak(videos, frames, expressions, (height, width), words or [])
            for videos, frames in pair
        ]
        for name, pair in pairs.items()
    }
    if trackers:
        # Here, for it imports this module.
        from benchmarks.track_memory import peaks

        found |= peaks(short, long, (height, width))
    tell(found, as_json)


def tell(found: Mapping[str, Sequence[Any]], as_json: bool) -> None:
    """Prints rows in pairs, the smaller first, and how much more memory the larger needs.

    Raises:
        typer.Exit: one of them needs more than is held to.
    """
    ratios = {name: rows[1].megabytes / rows[0].megabytes for name, rows in found.items()}
    if as_json:
        rows = {name: [asdict(row) for row in pair] for name, pair in found.items()}
        typer.echo(json.dumps({"ratios": ratios, "rows": rows}, indent=2))
    else:
        for name, pair in found.items():
            for row in pair:
                print(f"  {row} {row.megabytes:7.0f} MB")
            print(f"{name}: {ratios[name]:.2f} times the memory")
    if max(ratios.values()) > HELD_TO:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
