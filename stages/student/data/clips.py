"""Draws clips of a data set's samples with the supervision of their frames.

A draw depends only on the seed and on its number, not on the process or on earlier draws. So
several processes share an epoch without drawing a sample twice, and a training that resumes from a
checkpoint sees the same clips as one that was not interrupted.

Letters: T frames of a clip, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from cachetools import LRUCache
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.config import ViewsConfig
from pipeline.errors import InputError, PseudoLabelError
from pipeline.ports import DatasetReader, Image
from pipeline.types import Augmentation, FrameIndex, VideoRef
from stages.student.data.supervision import FrameSupervision, SupervisionSource
from stages.student.data.views import between, draw_view, names_a_place

logger = logging.getLogger(__name__)

_VIDEOS_KEPT = 4096
"""Names of frames, no pixels: some 2 KB a video."""
_DRAWS_TRIED = 100
"""One after the other, none of which can be read, before training ends: not a few broken files, but
the data set is gone."""


@dataclass(frozen=True)
class Clip:
    """Some frames of one sample, with their supervision.

    Attributes:
        images: T frames uint8 [H, W, 3]. Clips of one draw have the same tuple object, so that
            their frames are encoded once.
        text: the sentence.
        supervision: supervision of each of the T frames.
        positives: other sentences for the same object, with their confidence in (0, 1].
        negatives: sentences that are not true of the object.
        elsewhere: sentences of the data set that are true of another object of the video.
    """

    images: tuple[Image, ...]
    text: str
    supervision: tuple[FrameSupervision, ...]
    positives: tuple[tuple[str, float], ...] = ()
    negatives: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.images[0].shape[:2]
        return height, width

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Masks, bool [T, H, W]; all False for a frame without one."""
        empty = np.zeros(self.size, np.bool_)
        return np.stack([empty if item.mask is None else item.mask for item in self.supervision])

    @property
    def weight(self) -> NDArray[np.float32]:
        """Weights of the frames, float32 [T]; 0 for a frame of unknown status."""
        return np.array([item.weight for item in self.supervision], np.float32)


@dataclass(frozen=True)
class Shape:
    """The size of a draw.

    Attributes:
        frames: T. A clip has fewer if fewer frames have supervision.
        expressions: sentences of a video that are drawn on the same frames.
        positives: other sentences for the same object that come with each.
        negatives: sentences that are not true of it, of both kinds.
        fill: whether frames without supervision fill a clip up to T. They teach nothing themselves,
            but LGCFS compares their filters' masks with the supervision of the other frames.
        consecutive: whether the frames of a clip follow each other. Those without supervision are
            shown too.
    """

    frames: int
    expressions: int = 1
    positives: int = 0
    negatives: int = 0
    fill: bool = False
    consecutive: bool = False


class Sentences(Protocol):
    """Returns what the augment stage wrote for a video: expression id -> augmentation."""

    def __call__(self, video_id: str) -> Mapping[str, Augmentation]: ...


@dataclass(frozen=True)
class _Others:
    """The other sentences that come with one; positives with their confidence."""

    positives: Sequence[tuple[str, float]] = ()
    negatives: Sequence[str] = ()
    elsewhere: Sequence[str] = ()


@dataclass
class _Video:
    """The samples of a video with supervision: expression ids, weights and anchors [E, T]."""

    id: str
    expressions: list[str] = field(default_factory=list)
    weights: list[NDArray[np.float32]] = field(default_factory=list)
    anchors: list[NDArray[np.bool_]] = field(default_factory=list)


