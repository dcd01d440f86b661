"""Which frames of a video are looked at."""

from __future__ import annotations

import numpy as np

from pipeline.types import FrameIndex


def pick_frames(frames: int, count: int) -> list[FrameIndex]:
    """At most ``count`` evenly spaced positions in ``frames``, the first and the last among them,
    in order, each once.
    """
    places = np.linspace(0, frames - 1, min(frames, count)).round()
    return [FrameIndex(int(place)) for place in places]
