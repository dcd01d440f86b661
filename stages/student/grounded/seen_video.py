"""The instances of a whole video, linked into tracks, and the choice of a track.

Letters: S sentences of a group, T frames, Q instances of a frame, I of them that are kept, C
channels, h w cells of a mask.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, nms

from pipeline.config import TrackConfig
from pipeline.plural import targets_named
from stages.common.cuts import CutFinder
from stages.common.instances import Instances
from stages.common.linking import FrameInstances, link
from stages.student.grounded.losses import SAME_IOU

ABSENT = -10.0
"""Logit of all pixels where a sentence has no target."""
ALIKE = 0.25
"""Of the probability of a frame's best instance. A less likely one is no further target."""
_SIDE = 1000.0
"""Boxes are linked in thousandths of the frame's sides."""


@dataclass(frozen=True)
class SeenFrame:
    """The instances of a frame that are kept for a group of sentences.

    Attributes:
        boxes: float32 [I, 4], xyxy in thousandths of the frame's sides.
        profile: float16 [I, C + S], features of unit length, and scores.
        logits: float32 [S, I], of the choice.
        none: float32 [S], probability that there is no target.
        start: of the masks [I, h, w] in the file, in bytes.
    """

    boxes: NDArray[np.float32]
    profile: NDArray[np.float16]
    logits: NDArray[np.float32]
    none: NDArray[np.float32]
    start: int


@dataclass
class _Group:
    """Sentences that share a pass of the grounder, and what it found in each frame."""

    texts: Sequence[str]
    frames: list[SeenFrame] = field(default_factory=list)


class SeenVideo:
    """What was seen of a video.

    Masks lie in a temporary file. Memory holds some kilobytes a frame and group of sentences. Use
    it as a context, which removes the file.

    Args:
        groups: sentences that share a pass of the grounder.
        config: how instances are linked.
    """

    def __init__(self, groups: Sequence[Sequence[str]], config: TrackConfig) -> None:
        self._groups, self._config = [_Group(texts) for texts in groups], config
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the context
        self._cells = (0, 0)
        self._windows: list[int] = []
        self._cuts = CutFinder()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def show(self, images: Tensor) -> None:
        """Shows the frames of the next window, uint8 [T, H, W, 3]."""
        self._windows.append(len(images))
        if self._config.cuts:
            for image in images.cpu().numpy():
                self._cuts.add(image)

    def keep(self, found: Instances) -> Tensor:
        """Returns which instances are kept, bool [T, Q]: one for each object that some sentence
        fits."""
        fit = found.scores.amax(0).cpu()
        corners = box_convert(found.boxes, "cxcywh", "xyxy").cpu()
        kept = torch.zeros_like(fit, dtype=torch.bool)
        for frame, mine in enumerate(fit):
            kept[frame, nms(corners[frame], mine, SAME_IOU)] = True
        return (kept & (fit >= self._config.minimum_score)).to(found.boxes.device)

    def add(
        self, group: int, found: Instances, logits: Tensor, kept: Tensor, masks: Tensor
    ) -> None:
        """Adds what was found in the window that was shown last.

        Args:
            group: number of the group of sentences.
            found: the instances of the window's frames.
            logits: [S, T, Q + 1] of the choice; the last is none.
            kept: bool [T, Q].
            masks: mask logits [P, h, w] of the instances that are kept, in order.
        """
        self._cells = (masks.shape[-2], masks.shape[-1])
        corners = _SIDE * box_convert(found.boxes, "cxcywh", "xyxy")
        looks = torch.cat([F.normalize(found.features, dim=-1), found.scores.permute(1, 2, 0)], -1)
        boxes, profile = corners.float().cpu().numpy(), looks.half().cpu().numpy()
        choice = logits[..., :-1].float().cpu().numpy()
        none = logits.float().softmax(-1)[..., -1].cpu().numpy()
        drawn, start = masks.half().cpu().numpy(), self._file.seek(0, 2)
        self._file.write(drawn.tobytes())
        for frame, rows in enumerate(kept.cpu().numpy()):
            self._groups[group].frames.append(
                SeenFrame(
                    boxes[frame, rows],
                    profile[frame, rows],
                    choice[:, frame, rows],
                    none[:, frame],
                    start,
                )
            )
            start += int(rows.sum()) * math.prod(drawn.shape[1:]) * drawn.itemsize

    def gaps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns, for E sentences and T frames, how far the best instance is below the best track
        of the video, float64 [E, T], inf without an instance; and its box, float64 [E, T, 4], xyxy
        in [0, 1]."""
        cuts = self._cuts.finish()
        found = [
            _gaps(group.frames, len(group.texts), self._config, cuts) for group in self._groups
        ]
        gaps, boxes = zip(*found, strict=True)
        return np.concatenate(gaps), np.concatenate(boxes)

    def masks(self, stand_in: float, device: torch.device) -> Iterator[Tensor]:
        """Yields the mask logits [E, n, h, w] of all sentences, window by window.

        Args:
            stand_in: as in :func:`choose`.
            device: of the masks.
        """
        cuts = self._cuts.finish()
        chosen = [
            choose(group.frames, group.texts, self._config, stand_in, cuts)
            for group in self._groups
        ]
        first = 0
        for length in self._windows:
            frames = range(first, first + length)
            shown = [
                np.stack([self._drawn(group.frames[at], targets[at]) for at in frames], axis=1)
                for group, targets in zip(self._groups, chosen, strict=True)
            ]
            yield torch.from_numpy(np.concatenate(shown)).to(device)
            first += length

    def _drawn(self, frame: SeenFrame, targets: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Returns the mask logits [S, h, w] of a frame's targets, bool [S, I]."""
        count, (height, width) = targets.shape[1], self._cells
        self._file.seek(frame.start)
        content = self._file.read(count * height * width * 2)
        stored = np.frombuffer(content, np.float16).reshape(count, height, width)
        masks = np.full((len(targets), height, width), ABSENT, np.float32)
        for mask, mine in zip(masks, targets, strict=True):
            if mine.any():
                mask[:] = stored[mine].max(axis=0)
        return masks


