"""What a grounding model sees in the frames of a clip: instances, whatever sentence they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Instances:
    """Q instances in each of T frames, and how well each fits each of S sentences.

    Attributes:
        features: [T, Q, C], one vector an instance.
        boxes: [T, Q, 4], centre x, centre y, width, height in [0, 1] of the frame.
        scores: [S, T, Q], similarity to the whole sentence, in [0, 1].
        sentences: [S, C], mean feature of a sentence's words in their context.
        words: [S, W], sum of the embeddings of a sentence's words, of unit variance each. A
            grounder that was trained on single images has no use for the difference between 'going
            up' and 'going down', and its features may not show it.
    """

    features: Tensor
    boxes: Tensor
    scores: Tensor
    sentences: Tensor
    words: Tensor


class InstanceProposer(Protocol):
    """A frozen grounding model; see :mod:`stages.ground.instances`.

    Attributes:
        channels: C, of instances, sentences and maps.
        embedding: W, of a word by itself.
        levels: number of maps.
        together: sentences that share a pass.
    """

    channels: int
    embedding: int
    levels: int
    together: int

    def look(
        self, images: Tensor, groups: Sequence[Sequence[str]]
    ) -> tuple[Sequence[Tensor], list[Instances]]:
        """Looks for sentences in the frames of a clip, each of which is encoded once.

        Args:
            images: uint8 [T, H, W, 3].
            groups: sentences that share a pass, at most ``together`` in each.

        Returns:
            The frames' maps [T, C, h, w], finest first, which depend on no sentence; and the
            instances of each group.
        """
        ...
