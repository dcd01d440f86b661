"""Boxes in the answer of a multimodal language model, read leniently and mapped back to the frame.

Answers come in code fences, with sentences around, with drafts before, as ``bbox_2d``, as pairs of
points, with named corners, or cut off. So boxes are looked for by their form alone: four numbers
that stand together. What is no box within the image is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Coordinates = Literal["pixels", "thousandths"]

_N = r"(-?[0-9]+(?:\.[0-9]+)?)"
_POINT = rf"[\[(]\s*{_N}\s*,\s*{_N}\s*[\])]"
_BOX = re.compile(
    rf"[\[(\"']\s*{_N}\s*,\s*{_N}\s*,\s*{_N}\s*,\s*{_N}\s*[\])\"']"
    rf"|{_POINT}\s*,?\s*{_POINT}"
    + "|"
    + r"\s*,\s*".join(rf"[\"']?{name}[\"']?\s*:\s*{_N}" for name in ("x1", "y1", "x2", "y2"))
)
_STATED = re.compile(r"[\"'](?:confidence|score|probability)[\"']\s*:\s*[\"']?([0-9.]+)\s*(%?)")
_THOUGHT_ENDS = "</think>"

MARGIN = 0.02
"""A corner may lie outside of the image by this share of its side; it is moved to the edge."""

LONGEST = 16_384
"""Characters of an answer that are looked at."""


@dataclass(frozen=True)
class AnsweredBox:
    """A box of an answer.

    Attributes:
        xyxy: float32 [4], corners in pixels of the frame.
        span: the characters of the answer from its first number to its last.
        stated: the confidence that the answer states for it, in [0, 1]; None if it states none.
    """

    xyxy: NDArray[np.float32]
    span: tuple[int, int]
    stated: float | None


def read_boxes(
    answer: str, coordinates: Coordinates, seen: tuple[int, int], size: tuple[int, int]
) -> list[AnsweredBox]:
    """Returns the boxes of an answer, in its order, each once.

    Args:
        coordinates: what the numbers count: pixels of the image as the model saw it, or thousandths
            of its sides. Numbers of at most 1 with decimals are shares of the sides.
        seen: height and width of the image as the model saw it.
        size: height and width of the frame.
    """
    start = max(0, answer.rfind(_THOUGHT_ENDS))
    matches = list(_BOX.finditer(answer, start, start + LONGEST))
    found: list[AnsweredBox] = []
    for place, match in enumerate(matches):
        numbers = [number for number in match.groups() if number is not None]
        corners = _shares(numbers, coordinates, seen)
        if corners is None:
            continue
        xyxy = (corners * np.array([size[1], size[0]] * 2)).astype(np.float32)
        if any(np.array_equal(xyxy, item.xyxy) for item in found):
            continue
        end = matches[place + 1].start() if place + 1 < len(matches) else len(answer)
        groups = [row for row in range(1, _BOX.groups + 1) if match.group(row) is not None]
        span = match.start(groups[0]), match.end(groups[-1])
        found.append(AnsweredBox(xyxy, span, _stated(answer, match.end(), end)))
    return found


def _shares(
    numbers: list[str], coordinates: Coordinates, seen: tuple[int, int]
) -> NDArray[np.float64] | None:
    """Returns corners as shares of the image's sides; None if they are no box within it."""
    values = np.array([float(number) for number in numbers])
    if (values <= 1).all() and any("." in number for number in numbers):
        shares = values
    elif coordinates == "thousandths":
        shares = values / 1000
    else:
        shares = values / np.array([seen[1], seen[0]] * 2)
    if (shares < -MARGIN).any() or (shares > 1 + MARGIN).any():
        return None
    shares = shares.clip(0, 1)
    x0, y0, x1, y1 = shares.tolist()
    return shares if x1 > x0 and y1 > y0 else None


def _stated(answer: str, start: int, end: int) -> float | None:
    for match in _of(answer, start, end):
        number = float(match.group(1))
        number = number / 100 if match.group(2) or number > 1 else number
        if 0 <= number <= 1:
            return number
    return None


def _of(answer: str, start: int, end: int) -> Iterator[re.Match[str]]:
    for match in _STATED.finditer(answer, start, end):
        if match.group(1).count(".") <= 1 and match.group(1) != ".":
            yield match
