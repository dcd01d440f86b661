"""Draws clips of a data set's samples with what is known of their frames.

Letters: T frames of a clip, H W pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.errors import PseudoLabelError
from pipeline.ports import DatasetReader, Image
from pipeline.types import FrameIndex
from stages.student.supervision import FrameSupervision, SupervisionSource

_MIRRORED = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_SIDES = re.compile(r"\b(" + "|".join(_MIRRORED) + r")\b")


@dataclass(frozen=True)
class Clip:
    """Frames of one sample with what is known of them.

    Attributes:
        images: T frames uint8 [H, W, 3].
        text: the sentence.
        supervision: of each of the T frames.
        positives: other sentences that say the same with the confidence of each, in (0, 1].
        negatives: sentences that are not true of the object.
    """

    images: tuple[Image, ...]
    text: str
    supervision: tuple[FrameSupervision, ...]
    positives: tuple[tuple[str, float], ...] = ()
    negatives: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.images[0].shape[:2]
        return height, width

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool [T, H, W]; all False where a frame has no mask."""
        empty = np.zeros(self.size, np.bool_)
        return np.stack([empty if item.mask is None else item.mask for item in self.supervision])

    @property
    def weight(self) -> NDArray[np.float32]:
        """float32 [T]; 0 where nothing is known."""
        return np.array([item.weight for item in self.supervision], np.float32)


class Clips:
    """Draws clips of a data set's samples, deterministically by generator.

    Samples none of whose frames has any weight are left out.

    Args:
        reader: of the frames and sentences.
        source: of what is known of them.
        frames: T; a clip has fewer where fewer frames are known.
        fill: whether frames of which nothing is known fill a clip up to T. They teach nothing of
            their own, but LGCFS holds their filters to the truth of the others.

    Raises:
        PseudoLabelError: no sample is left.
    """

    def __init__(
        self, reader: DatasetReader, source: SupervisionSource, frames: int, *, fill: bool = False
    ) -> None:
        self._reader, self._source, self._frames, self._fill = reader, source, frames, fill
        self._texts: dict[tuple[str, str], str] = {}
        self._known = [sample for sample in source.samples() if sample[2].any()]
        if not self._known:
            raise PseudoLabelError(
                "no frame has supervision of any weight, so there is nothing to train on; expected"
                " frames that are present or absent; of pseudo-masks the report says why they were"
                " turned down; of a data set's own annotation, take another student.supervision"
            )

    def __len__(self) -> int:
        return len(self._known)

    def draw(self, rng: Generator) -> Clip:
        """A clip of random frames in order, frames of more weight more often, half of them
        mirrored together with the sentence."""
        video_id, expression, weight = self._known[int(rng.integers(len(self._known)))]
        picked = self._pick(weight, rng)
        video = self._reader.video(video_id)
        images = [self._reader.frame(video, FrameIndex(index)) for index in picked]
        supervision = self._source.frames(video_id, expression, picked)
        text = self._text(video_id, expression)
        if rng.random() < 0.5:
            images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
            supervision = [item.mirrored(video.width) for item in supervision]
            text = mirror_sentence(text)
        return Clip(tuple(images), text, tuple(supervision))

    def _pick(self, weight: NDArray[np.float32], rng: Generator) -> list[int]:
        count = min(self._frames, int((weight > 0).sum()))
        picked = rng.choice(len(weight), count, replace=False, p=weight / weight.sum())
        if self._fill and count < self._frames:
            unknown = np.flatnonzero(weight == 0)
            more = min(self._frames - count, len(unknown))
            picked = np.concatenate([picked, rng.choice(unknown, more, replace=False)])
        return [int(index) for index in np.sort(picked)]

    def _text(self, video: str, expression: str) -> str:
        if (video, expression) not in self._texts:
            for item in self._reader.expressions(video):
                self._texts[video, item.key.expression] = item.text
        return self._texts[video, expression]


def mirror_sentence(text: str) -> str:
    """The sentence for the mirrored frame: left and right change places."""
    return _SIDES.sub(lambda match: _MIRRORED[match.group()], text)
