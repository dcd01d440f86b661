"""Links candidate masks into tracks by the scores of the sentences and by motion.

No model runs. Candidates of a frame whose masks overlap are one instance. Its profile is how well
each sentence of the video fits (:mod:`stages.common.linking`).

Letters: T frames, Q candidates of a frame, I instances of a frame, S sentences of the video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import TrackConfig
from pipeline.geometry import pairwise_mask_iou
from pipeline.types import Boxes, Candidates, Tracks
from stages.common.linking import FrameInstances, link


def associate(
    sentences: int,
    boxes: Sequence[Boxes],
    candidates: Iterable[Candidates],
    config: TrackConfig,
    cuts: Collection[int] = (),
) -> Tracks:
    """Links the candidates of a video.

    Args:
        sentences: S.
        boxes: of each of the T frames.
        candidates: of each of the T frames; one frame is read at a time.
        config: thresholds.
        cuts: first frames of shots. No place is expected across a cut, so tracks end there, and are
            joined if they agree.

    Returns:
        The track of every candidate, tracks numbered by their first frame. A candidate that no
        sentence scores has none.
    """
    grouped = [
        _instances(sentences, mine, found, config)
        for mine, found in zip(boxes, candidates, strict=True)
    ]
    number = link([instances for _, instances in grouped], config, cuts)
    return Tracks(
        tuple(
            np.where(instance >= 0, _taken(mine, instance), -1).astype(np.int32)
            for mine, (instance, _) in zip(number, grouped, strict=True)
        )
    )


def _taken(values: NDArray[np.int32], rows: NDArray[np.intp]) -> NDArray[np.int32]:
    return values[rows] if len(values) else np.full(len(rows), -1, np.int32)


def _instances(
    sentences: int, boxes: Boxes, candidates: Candidates, config: TrackConfig
) -> tuple[NDArray[np.intp], FrameInstances]:
    """Groups the candidates of a frame whose masks overlap. The best supported lead.

    Returns:
        The instance of each candidate, int [Q], -1 for one that no sentence scores; and the
        instances, whose profile is the best score of each sentence, 0 without a box.
    """
    count = len(candidates)
    profile, box = np.zeros((count, sentences)), np.zeros((count, 4))
    row = candidates.box_row
    np.maximum.at(profile, (row, boxes.text), boxes.score.astype(np.float64))
    order = np.argsort(boxes.score, kind="stable")
    box[row[order]] = boxes.xyxy[order]  # the last of equal rows stays: the best box
    masks = candidates.logits > 0
    overlap = pairwise_mask_iou(masks, masks)
    instance = np.full(count, -1, np.intp)
    leaders: list[int] = []
    for candidate in np.argsort(-profile.sum(axis=1), kind="stable").tolist():
        if instance[candidate] >= 0 or profile[candidate].max(initial=0) < config.minimum_score:
            continue
        near = (instance < 0) & (overlap[candidate] >= config.same_mask_iou)
        near[candidate] = True
        instance[near] = len(leaders)
        leaders.append(candidate)
    shared = np.zeros((len(leaders), sentences))
    of_one = np.flatnonzero(instance >= 0)
    np.maximum.at(shared, instance[of_one], profile[of_one])
    return instance, FrameInstances(shared, box[leaders].reshape(-1, 4))
