"""The plain baseline that pseudo-masks are compared with."""

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
    """Returns the mask of the original expression's best box in every frame.

    Args:
        augmentation: the sample's; only its original is used.
        texts: the sentences of the whole video.
        boxes: T frames' boxes; their ``text`` is a row of ``texts``.
        candidates: T frames' masks of those boxes.
        height, width: H and W of the frames, pixels.

    Returns:
        bool mask [T, H, W], and status uint8 [T]: present if there is a box, else absent.
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
