"""The movements and places that sentences name, as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.movement import Movement, movement_named
from pipeline.places import place_named


def named_ways(texts: Sequence[str]) -> Tensor:
    """Returns what S sentences name, float32 [S, 5]: the direction x, y of a movement, 1 for
    standing still, and the place x, y in the frame, y down. What a sentence does not name is 0."""
    rows = []
    for text in texts:
        movement = movement_named(text)
        still = float(movement is Movement.STILL)
        rows.append(
            [*(movement.value if movement else (0, 0)), still, *(place_named(text) or (0, 0))]
        )
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
