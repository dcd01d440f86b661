"""Masks as the run lengths of annotation tools: CVAT's text, and Label Studio's bytes.

Both count pixels row by row. Letters: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIZES = (3, 4, 8, 16)
"""Widths in bits of the lengths of runs, of which each run names one."""

_WORD = 8
_CHANNELS = 4


def cvat_runs(mask: NDArray[np.bool_]) -> str:
    """Returns the run lengths of a mask [H, W] as CVAT writes them, outside first."""
    flat = mask.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return ", ".join(map(str, [0, *runs] if flat.size and flat[0] else runs))


def mask_of_cvat_runs(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask [H, W] of CVAT's run lengths.

    Raises:
        ValueError: they are no numbers, or do not add up to H x W.
    """
    runs = np.array([int(part) for part in text.split(",")], np.int64)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"runs of {int(runs.sum())} pixels; expected {height} x {width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(height, width)


def label_studio_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Returns a mask [H, W] as Label Studio's brush has it: an RGBA picture, packed.

    The picture is 0 outside and 255 inside in all four channels. After a head (32 bits: number of
    values; 5: bits of a value - 1; four times 4: bits of a length - 1) follow runs: a bit that says
    whether one value is repeated, 2 bits that choose the width of the length, the length - 1, and
    the value.
    """
    flat = np.repeat(mask.reshape(-1), _CHANNELS)
    bits = [f"{flat.size:032b}", f"{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], ends]) if flat.size else np.zeros(0, int)
    for start, end in zip(starts, [*ends, flat.size], strict=False):
        bits += _run(int(end) - int(start), 255 if flat[start] else 0)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def mask_of_label_studio_runs(packed: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask [H, W] of Label Studio's bytes: where the picture is not transparent.

    Raises:
        ValueError: they are cut off, or of another size.
    """
    bits = _Bits(packed)
    count, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if count != height * width * _CHANNELS:
        raise ValueError(f"{count} values; expected {height} x {width} x {_CHANNELS}")
    values = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        repeats = bits.read(1)
        end = place + bits.read(sizes[bits.read(2)]) + 1
        if end > count:
            raise ValueError("a run past the end of the picture")
        if repeats:
            values[place:end] = bits.read(word) > 0
        else:
            values[place:end] = [bits.read(word) > 0 for _ in range(end - place)]
        place = end
    alpha: NDArray[np.bool_] = values.reshape(height, width, _CHANNELS)[..., 3] > 0
    return alpha


def _run(length: int, value: int) -> list[str]:
    """Returns the bits of one value that is repeated."""
    bits = []
    while length:
        part = min(length, 1 << _SIZES[-1])
        choice = next(i for i, size in enumerate(_SIZES) if part <= 1 << size)
        bits.append(f"1{choice:02b}{part - 1:0{_SIZES[choice]}b}{value:0{_WORD}b}")
        length -= part
    return bits


class _Bits:
    """Reads numbers of some bits each, the highest bit first."""

    def __init__(self, packed: Sequence[int]) -> None:
        self._bytes, self._place = bytes(packed), 0

    def read(self, bits: int) -> int:
        """Returns the next number. Raises ValueError behind the end."""
        first, last = self._place // 8, (self._place + bits + 7) // 8
        if last > len(self._bytes):
            raise ValueError("bytes that are cut off")
        number = int.from_bytes(self._bytes[first:last], "big")
        self._place += bits
        return (number >> (last * 8 - self._place)) & ((1 << bits) - 1)