@dataclass(frozen=True)
class _Linked:
    """The instances of a video as tracks. The logit of a track is the mean over its frames.

    Attributes:
        tracks: of each frame, the track of every instance, int32 [I].
        logits: float64 [S, n], of n tracks.
        top: float64 [S], the highest of them; -inf without any.
    """

    tracks: Sequence[NDArray[np.int32]]
    logits: NDArray[np.float64]
    top: NDArray[np.float64]


def _linked(
    frames: Sequence[SeenFrame], sentences: int, config: TrackConfig, cuts: Collection[int]
) -> _Linked:
    seen = [FrameInstances(_wide(item.profile), _wide(item.boxes)) for item in frames]
    tracks = link(seen, config, cuts)
    count = 1 + max((int(mine.max()) for mine in tracks if len(mine)), default=-1)
    total, lasts = np.zeros((sentences, count)), np.zeros(count)
    for item, mine in zip(frames, tracks, strict=True):
        np.add.at(total.T, mine, item.logits.T)
        np.add.at(lasts, mine, 1)
    mean = total / np.maximum(lasts, 1)
    return _Linked(tracks, mean, mean.max(axis=1, initial=-np.inf))


def choose(
    frames: Sequence[SeenFrame],
    texts: Sequence[str],
    config: TrackConfig,
    stand_in: float,
    cuts: Collection[int] = (),
) -> list[NDArray[np.bool_]]:
    """Returns the targets of S sentences in each frame, bool [S, I].

    A frame shows the instance of its best track; or none, if that is far below the best track of
    the video. A sentence that names several objects has several instances. A sentence has no target
    at all if that is more likely than not in the frames that would show it.

    Args:
        frames: the instances of each frame.
        texts: S sentences.
        config: how instances are linked.
        stand_in: how far below, in logits.
        cuts: first frames of shots.
    """
    found = _linked(frames, len(texts), config, cuts)
    named = [targets_named(text) for text in texts]
    lowest = found.top - stand_in
    targets = [_targets(found.logits[:, mine], lowest, named) for mine in found.tracks]
    shown = np.array([mine.any(axis=1) for mine in targets]).reshape(-1, len(texts))
    none = np.array([item.none for item in frames]).reshape(-1, len(texts))
    nowhere = (none * shown).sum(axis=0) > 0.5 * shown.sum(axis=0)
    return [mine & ~nowhere[:, None] for mine in targets]


def _gaps(
    frames: Sequence[SeenFrame], sentences: int, config: TrackConfig, cuts: Collection[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns what :meth:`SeenVideo.gaps` does, for S sentences of a group."""
    found = _linked(frames, sentences, config, cuts)
    gaps = np.full((sentences, len(frames)), np.inf)
    boxes = np.zeros((*gaps.shape, 4))
    for frame, (item, mine) in enumerate(zip(frames, found.tracks, strict=True)):
        if len(mine):
            logits = found.logits[:, mine]
            gaps[:, frame] = found.top - logits.max(axis=1)
            boxes[:, frame] = item.boxes[logits.argmax(axis=1)] / _SIDE
    return gaps, boxes


def _targets(
    logits: NDArray[np.float64], lowest: NDArray[np.float64], named: Sequence[int]
) -> NDArray[np.bool_]:
    """Returns a frame's targets, bool [S, I].

    Args:
        logits: [S, I], of the instances' tracks.
        lowest: [S], that a target may have.
        named: how many objects each sentence names.
    """
    targets = np.zeros(logits.shape, np.bool_)
    for row, (mine, count) in enumerate(zip(logits, named, strict=True)):
        order = np.argsort(-mine, kind="stable")[:count]
        if len(order) and mine[order[0]] >= lowest[row]:
            targets[row, order[mine[order] >= mine[order[0]] + np.log(ALIKE)]] = True
    return targets


def best_stand_in(
    gaps: NDArray[np.float64],
    right: NDArray[np.bool_],
    absent: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> float:
    """Returns from how far below the best track of the video a frame's best instance is another
    object: where most is gained by the absent frames that are found, less the right ones lost.

    Args:
        gaps: [N], logits below; inf for a frame without instances.
        right: bool [N], whether the instance is the target.
        absent: bool [N], whether the target is not in the frame.
        weight: [N], of the frames.

    Returns:
        Infinity if nothing is gained, as where no frame is absent.
    """
    order = np.argsort(-gaps, kind="stable")
    falling = gaps[order]
    gain = np.cumsum((weight * absent - weight * right)[order], dtype=np.float64)
    gain[:-1][falling[:-1] == falling[1:]] = -np.inf  # frames of one gap go together
    if not len(gain) or gain.max() <= 0:
        return float("inf")
    last = int(gain.argmax())
    following = falling[last + 1] if last + 1 < len(falling) else 0.0
    least = min(float(falling[last]), following + 1.0)
    return (least + float(following)) / 2


def _wide(values: NDArray[np.floating]) -> NDArray[np.float64]:
    return values.astype(np.float64)
