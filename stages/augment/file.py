"""Positives and hard negatives from a WSRVOS augmentation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import AugmentationError
from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import (
    Augmentation,
    Expression,
    Positive,
    Provenance,
    SampleKey,
)


class FileCaptioner:
    """A :class:`pipeline.ports.Captioner` that reads its answers from a file.

    Args:
        augmentations: by sample, as read from the file.
        source: the file's name, for messages.
    """

    def __init__(self, augmentations: Mapping[SampleKey, Augmentation], source: str) -> None:
        self._augmentations = augmentations
        self._source = source

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns the file's augmentation of each request's expression.

        Raises:
            AugmentationError: the file lacks an expression, or has another sentence for it.
        """
        return [CaptionAnswer(self._look_up(item.expression)) for item in requests]

    def _look_up(self, expression: Expression) -> Augmentation:
        found = self._augmentations.get(expression.key)
        if found is None:
            raise AugmentationError(
                f"{self._source}: nothing for {expression.key}; expected an entry a sample; write"
                " the missing ones, or take another augment.source"
            )
        if found.original != expression.text:
            raise AugmentationError(
                f"{self._source}: {expression.key} is {found.original!r}; expected the data set's"
                f" {expression.text!r}; the file is of another version of the data set"
            )
        return found


class OriginalOnly:
    """A :class:`pipeline.ports.Captioner` that adds nothing, for the plain baseline."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns the original expressions alone: K = 1 and N = 0."""
        origin = Provenance("none", "", "none-1", self._seed)
        return [
            CaptionAnswer(Augmentation(item.key, (Positive(item.text, 1.0),), (), origin))
            for item in (request.expression for request in requests)
        ]
