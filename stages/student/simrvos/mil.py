"""L_MIL: what a box says of a mask (box-tightness prior, Hsu et al. 2019; SimRVOS, eq 9).

A tight box is touched by its target in every row and column that crosses it, and nothing outside
it is the target. So the part of a row or column within a box is a bag that holds the target
(positive), and a row or column that crosses no box is one that does not (negative). A bag's
probability is its largest pixel's; what it costs is its cross-entropy. Positive and negative bags
are averaged apart: a small target crosses few rows and columns, and in one mean its bags would
hardly count. The pairwise term of Hsu et al. is not part of SimRVOS.

Letters: N frames, H W pixels, h w cells of the grid that the logits are on, n boxes of a frame,
m bags of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

GridBoxes = NDArray[np.int64]
"""[n, 4], xyxy in cells, half-open, each of one cell at least and inside the grid."""


def boxes_on_grid(
    boxes: NDArray[np.float32], size: tuple[int, int], grid: tuple[int, int]
) -> GridBoxes:
    """Boxes of a frame as cells of a coarser grid; the nearest cell borders, one cell at least.

    Args:
        boxes: [n, 4], xyxy in pixels of the frame, half-open; n may be 0.
        size: H and W.
        grid: h and w.
    """
    (height, width), (rows, columns) = size, grid
    scale = np.array([columns / width, rows / height] * 2, np.float64)
    found = np.rint(boxes.reshape(-1, 4) * scale).astype(np.int64)
    limit = np.array([columns, rows])
    low = np.clip(found[:, :2], 0, limit - 1)
    high = np.clip(found[:, 2:], low + 1, limit)
    return np.concatenate([low, high], axis=1)


def mil_losses(logits: Tensor, boxes: Sequence[GridBoxes]) -> Tensor:
    """L_MIL of each frame: the mean cross-entropy of its positive bags, and that of its negative.

    Args:
        logits: [N, h, w].
        boxes: of each frame; a frame with no box has negative bags alone.

    Returns:
        [N].
    """
    if not len(logits):
        return logits.sum((1, 2))
    return torch.stack(
        [_frame_loss(frame, found) for frame, found in zip(logits, boxes, strict=True)]
    )


def _frame_loss(logits: Tensor, boxes: GridBoxes) -> Tensor:
    height, width = logits.shape
    positive = []
    for x0, y0, x1, y1 in boxes.tolist():
        inside = logits[y0:y1, x0:x1]
        positive += [inside.amax(1), inside.amax(0)]
    # As slices: a mask on the device would have to be waited for.
    negative = [logits[rows].amax(1) for rows in _free(height, boxes[:, 1::2])]
    negative += [logits[:, columns].amax(0) for columns in _free(width, boxes[:, 0::2])]
    # The sigmoid grows with its logit, so the largest probability is the largest logit's;
    # softplus(-x) is -log sigmoid(x), and softplus(x) is -log(1 - sigmoid(x)).
    loss = F.softplus(torch.cat(negative)).mean() if negative else logits.sum() * 0
    if positive:
        loss = loss + F.softplus(-torch.cat(positive)).mean()
    return loss


def _free(length: int, spans: NDArray[np.int64]) -> list[slice]:
    """The runs of ``range(length)`` that are in none of some spans [n, 2], half-open, in order."""
    runs, end = [], 0
    for low, high in [*sorted(spans.tolist()), (length, length)]:
        if low > end:
            runs.append(slice(end, low))
        end = max(end, high)
    return runs
