"""The sentences that boxes are searched for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.types import Augmentation, Boxes


def texts_of(augmentations: Sequence[Augmentation]) -> list[str]:
    """Returns all positives and negatives of a video's expressions, each once, in order."""
    texts: dict[str, None] = {}
    for augmentation in augmentations:
        texts.update((item.text, None) for item in augmentation.positives)
        texts.update((item.text, None) for item in augmentation.negatives)
    return list(texts)


def no_boxes(frames: int) -> list[Boxes]:
    """Returns frames without boxes."""
    none = np.zeros(0, np.int32)
    return [Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, none)] * frames
