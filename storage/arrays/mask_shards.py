"""Reads and writes the masks of one expression as one Zarr shard.

zarr-python runs every codec on every chunk as a separate task, which for a frame of packed bits
costs several times the work itself. This module makes and reads the same bytes with the same codecs
(``docs/format.md``; tests compare them), without tasks. Stores with other codecs than those of
:func:`codecs_of` are read with zarr-python.

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
from numcodecs.checksum32 import CRC32C
from numpy.typing import NDArray

from pipeline.packed_masks import LEVEL, PackedMasks, unpack_mask

_EMPTY = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_SMALL_BYTES = 2**16
"""Files up to this size are read whole, because that is faster than seeking."""


def codecs_of(height: int, width: int) -> list[dict[str, Any]]:
    """Returns the codecs in ``zarr.json`` of an array that these functions read and write."""
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
    """Writes masks as a shard. If all masks are empty, writes no file, as Zarr does.

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
    """Returns masks [T, H, W] of some frames of a shard; all False if there is no file.

    Reads the index and the requested chunks, or the whole file if it is small or most chunks are
    requested.

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
    """Returns uint64 [T, 2], offset and length of each chunk, after checking the checksum."""
    size = 16 * count + _CRC_BYTES
    if end < size:
        raise ValueError(f"a shard of {end} bytes; expected {size} and more")
    shard.seek(end - size)
    checked = CRC32C(location="end").decode(shard.read(size))
    return np.frombuffer(checked, "<u8").reshape(count, 2)
