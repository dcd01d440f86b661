"""A tracker without a model, which follows the colour in the middle of a box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import SeenObjects
from tests.fakes.dataset import COLOURS


class ColourTracker:
    """A :class:`pipeline.ports.Tracker` that never loses what has a colour of its own.

    Attributes:
        passes: number of frames of each pass.
    """

    def __init__(self) -> None:
        self.passes: list[int] = []

    def follow(
        self,
        frames: Iterable[NDArray[np.uint8]],
        prompts: Mapping[int, Mapping[int, NDArray[np.float32]]],
        cells: tuple[int, int],
    ) -> Iterator[SeenObjects]:
        self.passes.append(0)
        colours: dict[int, NDArray[np.int64]] = {}
        for place, image in enumerate(frames):
            self.passes[-1] += 1
            rows, columns = (
                ((np.arange(count) + 0.5) * extent / count).astype(int)
                for count, extent in zip(cells, image.shape, strict=False)
            )
            small = image[np.ix_(rows, columns)].astype(np.int64)
            for number, box in prompts.get(place, {}).items():
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                colours[number] = image[y, x].astype(np.int64)
            masks = [np.abs(small - colour).sum(-1) < 90 for colour in colours.values()]
            seen = np.array([mask.sum() >= 4 for mask in masks], np.float32)
            logits = np.where(np.array(masks).reshape(-1, *cells), 4, -4).astype(np.float16)
            yield SeenObjects(np.array([*colours], np.int64), logits, 0.98 * seen)


class ColourDetector:
    """A :class:`pipeline.ports.PhraseTracker` that finds what has the colour of the fakes' squares.

    Attributes:
        phrases: what it was asked for, video by video.
    """

    def __init__(self) -> None:
        self.phrases: list[list[str]] = []

    def detect(
        self, frames: Iterable[NDArray[np.uint8]], phrases: Sequence[str], cells: tuple[int, int]
    ) -> Iterator[SeenObjects]:
        self.phrases.append(list(phrases))
        for image in frames:
            rows, columns = (
                ((np.arange(count) + 0.5) * extent / count).astype(int)
                for count, extent in zip(cells, image.shape, strict=False)
            )
            small = image[np.ix_(rows, columns)].astype(np.int64)
            masks = [np.abs(small - colour).sum(-1) < 90 for colour in COLOURS.values()]
            seen = np.array([mask.sum() >= 4 for mask in masks], np.float32)
            logits = np.where(np.array(masks), 4, -4).astype(np.float16)
            yield SeenObjects(np.arange(len(masks)), logits, 0.98 * seen)
