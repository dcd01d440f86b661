"""Initialises a student from a grounding model that has aligned frames and words.

A grounding model compares a frame's projected features W x with words t. Here x and t are mapped by
the singular vectors of W, such that the dot product of the two maps is that of W x and t, as far as
C channels allow. Of the norm after the projection, only the scale is used.

Letters: D channels of the words, c channels of the image encoder's last map, C of the student.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.student.simrvos.model import SimRVOS


@torch.no_grad()
def align(network: SimRVOS, projection: Tensor) -> None:
    """Sets the two linear input maps of a student's frames and words, in place.

    Args:
        network: its last map and its words must be those that the projection compares.
        projection: W, [D, c].

    Raises:
        ValueError: its shape does not fit.
    """
    visual, text = network.visual_in, network.text_in
    if projection.shape != (text.in_features, visual.in_channels):
        raise ValueError(
            f"projection {tuple(projection.shape)}; expected {text.in_features} channels of words"
            f" by {visual.in_channels} of the last map"
        )
    left, strength, right = torch.linalg.svd(projection, full_matrices=False)
    kept = min(visual.out_channels, len(strength))
    share = (strength[:kept] / strength[:kept].mean()).sqrt()[:, None]
    for layer, weight in ((visual, share * right[:kept]), (text, share * left[:, :kept].T)):
        layer.weight.zero_()
        layer.weight.view(layer.weight.shape[0], -1)[:kept] = weight
        assert layer.bias is not None
        layer.bias.zero_()
