"""Boxes as the pixels that they hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_to_mask(box: ArrayLike, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels [H, W] whose centres lie in a box [4], xyxy."""
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64).tolist()
    rows, columns = (np.arange(side) + 0.5 for side in (height, width))
    in_rows, in_columns = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    inside: NDArray[np.bool_] = in_rows[:, None] & in_columns
    return inside
