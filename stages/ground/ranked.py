"""What grounders share: sentences that share a pass, and the best boxes of each sentence.

Letters: K texts, P pairs of a frame and a caption, S sentences of a caption, Q queries, R ranked
boxes of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import GroundConfig
from pipeline.errors import ConfigError
from pipeline.types import Boxes

SAME_BOX_IOU = 0.7
"""Boxes of a text with a larger IoU are one place, of which the best box is kept. So runner-ups are
other instances."""


def in_captions(lengths: Sequence[int], longest: int, joint: int) -> list[list[int]]:
    """Returns the rows of the sentences of each caption.

    Args:
        lengths: tokens of each of the K sentences.
        longest: tokens that fit into a caption.
        joint: sentences that may share one.
    """
    groups: list[list[int]] = []
    length = 0
    for row, own in enumerate(lengths):
        if not groups or len(groups[-1]) == joint or length + own > longest:
            groups.append([])
            length = 0
        groups[-1].append(row)
        length += own
    return groups


def best_boxes(boxes: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best boxes of every sentence that are different places: what non-maximum suppression at
    ``SAME_BOX_IOU`` leaves, cut after the first ``count``.

    Done for all sentences at once, a box of each a round, so that nothing waits for the device.

    Args:
        boxes: [P, Q, 4], corners.
        scores: [P, S, Q] in [0, 1].
        count: R.

    Returns:
        Corners [P, S, R, 4], best first, and scores [P, S, R], -1 where no box is left.
    """
    left, top, right, bottom = boxes[:, None].unbind(-1)
    area = (right - left) * (bottom - top)
    corners, best, of = [], [], scores
    for _ in range(count):
        score, query = of.max(-1, keepdim=True)
        x0, y0, x1, y1 = (
            side.expand_as(of).gather(-1, query) for side in (left, top, right, bottom)
        )
        corners.append(torch.cat([x0, y0, x1, y1], -1))
        best.append(score)
        width = (torch.minimum(right, x1) - torch.maximum(left, x0)).clamp(min=0)
        height = (torch.minimum(bottom, y1) - torch.maximum(top, y0)).clamp(min=0)
        shared = width * height
        same = shared / (area + (x1 - x0) * (y1 - y0) - shared) > SAME_BOX_IOU
        of = of.masked_fill(same, -1).scatter(-1, query, -1)
    return torch.stack(corners, 2), torch.cat(best, -1)


def boxes_of_frames(
    found: Sequence[tuple[Tensor, Tensor]],
    frames: int,
    sentences: Sequence[int],
    config: GroundConfig,
) -> list[Boxes]:
    """Returns the boxes of each frame, ordered by text, then by rank.

    Args:
        found: of each of the P pairs, corners [S, R, 4] and scores [S, R], as :func:`best_boxes`
            gives them; all frames with the first caption, then all with the second.
        frames: number of frames.
        sentences: number of sentences of each caption.
        config: names the number type in an error.

    Raises:
        ConfigError: the model computed NaN, as float16 does when it overflows.
    """
    if not found:
        none = np.zeros((0, 1, 4), np.float32)
        return [_boxes(none, none[..., 0]) for _ in range(frames)]
    boxes, scores = (torch.stack(each).cpu().numpy() for each in zip(*found, strict=True))
    if np.isnan(boxes).any() or np.isnan(scores).any():
        raise ConfigError(
            f"ground.dtype={config.dtype}: the grounding model gave boxes or scores that are no"
            " numbers; float16 may overflow; set ground.dtype to bfloat16 or float32, and check the"
            " checkpoint"
        )
    given = np.arange(scores.shape[1]) < np.array(sentences)[:, None]
    return [
        _boxes(boxes[frame::frames][given], scores[frame::frames][given]) for frame in range(frames)
    ]


def _boxes(corners: NDArray[np.float32], scores: NDArray[np.float32]) -> Boxes:
    """Of one frame: corners [K, R, 4] and scores [K, R], negative where there is no box."""
    text, rank = np.nonzero(scores >= 0)
    return Boxes(
        corners[text, rank], scores[text, rank], text.astype(np.int32), rank.astype(np.int32)
    )
