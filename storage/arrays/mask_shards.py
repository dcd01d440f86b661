"""One expression's masks as the bytes of one Zarr shard, packed and unpacked in one go.

zarr-python sends every chunk through every codec as a task of its own, which for a frame of packed
bits costs several times the work itself. These are the same bytes (``docs/format.md``; the tests
compare them), made and read by the same codecs, without the tasks. A store that does not say just
what :data:`CODECS` says is left to zarr-python.

A shard of T chunks: the chunks that are not empty, then for each chunk its offset and length, two
uint64, all ones for an empty chunk, then the CRC-32C of these. Letters: T frames, H W pixels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numcodecs.checksum32 import CRC32C  # type: ignore[import-untyped]
from numpy.typing import NDArray

from pipeline.packed_masks import LEVEL, PackedMasks, unpack_mask

_EMPTY = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_SMALL_BYTES = 2**16
"""Up to here the rest of a file costs less than to look for a part of it."""


def codecs_of(height: int, width: int) -> list[dict[str, Any]]:
    """What ``zarr.json`` says of an array that these functions read and write."""
    chunk = [1, 1, max(1, height), max(1, width)]
    inner = [
        {"name": "numcodecs.packbits", "configuration": {}},
        {"name": "bytes"},
        {"name": "zstd", "configuration": {"level": LEVEL, "checksum": False}},
    ]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    configuration = {
        "chunk_shape": chunk,
        "codecs": inner,
        "index_codecs": index,
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": configuration}]


def write_shard(path: Path, masks: PackedMasks) -> None:
    """Writes masks as a shard; of masks that are all empty, as Zarr does, no file at all.

    Raises:
        OSError: no space is left, or the folder may not be written to.
    """
    index = np.full((len(masks), 2), _EMPTY, "<u8")
    parts: list[bytes] = []
    offset = 0
    for frame in range(len(masks)):
        packed = masks.packed(frame)
        if packed is not None:
            parts.append(packed)
            index[frame] = offset, len(packed)
            offset += len(packed)
    if not parts:
        return
    parts.append(bytes(CRC32C(location="end").encode(index)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))


def read_shard(
    path: Path, count: int, frames: Sequence[int], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Masks [T, H, W] of some frames of a shard; all False where there is no such file.

    Of the file the index is read and the chunks asked for; all of it where these are most of
    them, or it is small.

    Args:
        path: the shard.
        count: frames that it holds.
        frames: positions in it, in the order wanted.
        size: (H, W).

    Raises:
        OSError, ValueError, RuntimeError: it cannot be read, or is damaged.
    """
    found = np.zeros((len(frames), *size), np.bool_)
    try:
        opened = path.open("rb")
    except FileNotFoundError:
        return found
    with opened:
        end = os.fstat(opened.fileno()).st_size
        whole = 2 * len(frames) > count or end <= _SMALL_BYTES
        shard: IO[bytes] = io.BytesIO(opened.read()) if whole else opened
        index = _read_index(shard, end, count)
        for place, frame in enumerate(frames):
            if index[frame, 0] == _EMPTY:
                continue
            start, length = int(index[frame, 0]), int(index[frame, 1])
            if start + length > end:
                raise ValueError(f"frame {frame} lies past the end of the shard")
            shard.seek(start)
            found[place] = unpack_mask(shard.read(length), size)
    return found


def _read_index(shard: IO[bytes], end: int, count: int) -> NDArray[np.uint64]:
    """uint64 [T, 2], offset and length of each chunk, once its checksum holds."""
    size = 16 * count + _CRC_BYTES
    if end < size:
        raise ValueError(f"a shard of {end} bytes; expected {size} and more")
    shard.seek(end - size)
    checked = CRC32C(location="end").decode(shard.read(size))
    return np.frombuffer(checked, "<u8").reshape(count, 2)
