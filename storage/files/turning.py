"""Turns stored pixels upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """Rows and columns change places, then columns or rows are reversed.

    Attributes:
        swap: rows become columns, and the other way round.
        flip_x: then the columns are reversed, left to right.
        flip_y: then the rows are reversed, top to bottom.
    """

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.swap or self.flip_x or self.flip_y

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of a picture once it is turned."""
        return (width, height) if self.swap else (height, width)

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Pixels [H, W, ...] turned."""
        if self.swap:
            pixels = pixels.swapaxes(0, 1)
        if self.flip_x:
            pixels = pixels[:, ::-1]
        if self.flip_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


EXIF_TURNS = {
    2: Turn(flip_x=True),
    3: Turn(flip_x=True, flip_y=True),
    4: Turn(flip_y=True),
    5: Turn(swap=True),
    6: Turn(swap=True, flip_x=True),
    7: Turn(swap=True, flip_x=True, flip_y=True),
    8: Turn(swap=True, flip_y=True),
}
"""Value of EXIF's tag Orientation -> the turn; 1 is upright."""


def turn_of_matrix(content: bytes) -> Turn:
    """The turn of a video's display matrix, to the nearest right angle.

    Args:
        content: nine int32 of three rows, as FFmpeg gives them: x' is the first column's product
            with (x, y, 1), y' the second's.
    """
    matrix = np.frombuffer(content, np.int32).reshape(3, 3)
    if abs(int(matrix[0, 1])) > abs(int(matrix[0, 0])):
        return Turn(True, bool(matrix[1, 0] < 0), bool(matrix[0, 1] < 0))
    return Turn(False, bool(matrix[0, 0] < 0), bool(matrix[1, 1] < 0))
