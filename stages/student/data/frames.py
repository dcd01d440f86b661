"""Prepares the frames of clips for students: each once, resized and normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.common.preprocessing import normalise_frames
from stages.student.data.clips import Clip


def by_size(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Groups clips by frame size. A group can share a pass."""
    groups: dict[tuple[int, int], list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.size, []).append(clip)
    return list(groups.values())


def distinct_frames(clips: Sequence[Clip]) -> tuple[NDArray[np.uint8], list[int], list[int]]:
    """Returns the frames of clips of one size, each frame that clips share once.

    Returns:
        The frames, uint8 [M, H, W, 3]; for each of the N frames of all clips, in order, its row
        among them; and the number of frames of each set that clips share.
    """
    starts: dict[int, int] = {}
    images: list[NDArray[np.uint8]] = []
    rows: list[int] = []
    lengths: list[int] = []
    for clip in clips:
        if id(clip.images) not in starts:
            starts[id(clip.images)] = len(images)
            lengths.append(len(clip.images))
            images += clip.images
        start = starts[id(clip.images)]
        rows += range(start, start + len(clip.images))
    return np.stack(images), rows, lengths


def on_the_same_frames(clips: Sequence[Clip]) -> Iterator[tuple[slice, list[Clip]]]:
    """Clips that follow one another on the same frames, with where the frames of all these clips
    are among those of all clips, one after the other."""
    start = 0
    for _, group in groupby(clips, key=lambda clip: id(clip.images)):
        several = list(group)
        stop = start + len(several) * len(several[0].images)
        yield slice(start, stop), several
        start = stop


def prepare_frames(images: Tensor, short_side: int) -> Tensor:
    """Resizes the short side and normalises: uint8 [N, H, W, 3] to float32 [N, 3, H', W']."""
    return normalise_frames(images, short_side, 4 * short_side)