class Clips:
    """A sequence of draws of clips. An epoch has ``len`` draws and holds every sample once.

    Samples without a frame of any weight are left out. Instances pickle if reader and source do, so
    that worker processes can draw.

    Args:
        reader: gives frames and sentences.
        source: gives their supervision.
        shape: size of a draw.
        seed: random seed.
        views: how clips are augmented.
        sentences: gives positives and negatives; None for none.

    Raises:
        PseudoLabelError: no sample is left.
    """

    def __init__(
        self,
        reader: DatasetReader,
        source: SupervisionSource,
        shape: Shape,
        *,
        seed: int = 0,
        views: ViewsConfig | None = None,
        sentences: Sentences | None = None,
    ) -> None:
        self._reader, self._source, self._shape = reader, source, shape
        self._seed, self._views, self._sentences = seed, views or ViewsConfig(), sentences
        self._texts: dict[str, dict[str, str]] = {}
        self._opened: LRUCache[str, VideoRef] = LRUCache(_VIDEOS_KEPT)
        self._broken: set[str] = set()
        self._videos = _known_videos(source)
        if not self._videos:
            raise PseudoLabelError(
                "no frame has supervision of any weight, so there is nothing to train on; expected"
                " frames that are present or absent; of pseudo-masks the report says why they were"
                " rejected; of a data set's own annotation, take another student.supervision"
            )
        self._draws = [
            (row, start)
            for row, video in enumerate(self._videos)
            for start in range(0, len(video.expressions), shape.expressions)
        ]

    def __len__(self) -> int:
        return len(self._draws)

    @property
    def samples(self) -> int:
        """Number of (video, expression) pairs with supervision."""
        return sum(len(video.expressions) for video in self._videos)

    def __getitem__(self, number: int) -> list[Clip]:
        """Returns the clips of a draw.

        They are up to ``shape.expressions`` sentences of one video on the same random frames, in
        order, with the same view. Frames of more weight are drawn more often. Frames are not cut if
        a sentence names a place in them. A video of one frame is an image; a camera moves over it.

        If a file cannot be read, the next draw that can be read takes its place, always the same
        one. A warning names the video once.

        Args:
            number: of the draw, from 0, counted through all epochs.

        Raises:
            InputError: a hundred draws in a row cannot be read.
        """
        tried = min(_DRAWS_TRIED, len(self))
        for following in range(number, number + tried - 1):
            video, rows, rng = self._draw(following)
            try:
                return self._clips(video, rows, rng)
            except InputError as error:
                if video.id not in self._broken:
                    self._broken.add(video.id)
                    logger.warning("other clips are drawn for those of %s: %s", video.id, error)
        return self._clips(*self._draw(number + tried - 1))

    def _draw(self, number: int) -> tuple[_Video, list[int], Generator]:
        """Returns the video of a draw, the rows of its samples, and the generator for the rest."""
        epoch, place = divmod(number, len(self))
        order = np.random.default_rng((self._seed, 1, epoch)).permutation(len(self))
        row, start = self._draws[int(order[place])]
        video = self._videos[row]
        # The same in all draws of a video and epoch, so that together they hold each sample once.
        shuffled = np.random.default_rng((self._seed, 2, epoch, row))
        chosen = shuffled.permutation(len(video.expressions))
        picked = [int(item) for item in chosen[start : start + self._shape.expressions]]
        return video, picked, np.random.default_rng((self._seed, 3, number))

    def _clips(self, video: _Video, rows: Sequence[int], rng: Generator) -> list[Clip]:
        opened = self._open(video.id)
        size = opened.height, opened.width
        view = draw_view(self._views, size, rng)
        weight = np.mean([video.weights[row] for row in rows], axis=0)
        anchor = np.mean([video.anchors[row] for row in rows], axis=0)
        frames = self._pick(weight, anchor, rng)
        texts = {name: self._text(video.id, name) for name in (video.expressions[r] for r in rows)}
        told = {name: self._others(video.id, name, rng) for name in texts}
        true = [*texts.values(), *(text for each in told.values() for text, _ in each.positives)]
        views = [view] * len(frames)
        if len(opened) == 1 and self._shape.frames > 1:
            # An image becomes a video by the movement of a camera over it.
            frames = frames * self._shape.frames
            views = between(view, draw_view(self._views, size, rng), len(frames))
        if any(map(names_a_place, true)):
            views = [item.uncut() for item in views]
        decoded = {
            index: self._reader.frame(opened, FrameIndex(index)) for index in dict.fromkeys(frames)
        }
        images = tuple(
            item.of_image(decoded[index]) for item, index in zip(views, frames, strict=True)
        )
        clips = []
        for expression, others in told.items():
            known = self._source.frames(video.id, expression, frames)
            clips.append(
                Clip(
                    images,
                    view.of_text(texts[expression]),
                    tuple(v.of_supervision(k, size) for v, k in zip(views, known, strict=True)),
                    tuple((view.of_text(text), sure) for text, sure in others.positives),
                    tuple(view.of_text(text) for text in others.negatives),
                    tuple(view.of_text(text) for text in others.elsewhere),
                )
            )
        return clips

    def _open(self, video_id: str) -> VideoRef:
        """Returns a video. Recent ones are cached, as opening one reads every frame's header."""
        if video_id not in self._opened:
            self._opened[video_id] = self._reader.video(video_id)
        return self._opened[video_id]

    def _pick(
        self, weight: NDArray[np.float32], anchor: NDArray[np.float64], rng: Generator
    ) -> list[int]:
        """Picks the frames of a clip, in order.

        Args:
            weight: [T], relative frequency of each frame; 0 for never.
            anchor: [T], relative frequency of each frame as the one that is always in a clip; all
                0 if there is none.
        """
        if self._shape.consecutive:
            return self._pick_window(weight, anchor, rng)
        wanted, picked = self._shape.frames, list[int]()
        if anchor.any():
            picked = [int(rng.choice(len(anchor), p=anchor / anchor.sum()))]
        share = weight.astype(np.float64)
        share[picked] = 0
        count = min(wanted - len(picked), int((share > 0).sum()))
        if count:
            picked += rng.choice(len(share), count, replace=False, p=share / share.sum()).tolist()
        if self._shape.fill and len(picked) < wanted:
            unknown = np.flatnonzero(weight == 0)
            more = min(wanted - len(picked), len(unknown))
            picked += rng.choice(unknown, more, replace=False).tolist()
        return sorted(picked)

    def _pick_window(
        self, weight: NDArray[np.float32], anchor: NDArray[np.float64], rng: Generator
    ) -> list[int]:
        """Picks consecutive frames, more often those of more weight, with an anchor if any."""
        length = min(self._shape.frames, len(weight))
        share = np.convolve(weight.astype(np.float64), np.ones(length), "valid")
        if anchor.any():
            share = share * np.convolve(anchor, np.ones(length), "valid")
        start = int(rng.choice(len(share), p=share / share.sum()))
        return list(range(start, start + length))

    def _text(self, video: str, expression: str) -> str:
        return self._texts_of(video)[expression]

    def _texts_of(self, video: str) -> Mapping[str, str]:
        if video not in self._texts:
            found = self._reader.expressions(video)
            self._texts[video] = {item.key.expression: item.text for item in found}
        return self._texts[video]

    def _others(self, video: str, expression: str, rng: Generator) -> _Others:
        """Draws some of the sample's other positives and some of its negatives."""
        if self._sentences is None or not (self._shape.positives or self._shape.negatives):
            return _Others()
        found = self._sentences(video).get(expression)
        if found is None:
            return _Others()
        positives = [(item.text, item.confidence) for item in found.positives[1:]]
        negatives = [item.text for item in found.negatives]
        true = [positives[row] for row in _some(len(positives), self._shape.positives, rng)]
        picked = [negatives[row] for row in _some(len(negatives), self._shape.negatives, rng)]
        said = {text.casefold() for text in self._texts_of(video).values()}
        return _Others(
            true,
            [text for text in picked if text.casefold() not in said],
            [text for text in picked if text.casefold() in said],
        )


def _some(total: int, count: int, rng: Generator) -> list[int]:
    if not total:
        return []
    return sorted(rng.choice(total, min(count, total), replace=False).tolist())


def _known_videos(source: SupervisionSource) -> list[_Video]:
    videos: dict[str, _Video] = {}
    for known in source.samples():
        if known.weight.any():
            found = videos.setdefault(known.video, _Video(known.video))
            found.expressions.append(known.expression)
            found.weights.append(known.weight)
            found.anchors.append(known.anchor)
    return list(videos.values())
