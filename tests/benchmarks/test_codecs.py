from pathlib import Path

import numpy as np

from benchmarks.codecs import chunks_of, measure
from pipeline.types import Candidates
from storage.arrays.candidates import CandidateWriter, in_steps


def test_every_compressor_is_measured_on_the_chunks_of_a_run(tmp_path: Path) -> None:
    logits = np.linspace(-8, 8, 70 * 6 * 8).reshape(70, 6, 8).astype(np.float16)
    ones = np.ones(70, np.float32)
    with CandidateWriter(tmp_path / "segment" / "00000.zarr", "f") as writer:
        writer.write_video("v", [Candidates(logits, ones, ones, np.arange(70, dtype=np.int32))])
    chunks = list(chunks_of(tmp_path))
    assert [chunk.shape for chunk in chunks] == [(64, 6, 8)], "the last one is not full"
    assert np.array_equal(chunks[0], in_steps(logits[:64]))
    rows = measure(chunks * 40, passes=1)
    assert [row.name for row in rows] == [
        "zstd 1",
        "lz4 5, bits shuffled",
        "zstd 1, bits shuffled",
        "zstd 3",
    ]
    assert all(0 < row.size < 1 for row in rows)
