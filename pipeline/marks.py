"""Marks the objects of a frame with an outline and a number, each in a colour of its own.

The colour follows from the number, so an object that keeps its number keeps its colour through a
video. Letters: n objects, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks_to_boxes
from pipeline.ports import Image

COLOURS = (
    (230, 60, 60),
    (70, 150, 255),
    (60, 200, 90),
    (255, 200, 40),
    (210, 110, 255),
    (40, 215, 215),
    (255, 135, 40),
    (255, 130, 190),
    (160, 160, 160),
)
"""RGB of the numbers from 1 on; they repeat."""

_DARK, _LIGHT = (20, 20, 20), (255, 255, 255)
_LUMA = (0.299, 0.587, 0.114)
_DIGITS = (
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111",
)  # fmt: skip
"""Pixels of 0 to 9, row by row, 5 x 3."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a number from 1 on."""
    return COLOURS[(number - 1) % len(COLOURS)]


def marked(image: Image, masks: NDArray[np.bool_], numbers: Sequence[int]) -> Image:
    """Returns a frame in which each object has an outline and a number.

    The outline lies outside of the mask, so the object keeps its own colours. An object without a
    mask in the frame is not marked.

    Args:
        image: uint8 [H, W, 3].
        masks: [n, H, W].
        numbers: of the n objects, from 1 on.

    Returns:
        uint8 [H, W, 3]; ``image`` is left as it is.
    """
    shown = [row for row in range(len(numbers)) if masks[row].any()]
    found = image.copy()
    thick = max(1, round(max(image.shape[:2]) / 200))
    for row in shown:
        _outline(found, masks[row], thick, colour_of(numbers[row]))
    taken = np.zeros(image.shape[:2], np.bool_)
    for row in shown:
        tag = _tag(numbers[row], max(2, round(min(image.shape[:2]) / 90)))
        box = masks_to_boxes(masks[row][None])[0]
        others = np.asarray(masks[[other for other in shown if other != row]].any(axis=0))
        top, left = _place(box, tag.shape[:2], taken, others)
        height, width = taken[top:, left:].shape
        part = tag[:height, :width]
        found[top : top + len(part), left : left + part.shape[1]] = part
        taken[top : top + len(part), left : left + part.shape[1]] = True
    return found


def _outline(
    image: Image, mask: NDArray[np.bool_], thick: int, colour: tuple[int, int, int]
) -> None:
    """Draws a line around a mask, with a dark rim that tells it from an object of its colour."""
    x0, y0, x1, y1 = masks_to_boxes(mask[None])[0].astype(int).tolist()
    pad = 2 * thick + 1
    rows, columns = slice(max(0, y0 - pad), y1 + pad), slice(max(0, x0 - pad), x1 + pad)
    inside, part = mask[rows, columns], image[rows, columns]
    line = _grown(inside, thick)
    part[_grown(line, thick) & ~inside] = _DARK
    part[line & ~inside] = colour


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Returns a mask that reaches so many pixels further."""
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _tag(number: int, scale: int) -> Image:
    """Returns a number on a field of its colour."""
    digits = [
        np.array([*_DIGITS[int(digit)]], np.uint8).reshape(5, 3) == 1 for digit in str(number)
    ]
    ink = np.concatenate([np.pad(digit, ((1, 1), (1, 0))) for digit in digits], axis=1)
    ink = np.kron(np.pad(ink, ((0, 0), (0, 1))), np.ones((scale, scale), np.bool_))
    colour = colour_of(number)
    tag = np.empty((*ink.shape, 3), np.uint8)
    tag[:] = colour
    tag[ink] = _DARK if np.dot(_LUMA, colour) > 140 else _LIGHT
    return tag


def _place(
    box: NDArray[np.float32],
    size: tuple[int, ...],
    taken: NDArray[np.bool_],
    others: NDArray[np.bool_],
) -> tuple[int, int]:
    """Returns top and left of a tag beside its object, where it hides least.

    Args:
        box: xyxy of the object.
        taken: pixels [H, W] of other tags.
        others: pixels [H, W] of other objects.
    """
    x0, y0, x1, y1 = box.astype(int).tolist()
    height, width = size
    places = [(y0 - height, x0), (y0 - height, x1 - width), (y1, x0), (y0, x1), (y0, x0 - width)]
    lowest, rightmost = (max(0, a - b) for a, b in zip(taken.shape, size, strict=True))
    inside = [(min(max(0, top), lowest), min(max(0, left), rightmost)) for top, left in places]

    def hidden(place: tuple[int, int]) -> int:
        top, left = place
        area = slice(top, top + height), slice(left, left + width)
        across = max(0, min(x1, left + width) - max(x0, left))
        own: int = across * max(0, min(y1, top + height) - max(y0, top))
        return 4 * int(taken[area].sum()) + int(others[area].sum()) + own

    return min(inside, key=hidden)
