"""How small and how fast compressors make the logits of a run's candidates.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.codecs [RUN] [--json]

Both sides of every ratio are Blosc in this process, over the same chunks of ``segment/``, in turns;
CPU seconds. The first row is the one that stores are written with.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from storage.arrays.zarr_arrays import BLOSC, FOR_LOGITS, StoredArray

OTHERS = (BLOSC, Blosc("zstd", 1, Blosc.BITSHUFFLE), Blosc("zstd", 3, Blosc.NOSHUFFLE))
_SHUFFLED = {Blosc.NOSHUFFLE: "", Blosc.BITSHUFFLE: ", bits shuffled"}


@dataclass(frozen=True)
class Row:
    """One compressor.

    Attributes:
        size: bytes after, of one before.
        write, read: megabytes of logits a CPU second.
    """

    name: str
    size: float
    write: float
    read: float


def chunks_of(run: Path) -> Iterator[NDArray[np.int8]]:
    """The chunks of logits of a run's candidates, those that are not full left out."""
    for folder in sorted((run / "segment").glob("*.zarr/*/logits")):
        array = StoredArray(folder)
        for number in range(array.shape[0] // array.chunk_rows):
            yield array.read(number, number + 1)


def measure(chunks: list[NDArray[np.int8]], passes: int) -> list[Row]:
    """A row a compressor, medians over passes."""
    codecs = [FOR_LOGITS, *OTHERS]
    before = sum(chunk.nbytes for chunk in chunks)
    seconds: dict[int, list[tuple[float, float]]] = {}
    sizes: dict[int, int] = {}
    for _ in range(passes):
        for place, codec in enumerate(codecs):
            start = time.process_time()
            packed = [codec.encode(chunk) for chunk in chunks]
            between = time.process_time()
            for content in packed:
                codec.decode(content)
            taken = between - start, time.process_time() - between
            seconds.setdefault(place, []).append(taken)
            sizes[place] = sum(map(len, packed))
    return [
        Row(
            f"{codec.cname} {codec.clevel}{_SHUFFLED[codec.shuffle]}",
            sizes[place] / before,
            *(before / 1e6 / statistics.median(each) for each in zip(*seconds[place], strict=True)),
        )
        for place, codec in enumerate(codecs)
    ]


def main(
    run: Annotated[Path, typer.Argument(help="that has gone through segment")] = Path(
        "runs/shapes-train"
    ),
    most: Annotated[int, typer.Option(min=1, help="chunks that are looked at")] = 64,
    passes: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    chunks = list(islice(chunks_of(run), most))
    if not chunks:
        raise SystemExit(f"{run}: no candidates; expected a run; make it with `make pseudolabels`")
    rows = measure(chunks, passes)
    ours = rows[0]
    found: list[dict[str, Any]] = [
        asdict(row)
        | {
            "times the bytes": row.size / ours.size,
            "times as fast to write": row.write / ours.write,
        }
        for row in rows
    ]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    size = len(FOR_LOGITS.encode(chunks[0]))
    print(f"{len(chunks)} chunks of {chunks[0].shape}; {size / len(chunks[0]):.0f} bytes a mask")
    for row in found:
        print(
            f"  {row['name']:21} {row['size']:.3f} of the bytes, {row['write']:4.0f} MB/s written,"
            f" {row['read']:4.0f} MB/s read; {row['times the bytes']:.2f} times the bytes,"
            f" {row['times as fast to write']:.2f} times as fast to write"
        )


if __name__ == "__main__":
    typer.run(main)
