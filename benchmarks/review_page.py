"""How long the review of a large run takes to show its first page, and how much memory it holds.

    .venv/bin/python -m benchmarks.review_page [--samples N]

Quality and sentences of made-up samples are written to tables, ten frames each, and read as
`pseudolabels review` reads them. Then the application answers a first page, a search and a page in
the middle. No sample is opened: that loads its masks, and PyTorch for those of other tracks. Fails
if the first page takes a second or more, or the process holds 300 MB or more.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from flows.review.queue import Filters, Queue, Row
from flows.review.server import build_app
from storage.sample_table import read_samples
from storage.tables import QUALITY_SCHEMA, WRITING, footer

FRAMES = 10
PER_VIDEO = 10
TOKEN, PORT = "a token of this benchmark", 4711
MOST_SECONDS, MOST_MEGABYTES = 1.0, 300.0


class PagesAlone:
    """A stand-in for a review's session that has a queue, and no run behind it."""

    name, who, problems = "made-up", "benchmark", ()

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def page(self, filters: Filters, start: int, count: int) -> tuple[list[Row], int]:
        """Does what a session does."""
        return self.queue.page(filters, start, count)


def write_table(path: Path, samples: int) -> None:
    """Writes the quality table of made-up samples, a row group at a time."""
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, QUALITY_SCHEMA, **WRITING) as writer:
        for start in range(0, samples, 1_000):
            number = np.repeat(np.arange(start, min(samples, start + 1_000)), FRAMES)
            frame = np.tile(np.arange(FRAMES, dtype=np.int32), len(number) // FRAMES)
            figures = [rng.random(len(number)) for _ in QUALITY_SCHEMA.names[4:11]]
            columns = [
                [f"video{n // PER_VIDEO:06d}" for n in number.tolist()],
                [str(n % PER_VIDEO) for n in number.tolist()],
                frame,
                [f"{t:05d}" for t in frame.tolist()],
                *figures,
                np.ones(len(number), np.int8),
                [("", "in doubt between present and absent")[n % 2] for n in number.tolist()],
            ]
            arrays = [pa.array(column) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=QUALITY_SCHEMA))
        writer.add_key_value_metadata(footer("quality", {}))


def main(
    samples: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 100_000,
) -> None:
    """Prints times and memory; fails if they are out of bounds."""
    from fastapi.testclient import TestClient

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quality.parquet"
        write_table(path, samples)
        began = time.perf_counter()
        table = read_samples([path])
        names = list(zip(table.video, table.expression, strict=True))
        texts = {name: f"the large animal number {n} on the left" for n, name in enumerate(names)}
        queue = Queue.of(table, texts, dict.fromkeys(names, "place"))
        del texts, names
        print(f"{samples} samples read in {time.perf_counter() - began:.2f} s")
    app = build_app(cast(Any, PagesAlone(queue)), TOKEN, PORT)
    client = TestClient(app, base_url=f"http://127.0.0.1:{PORT}")
    client.headers["X-Review-Token"] = TOKEN
    took = {}
    for name, asked in (
        ("first page", {}),
        ("search", {"text": "number 777"}),
        ("page in the middle", {"start": samples // 2}),
    ):
        began = time.perf_counter()
        assert client.get("/api/samples", params=asked).status_code == 200
        took[name] = time.perf_counter() - began
        print(f"{name}: {took[name]:.3f} s")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory held: {held:.0f} MB")
    if took["first page"] >= MOST_SECONDS or held >= MOST_MEGABYTES:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
