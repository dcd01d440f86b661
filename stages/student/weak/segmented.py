"""What the losses of weak annotation need from a student."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stages.student.weak.filters import DynamicFilters


@dataclass(frozen=True)
class Segmented:
    """The masks of N frames, one sentence each, and what they were computed from.

    A student that returns this learns from masks and boxes, with LGCFS and BLCL. Prediction needs
    the logits alone.

    Attributes:
        logits: [N, h, w].
        cells: [N, D, h, w], input of the filters, with coordinates.
        theta: [N, n], dynamic filters of each frame.
        filters: the shape of the filters.
        sentence: [N, C], R^s of SimRVOS.
        contrast: [N, C, h, w], H of BLCL; None without it.
    """

    logits: Tensor
    cells: Tensor
    theta: Tensor
    filters: DynamicFilters
    sentence: Tensor
    contrast: Tensor | None
