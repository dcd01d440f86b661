"""L_MIL: a loss of masks by boxes (box-tightness prior, Hsu et al. 2019; SimRVOS, eq 9).

In a tight box, every row and column contains the target, and nothing outside of it does. So the
part of a row or column within a box is a positive bag, and a row or column that crosses no box is a
negative bag. A bag's probability is that of its most probable pixel, and its loss is the
cross-entropy. Positive and negative bags are averaged separately. A small target crosses few rows
and columns, so in a common mean its bags would hardly count. The pairwise term of Hsu et al. is not
part of SimRVOS.

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
    """Returns boxes of a frame on a coarser grid: the nearest cell borders, at least one cell.

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
    """Returns L_MIL of each frame: the mean loss of its positive bags, plus that of its negatives.

    Args:
        logits: [N, h, w].
        boxes: boxes of each frame. A frame without a box has only negative bags.

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
    # Slices, since a mask on the device would make the host wait for it.
    negative = [logits[rows].amax(1) for rows in _free(height, boxes[:, 1::2])]
    negative += [logits[:, columns].amax(0) for columns in _free(width, boxes[:, 0::2])]
    # The sigmoid grows with its logit, so the largest probability is the largest logit's;
    # softplus(-x) is -log sigmoid(x), and softplus(x) is -log(1 - sigmoid(x)).
    loss = F.softplus(torch.cat(negative)).mean() if negative else logits.sum() * 0
    if positive:
        loss = loss + F.softplus(-torch.cat(positive)).mean()
    return loss


def _free(length: int, spans: NDArray[np.int64]) -> list[slice]:
    """Returns the parts of ``range(length)`` outside of spans [n, 2], half-open, in order."""
    runs, end = [], 0
    for low, high in [*sorted(spans.tolist()), (length, length)]:
        if low > end:
            runs.append(slice(end, low))
        end = max(end, high)
    return runs
