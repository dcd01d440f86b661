"""Stand-ins that score as published models do. They find coloured squares without any weights.

A published grounder scores one or two words of a sentence high and the rest near 0. A published
segmenter is as sure of a mask of the wrong object as of one of the right object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import GroundConfig
from pipeline.types import Boxes, Candidates
from stages.ground.ranked import best_boxes
from stages.ground.sentences import as_caption, sentence_scores
from tests.fakes.dataset import COLOURS
from tests.fakes.stages import FakeSegmenter, box_of

Box = tuple[float, float, float, float]
Scene = Mapping[str, Box]
"""The squares of a frame: colour -> box."""

Profile = Callable[[Sequence[str], str], list[float]]
"""The score of each word of a sentence for the square of a colour, or for none of them ('')."""

ADJECTIVES = frozenset({"moving", "small", "left"})
NOTHING, LITTLE, ADJECTIVE, NOUN = 0.02, 0.03, 0.25, 0.75
SURE = 0.95


def peaked(words: Sequence[str], colour: str) -> list[float]:
    """As Grounding DINO on a whole sentence: the noun .75, its adjectives .25, the rest .03."""
    return [_peaked(word, colour, NOUN) for word in words]


def length_dependent(words: Sequence[str], colour: str) -> list[float]:
    """Peaked, and the noun's score falls from .75 to .3 with the length of the sentence."""
    noun = max(0.3, NOUN - 0.02 * len(words))
    return [_peaked(word, colour, noun) for word in words]


def flat(words: Sequence[str], colour: str) -> list[float]:
    """Every word of a sentence scores alike: .4 on an object that it names, else .05."""
    named = bool(colour) and "square" in words
    right = named and (colour in words or not COLOURS.keys() & set(words))
    return [0.4 if right else 0.05] * len(words)


PROFILES: Mapping[str, Profile] = {
    "peaked": peaked,
    "flat": flat,
    "length_dependent": length_dependent,
}


def _peaked(word: str, colour: str, noun: float) -> float:
    if not colour:
        return NOTHING
    if word == "square":
        return noun
    return ADJECTIVE if word == colour or word in ADJECTIVES else LITTLE


class ProfiledGrounder:
    """A grounder whose words score by a profile, and sentences by ``ground.score``.

    Args:
        config: the score, the sentences of a pass, and the runner-ups.
        profile: of the words.
    """

    def __init__(self, config: GroundConfig, profile: Profile) -> None:
        self._config = config
        self._profile = profile

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Scene]:
        return [
            {colour: box for colour in COLOURS if (box := box_of(image, colour)) is not None}
            for image in images
        ]

    def ground(self, embedding: Any, texts: Sequence[str]) -> list[Boxes]:
        return [self._frame(scene, texts) for scene in embedding]

    def _frame(self, scene: Scene, texts: Sequence[str]) -> Boxes:
        # A box of nothing: a published model always proposes some.
        places = {**scene, "": (0.0, 36.0, 4.0, 40.0)}
        boxes, scores = [], []
        for start in range(0, len(texts), self._config.joint):
            shared = texts[start : start + self._config.joint]
            found = best_boxes(
                torch.tensor(list(places.values()))[None],
                self._scores(list(places), shared),
                self._config.runner_ups + 1,
            )
            boxes.append(found[0][0].numpy())
            scores.append(found[1][0].numpy())
        corners, score = np.concatenate(boxes), np.concatenate(scores)
        text, rank = np.nonzero(score >= 0)
        return Boxes(
            corners[text, rank], score[text, rank], text.astype(np.int32), rank.astype(np.int32)
        )

    def _scores(self, places: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
        words = [as_caption(text).removesuffix(".").split() for text in texts]
        owner = [row for row, own in enumerate(words) for _ in own]
        chance = torch.tensor(
            [[each for own in words for each in self._profile(own, place)] for place in places]
        )
        return sentence_scores(
            chance.logit()[None], torch.tensor([owner]), len(texts), self._config
        )


class SureSegmenter(FakeSegmenter):
    """A segmenter that predicts an IoU of .95, and a stability of .95, for every box."""

    def _frame(self, size: tuple[int, int], boxes: NDArray[np.float32]) -> Candidates:
        found = super()._frame(size, boxes)
        sure = np.full(len(found), SURE, np.float32)
        return Candidates(found.logits, sure, sure, found.box_row)
