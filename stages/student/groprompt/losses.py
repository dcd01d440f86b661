"""The losses of GroPrompt (CVPRW 2024, eqs 1 to 3), and one of ours, per frame or video.

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
    """Returns eq 1 of each box: 5 |B - B^|_1 + 2 L_giou.

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
    """Returns the focal loss of a frame's scores, with Grounding DINO's alpha 0.25 and gamma 2.

    The box nearest to the true one should score 1, the others 0. If the target is absent, all
    should score 0. The paper does not have this loss; without it the scores drift.

    Args:
        scores: [..., Q] in [0, 1].
        boxes: [..., Q, 4], as in :func:`box_loss`.
        truth: [..., 4], the true box.
        known: bool [...], False if the target is absent.

    Returns:
        [...], sums over the Q boxes.
    """
    nearest = (boxes - truth[..., None, :]).abs().sum(-1).argmin(-1)
    right = F.one_hot(nearest, scores.shape[-1]).bool() & known[..., None]
    logits = scores.logit(eps=1e-6)
    loss: Tensor = sigmoid_focal_loss(logits, right.to(logits.dtype), alpha=0.25, gamma=2)
    return loss.sum(-1)


def text_contrast(prompts: Tensor, truth: Tensor, apart: Tensor) -> Tensor:
    """Returns eq 2 of each sentence and frame, averaged over the sentences of other objects.

    A sentence's prompt should be nearer to that of its true box than to another sentence's prompt.

    Args:
        prompts, truth: [E, T, D], prompts of the boxes found and of the true ones.
        apart: bool [E, E, T], whether the frame shows that sentences i and j are of different
            objects. The paper draws any other sentence, which may be of the same object; to push
            those apart would be wrong.

    Returns:
        [E, T]; 0 if no sentence is of another object.
    """
    near = torch.linalg.vector_norm(prompts - truth, dim=-1)
    far = torch.linalg.vector_norm(prompts[:, None] - prompts[None], dim=-1)
    return _mean_over_others((near[:, None] - far).relu(), apart)


def modal_contrast(videos: Tensor, sentences: Tensor, apart: Tensor) -> Tensor:
    """Returns eq 3 of each sentence, averaged over the sentences of other objects.

    What a sentence's prompts attend to in the video should be nearer to its own feature than to
    another sentence's.

    Args:
        videos: f [E, C].
        sentences: z [E, C].
        apart: bool [E, E], whether sentences i and j are of different objects.

    Returns:
        [E]; 0 if no sentence is of another object.
    """
    distance = torch.linalg.vector_norm(videos[:, None] - sentences[None], dim=-1)
    return _mean_over_others((distance.diagonal()[:, None] - distance).relu(), apart)


def _mean_over_others(values: Tensor, apart: Tensor) -> Tensor:
    """Returns the mean over the second dimension where ``apart`` is True; 0 if it never is."""
    return (values * apart).sum(1) / apart.sum(1).clamp(min=1)
