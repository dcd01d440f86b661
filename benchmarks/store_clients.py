"""How fast this project's client of object stores is beside s3fs, on one server.

    .venv/bin/python -m benchmarks.store_clients [--repeats 7] [--large 64] [--json]

Both put and get the same files, in this process, in turns: the many small files of a shard, and a
few large ones. Ours is ``storage.remote`` (obstore): it puts as a product is published, and
gets as a product is fetched, with its checksums and flushes to the disk. s3fs, as fsspec gives it,
puts and gets the same files by its bulk calls, without either. The store is SeaweedFS on this
machine, with its S3 gateway. Prints medians of seconds, and how many times as long s3fs takes; ends
with 1 where it takes clearly less. s3fs is no dependency of the project. Install it into a folder
of its own, so that the environment stays as it is:

    .venv/bin/python -m pip install --target S3FS s3fs
    PYTHONPATH=S3FS .venv/bin/python -m benchmarks.store_clients
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.data.object_store import BUCKET, environment, s3_server
from storage.files.checksums import mark_files
from storage.remote.mirror import Mirror

SMALL_FILES, SMALL_BYTES = 161, 9_000
"""About what all stages write for a shard of a few small videos, and the mean size."""

LARGE_FILES = 4

HOW_TO_INSTALL = (
    "Install it into a folder of its own: .venv/bin/python -m pip install --target S3FS s3fs."
    " Then run PYTHONPATH=S3FS .venv/bin/python -m benchmarks.store_clients"
)

HELD_TO = 0.8
"""s3fs takes at least so many times as long. For large files, both wait for the server."""


@dataclass(frozen=True)
class Timed:
    """Seconds of both clients for the same files, one a repetition."""

    name: str
    ours: tuple[float, ...]
    s3fs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as long s3fs takes, by the medians."""
        return statistics.median(self.s3fs) / statistics.median(self.ours)


def write_files(folder: Path, count: int, size: int, seed: int) -> None:
    """Writes files of random bytes, in folders of sixteen."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number // 16:03d}" / f"{number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))


def compared(name: str, folder: Path, client: Any, repeats: int) -> list[Timed]:
    """Times puts and gets of all files of a folder, the two clients in turns."""
    marks = mark_files(folder, [folder])
    mirror = Mirror(folder, f"s3://{BUCKET}/{folder.name}-ours")
    fetched = Mirror(folder.with_name(f"{folder.name} fetched"), mirror.url)
    theirs = folder.with_name(f"{folder.name} of s3fs")
    here = [str(folder / item) for item in marks]
    there = [f"{BUCKET}/{folder.name}-s3fs/{item}" for item in marks]
    back = [str(theirs / item) for item in marks]
    for path in back:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    puts = (lambda: mirror.publish(marks, marks), lambda: client.put(here, there))
    gets = (lambda: fetched.fetch(marks), lambda: client.get(there, back))

    def emptied() -> None:
        shutil.rmtree(fetched.folder, ignore_errors=True)
        for path in back:
            Path(path).unlink(missing_ok=True)

    found = [
        Timed(f"put {name}", *in_turns(puts, repeats, lambda: None)),
        Timed(f"get {name}", *in_turns(gets, repeats, emptied)),
    ]
    for place in (fetched.folder, theirs):
        if mark_files(place, [place]) != marks:
            raise RuntimeError(f"{place}: other bytes than were put")
    return found


def in_turns(
    works: tuple[Callable[[], Any], Callable[[], Any]], repeats: int, before: Callable[[], None]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Times two works, once each before it counts; which one is first changes each time."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        before()
        for side in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            works[side]()
            if turn:
                taken[side].append(time.perf_counter() - start)
    return tuple(taken[0]), tuple(taken[1])


def client_of(variables: Mapping[str, str]) -> Any:
    """Returns s3fs' file system for a server. Ends with a message if s3fs is missing."""
    try:
        s3fs = import_module("s3fs")
    except ImportError as error:
        typer.echo(f"s3fs is missing ({error}). {HOW_TO_INSTALL}", err=True)
        raise typer.Exit(2) from error
    return s3fs.S3FileSystem(
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        use_listings_cache=False,
    )


def measure(repeats: int, megabytes: int) -> list[Timed]:
    """All comparisons, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="clients-") as place:
        folder = Path(place)
        write_files(folder / "small", SMALL_FILES, SMALL_BYTES, 0)
        write_files(folder / "large", LARGE_FILES, megabytes * 1_000_000, 1)
        with s3_server(folder / "server") as variables, environment(variables):
            client = client_of(variables)
            return [
                *compared("small", folder / "small", client, repeats),
                *compared("large", folder / "large", client, repeats),
            ]


def main(
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    large: Annotated[int, typer.Option(min=1, help="megabytes of a large file")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    found = measure(repeats, large)
    if as_json:
        rows = [{**vars(item), "ratio": item.ratio} for item in found]
        typer.echo(json.dumps({"rows": rows, "cores": os.cpu_count()}, indent=2))
    else:
        print(f"{SMALL_FILES} files of {SMALL_BYTES:,} bytes; {LARGE_FILES} of {large} MB")
        for item in found:
            ours, theirs = statistics.median(item.ours), statistics.median(item.s3fs)
            print(
                f"  {item.name}: ours {ours:.2f} s, s3fs {theirs:.2f} s,"
                f" {item.ratio:.1f} times as long"
            )
    if any(item.ratio < HELD_TO for item in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
