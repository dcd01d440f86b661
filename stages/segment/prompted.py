"""Masks of what a person shows in a frame, by points and a box.

Letters: C channels, s the side of the embedding, n points, m boxes, h w low-resolution cells that
cover the frame, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from pipeline.geometry import masks_to_boxes
from pipeline.ports import Prompt
from pipeline.types import Candidates
from stages.common.mask_resolution import low_resolution_size, mask_above

SIDES = np.geomspace(1 / 32, 1 / 2, 8)
"""Sides of the boxes that are tried around a point, as shares of the frame's longer side."""

TIGHTENED = 2
"""Times that a mask is decoded again from its own box."""

Decode = Callable[[NDArray[np.float32]], Candidates]
"""Returns the candidates of boxes float32 [m, 4] of the frame."""


def check(prompt: Prompt) -> None:
    """Raises ValueError if a prompt shows nothing."""
    if prompt.box is None and not prompt.inside.any():
        raise ValueError("neither a box nor a point inside; expected one")


def decode_prompt(
    sam: Sam, embedding: Tensor, size: tuple[int, int], prompt: Prompt
) -> NDArray[np.bool_]:
    """Returns the mask [H, W] of a prompt, by the package's decoder.

    A single point is ambiguous: of the three masks for it, the one with the highest predicted IoU
    counts.

    Args:
        embedding: [1, C, s, s].
        size: (H, W).
    """
    side = sam.image_encoder.img_size
    scale, device, dtype = side / max(size), embedding.device, embedding.dtype
    points = None
    if len(prompt.points):
        places = torch.from_numpy(prompt.points).to(device)[None] * scale
        points = places, torch.from_numpy(prompt.inside).to(device).int()[None]
    box = None if prompt.box is None else torch.from_numpy(prompt.box).to(device)[None] * scale
    sparse, dense = sam.prompt_encoder(points=points, boxes=box, masks=None)
    low, quality = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe().to(dtype),
        sparse_prompt_embeddings=sparse.to(dtype),
        dense_prompt_embeddings=dense.to(dtype),
        multimask_output=prompt.box is None and len(prompt.points) == 1,
    )
    rows, columns = low_resolution_size(*size, side)
    best = low[0, int(quality[0].argmax()), :rows, :columns]
    mask: NDArray[np.bool_] = mask_above(best.float().cpu(), *size, 0.0).numpy()
    return mask


def mask_by_boxes(decode: Decode, size: tuple[int, int], prompt: Prompt) -> NDArray[np.bool_]:
    """Returns the mask [H, W] of a prompt, by a model that knows boxes alone.

    Boxes of several sizes are tried around each point inside. The mask that agrees with most points
    counts, and of those the one that the model is surest of. It is decoded again from its own box.
    """
    boxes = _boxes(prompt, size) if prompt.box is None else prompt.box[None]
    masks, fit = _decoded(decode, boxes, size)
    obeyed = prompt.obeyed(masks)
    best = int(np.lexsort((fit, obeyed))[-1])
    mask: NDArray[np.bool_] = masks[best]
    for _ in range(TIGHTENED if prompt.box is None and mask.any() else 0):
        tighter, _ = _decoded(decode, masks_to_boxes(mask[None]), size)
        if not tighter[0].any() or prompt.obeyed(tighter)[0] < obeyed[best]:
            break
        mask = tighter[0]
    return mask


def _boxes(prompt: Prompt, size: tuple[int, int]) -> NDArray[np.float32]:
    half = SIDES[:, None] * max(size) / 2
    centres = prompt.points[prompt.inside]
    corners = [np.concatenate([centre - half, centre + half], 1) for centre in centres]
    if len(centres) > 1:
        corners.append(np.concatenate([centres.min(0), centres.max(0) + 1])[None])
    limits = [size[1], size[0]] * 2
    return np.concatenate(corners).clip(0, limits).astype(np.float32)


def _decoded(
    decode: Decode, boxes: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Returns masks [m, H, W] of the distinct ones of some boxes, and how sure the model is."""
    found = decode(boxes)
    logits = torch.from_numpy(found.logits).float()
    masks = np.stack([mask_above(item, *size, 0.0).numpy() for item in logits])
    return masks, found.predicted_iou * found.stability
