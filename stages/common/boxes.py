"""Compares boxes pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import generalized_box_iou


def pairwise_giou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the generalised IoU of every box of a [n, 4] with every box of b [m, 4]: [n, m].

    It is 0 for two boxes without any area, which have no union.
    """
    found = generalized_box_iou(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    giou: NDArray[np.float64] = found.nan_to_num(0.0).numpy()
    return giou
