"""The losses of GroPrompt (CVPRW 2024, eqs 1 to 3), and one that the paper does not have, of each
frame or video apart.

Letters: E sentences of the same T frames, Q boxes, D numbers of a prompt, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
"""lambda_r and lambda_g of eq 1."""


def box_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """Eq 1 of each box: 5 |B - B^|_1 + 2 L_giou.

    Args:
        boxes, truth: [..., 4], centre x, centre y, width, height in [0, 1].

    Returns:
        [...].
    """
    corners = (box_convert(each.reshape(-1, 4), "cxcywh", "xyxy") for each in (boxes, truth))
    giou = generalized_box_iou_loss(*corners, reduction="none").reshape(boxes.shape[:-1])
    loss: Tensor = L1_WEIGHT * (boxes - truth).abs().sum(-1) + GIOU_WEIGHT * giou
    return loss


def score_loss(scores: Tensor, boxes: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Focal loss (alpha 0.25, gamma 2, as Grounding DINO was trained by) of a frame's scores: that
    of the box nearest to the truth is to be 1, the others 0; all of them where the target is
    absent. Not in the paper, whose losses leave the scores to drift.

    Args:
        scores: [..., Q] in [0, 1].
        boxes: [..., Q, 4], as of :func:`box_loss`.
        truth: [..., 4].
        known: bool [...], False where the target is absent.

    Returns:
        [...], sums over the boxes.
    """
    nearest = (boxes - truth[..., None, :]).abs().sum(-1).argmin(-1)
    right = F.one_hot(nearest, scores.shape[-1]).bool() & known[..., None]
    logits = scores.logit(eps=1e-6)
    loss: Tensor = sigmoid_focal_loss(logits, right.to(logits.dtype), alpha=0.25, gamma=2)
    return loss.sum(-1)


def text_contrast(prompts: Tensor, truth: Tensor, apart: Tensor) -> Tensor:
    """Eq 2 of each sentence and frame: a sentence's prompt is nearer to that of its true box than
    to another sentence's prompt; the mean over the sentences that are of another object.

    Args:
        prompts, truth: [E, T, D], of the boxes found and of the true ones.
        apart: bool [E, E, T], whether the frame shows sentences i and j to be of different
            objects. The paper draws one sentence and does not say that it is of another object;
            told from its own target a sentence would learn nothing true.

    Returns:
        [E, T]; 0 where no sentence is of another object.
    """
    near = torch.linalg.vector_norm(prompts - truth, dim=-1)
    far = torch.linalg.vector_norm(prompts[:, None] - prompts[None], dim=-1)
    return _mean_over_others((near[:, None] - far).relu(), apart)


def modal_contrast(videos: Tensor, sentences: Tensor, apart: Tensor) -> Tensor:
    """Eq 3 of each sentence: what its prompts see in the video is nearer to its own feature than
    to another sentence's; the mean over the sentences that are of another object.

    Args:
        videos: f [E, C].
        sentences: z [E, C].
        apart: bool [E, E], whether sentences i and j are of different objects.

    Returns:
        [E]; 0 where no sentence is of another object.
    """
    distance = torch.linalg.vector_norm(videos[:, None] - sentences[None], dim=-1)
    return _mean_over_others((distance.diagonal()[:, None] - distance).relu(), apart)


def _mean_over_others(values: Tensor, apart: Tensor) -> Tensor:
    """The mean over the second dimension of what ``apart`` picks; 0 of nothing."""
    return (values * apart).sum(1) / apart.sum(1).clamp(min=1)
