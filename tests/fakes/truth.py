"""A mask store with a data set's own truth in place of pseudo-masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.packed_masks import PackedMasks
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex, PseudoMask, Status
from storage.arrays.masks import MaskStore


def store_truth(reader: DatasetReader, path: Path, weight: float) -> None:
    """Writes the true masks of every sample, each frame of one weight."""
    store = MaskStore(path)
    for video_id in reader.video_ids():
        video, expressions = reader.video(video_id), reader.expressions(video_id)
        found = []
        for item in expressions:
            drawn = [reader.truth(video, item, FrameIndex(t)) for t in range(len(video))]
            masks = np.stack([mask for mask in drawn if mask is not None])
            status = np.where(masks.any((1, 2)), Status.PRESENT, Status.ABSENT).astype(np.uint8)
            weights = np.full(len(video), weight, np.float32)
            found.append(PseudoMask(item.key, PackedMasks.of(masks), weights, status, ""))
        store.write_video(video, [item.text for item in expressions], found)
