"""Masks of a clip in about a thousandth of the memory that their pixels take.

A frame is a bit a pixel, compressed: what a mask store has on disk, so that it writes the frames as
they are. Letters: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import ArrayLike, DTypeLike, NDArray

LEVEL = 3
"""Of zstd."""


def pack_mask(mask: NDArray[np.bool_]) -> bytes:
    """A mask [H, W] as Zarr's codecs ``numcodecs.packbits`` and ``zstd`` make it: a byte that says
    how many bits of the last one are none, then the bits, row by row."""
    padding = bytes([-mask.size % 8])
    packed: bytes = Zstd(level=LEVEL).encode(padding + np.packbits(mask).tobytes())
    return packed


def unpack_mask(packed: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask [H, W] of what :func:`pack_mask` made.

    Raises:
        ValueError, RuntimeError: it is damaged, or of another size.
    """
    pixels = size[0] * size[1]
    raw = np.frombuffer(Zstd(level=LEVEL).decode(packed), np.uint8)
    if len(raw) != 1 + -(-pixels // 8):
        raise ValueError(f"{len(raw)} bytes of a mask; expected {1 + -(-pixels // 8)}")
    return np.unpackbits(raw[1:], count=pixels).view(np.bool_).reshape(size)


class PackedMasks:
    """Masks [T, H, W], written and read one frame at a time.

    A frame that nothing was put in is empty. ``numpy.asarray`` gives all of them as an array.

    Args:
        frames, height, width: T, H and W.
    """

    def __init__(self, frames: int, height: int, width: int) -> None:
        self.shape = (frames, height, width)
        self._packed: list[bytes | None] = [None] * frames

    @classmethod
    def of(cls, masks: ArrayLike) -> PackedMasks:
        """The masks of an array, bool [T, H, W]."""
        array = np.asarray(masks, np.bool_)
        frames, height, width = array.shape
        packed = cls(frames, height, width)
        packed.put(range(frames), array)
        return packed

    def put(self, frames: Iterable[int], masks: NDArray[np.bool_]) -> None:
        """Puts masks [n, H, W] in for n frames."""
        for frame, mask in zip(frames, masks, strict=True):
            self[frame] = mask

    def packed(self, frame: int) -> bytes | None:
        """A frame as :func:`pack_mask` has it; None where it is empty."""
        return self._packed[frame]

    def __len__(self) -> int:
        return len(self._packed)

    def __setitem__(self, frame: int, mask: NDArray[np.bool_]) -> None:
        if mask.shape != self.shape[1:]:
            raise ValueError(f"a mask {mask.shape}; expected {self.shape[1:]}")
        self._packed[frame] = pack_mask(mask) if mask.any() else None

    def __getitem__(self, frame: int) -> NDArray[np.bool_]:
        packed, (_, height, width) = self._packed[frame], self.shape
        if packed is None:
            return np.zeros((height, width), np.bool_)
        return unpack_mask(packed, (height, width))

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("packed masks cannot be an array without a copy")
        array = np.zeros(self.shape, np.bool_)
        for frame in range(len(self)):
            array[frame] = self[frame]
        return array if dtype is None else array.astype(dtype, copy=False)
