"""The project's reading and writing of arrays against zarr-python's, on the same values.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.arrays

A video of 27 frames at 720 x 1280 with 20 candidates a frame and 8 expressions. Prints CPU
milliseconds, the smallest of five turns, and the ratio. With zarr-python 3.3 or later, which needs
Python 3.12, also for its fused codec pipeline.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import zarr
import zarr.core.codec_pipeline
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, SampleKey, VideoRef
from storage.arrays.masks import MaskStore
from storage.arrays.zarr_arrays import BLOSC, StoredArray, known_codecs, write_array

FRAMES, HEIGHT, WIDTH, EXPRESSIONS, ROWS = 27, 720, 1280, 8, 64
CLIP = (2, 5, 9, 14, 20)
Work = Callable[[], object]


def write_with_zarr(folder: Path, values: NDArray[np.float16]) -> None:
    """Writes the same array as :func:`storage.arrays.zarr_arrays.write_array`."""
    codec = BloscCodec(
        cname=BLOSC.cname, clevel=BLOSC.clevel, shuffle="bitshuffle", typesize=values.itemsize
    )
    array = zarr.create_array(
        str(folder),
        shape=values.shape,
        dtype=values.dtype,
        chunks=(ROWS, *values.shape[1:]),
        compressors=codec,
        fill_value=0,
    )
    array[...] = values


def pairs(root: Path) -> Iterator[tuple[str, Work, Work]]:
    """Yields what is done, by the project and by zarr-python."""
    logits = np.random.default_rng(0).normal(0, 4, (540, 73, 128)).astype(np.float16)
    names = (root / str(number) for number in count())
    yield (
        "write candidates",
        lambda: write_array(next(names), logits, ROWS),
        lambda: write_with_zarr(next(names), logits),
    )
    stored = next(names)
    write_array(stored, logits, ROWS)
    yield (
        "read candidates",
        lambda: StoredArray(stored).read(),
        lambda: np.asarray(zarr.open_array(stored, mode="r", zarr_format=3)[...]),
    )
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), np.bool_)
    mask[:, 200:500, 300:700] = True
    video = VideoRef("v", tuple(map(str, range(FRAMES))), (Path(),) * FRAMES, HEIGHT, WIDTH)
    texts, ones = [str(row) for row in range(EXPRESSIONS)], np.ones(FRAMES)
    masks = [
        PseudoMask(
            SampleKey("d", "s", "v", text),
            PackedMasks.of(mask),
            ones.astype(np.float32),
            ones.astype(np.uint8),
            "",
        )
        for text in texts
    ]
    store = MaskStore(root / "masks.zarr")
    store.write_video(video, texts, masks)
    place = store.path / "v" / "masks"

    def rows_with_zarr() -> None:
        array = zarr.open_array(place, mode="r+", zarr_format=3)
        for row, item in enumerate(masks):
            array[row] = np.asarray(item.mask)

    def clips_with_zarr() -> None:
        array = zarr.open_array(place, mode="r", zarr_format=3)
        for row in range(EXPRESSIONS):
            for frame in CLIP:
                array[row, frame]

    yield "write masks", lambda: store.write_video(video, texts, masks), rows_with_zarr
    yield (
        "read clips of 5 frames",
        lambda: [MaskStore(store.path).read("v", text, CLIP) for text in texts],
        clips_with_zarr,
    )


def milliseconds(work: Work) -> float:
    """CPU milliseconds, the smallest of five turns."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return 1000 * min(taken)


def main() -> None:
    fused = hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline")
    for name in ("BatchedCodecPipeline", *(["FusedCodecPipeline"] if fused else [])):
        print(f"zarr-python {zarr.__version__}, {name}")
        with (
            tempfile.TemporaryDirectory() as folder,
            known_codecs(),
            zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{name}"}),
        ):
            for what, ours, theirs in pairs(Path(folder)):
                own, other = milliseconds(ours), milliseconds(theirs)
                print(f"  {what:24} {own:7.1f} ms  {other:7.1f} ms  ratio {other / own:.1f}")


if __name__ == "__main__":
    main()
