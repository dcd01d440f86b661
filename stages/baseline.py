"""The plain baseline that pseudo-masks are compared with: one box, one mask, no vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.types import Augmentation, Boxes, Candidates, Status
from stages.common.mask_resolution import mask_above


def baseline_masks(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[Candidates],
    height: int,
    width: int,
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """The plain baseline: the original expression's best box through the segmenter, every frame.

    Args:
        augmentation: of the sample; only its original is looked at.
        texts: of the video's ground table.
        boxes: of each of the T frames.
        candidates: masks of those boxes.
        height, width: H and W of the frames, in pixels.

    Returns:
        mask [T, H, W] and status [T]: present where there is a box, absent where there is none.
    """
    masks = np.zeros((len(boxes), height, width), bool)
    status = np.full(len(boxes), Status.ABSENT, np.uint8)
    row = texts.index(augmentation.original)
    for index, (found, decoded) in enumerate(zip(boxes, candidates, strict=True)):
        best = np.flatnonzero((found.text == row) & (found.rank == 0))
        if best.size:
            logits = torch.from_numpy(decoded.logits[decoded.box_row[best[0]]])
            masks[index] = mask_above(logits, height, width, 0.0).numpy()
            status[index] = Status.PRESENT
    return masks, status
