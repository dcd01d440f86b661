"""Which frames a judge sees. Letters: T frames, n tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frames_to_show(visible: NDArray[np.bool_], count: int) -> list[int]:
    """Returns at most ``count`` positions, ascending, spread over a video.

    Of each part of the video it is the frame with the most tracks, nearest to the part's middle. A
    track that would be in none of them replaces one of them that is not the only one of a track.

    Args:
        visible: [T, n], whether a track is in a frame.
    """
    total = len(visible)
    bounds = np.linspace(0, total, min(count, total) + 1).round().astype(int)
    seen = visible.sum(axis=1)
    picked = []
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        middle = (low + high - 1) / 2
        picked.append(min(range(low, high), key=lambda at: (-seen[at], abs(at - middle), at)))
    for track in range(visible.shape[1]):
        mine = np.flatnonzero(visible[:, track])
        if len(mine) and not visible[picked, track].any():
            _replace(picked, int(mine[len(mine) // 2]), visible)
    return sorted(picked)


def _replace(picked: list[int], frame: int, visible: NDArray[np.bool_]) -> None:
    """Puts a frame in the place of the nearest one without which no track goes unseen."""
    shown = visible[picked].sum(axis=0)
    spare = [at for at in picked if not (visible[at] & (shown == 1)).any()]
    if spare:
        picked[picked.index(min(spare, key=lambda at: abs(at - frame)))] = frame
