"""Clips of a run for training loops.

Letters: B clips of a batch, T frames of a clip, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor
from torch.utils.data import Dataset

from flows.api.results import LabelledExpression, LabelledRun, load_run
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import FrameIndex, Status, VideoRef
from storage.datasets.base import MaskedReader

_VIDEOS_KEPT = 4096
"""Names of frames, no pixels: some 2 KB a video."""


class Clip(NamedTuple):
    """Some frames of a video with the masks of one sentence.

    Attributes:
        frames: uint8 [T, 3, H, W], RGB.
        masks: bool [T, H, W].
        weight: float32 [T] in [0, 1]. Multiply the loss of a frame by it; an unknown frame has 0.
        status: uint8 [T]: 0 unknown, 1 present, 2 absent. An absent frame teaches background.
        text: the sentence.
        video, expression: ids of the sample.
        positions: int64 [T], the positions of the frames in the video.
    """

    frames: Tensor
    masks: Tensor
    weight: Tensor
    status: Tensor
    text: str
    video: str
    expression: str
    positions: Tensor


class ClipBatch(NamedTuple):
    """Clips of any size, padded at the right and the bottom.

    Attributes:
        frames: uint8 [B, T, 3, H, W].
        masks: bool [B, T, H, W].
        weight: float32 [B, T].
        status: uint8 [B, T].
        inside: bool [B, H, W]; False where a clip was padded.
        texts: the B sentences.
        videos, expressions: ids of the samples.
        positions: int64 [B, T].
    """

    frames: Tensor
    masks: Tensor
    weight: Tensor
    status: Tensor
    inside: Tensor
    texts: tuple[str, ...]
    videos: tuple[str, ...]
    expressions: tuple[str, ...]
    positions: Tensor


class ClipDataset(Dataset[Clip]):
    """One clip of every expression of a run that has a frame of known status.

    The frames of a clip are drawn anew in every epoch, one from each of T equal parts of the video.
    A draw depends only on the seed, the epoch and the index. A video of fewer than T frames is
    filled up with its last frame, of weight 0 and unknown status. Instances can be pickled, so that
    the workers of a ``DataLoader`` can have them. Videos of a data set in an object store are
    downloaded when an instance is made, because workers that are forked cannot.

    Args:
        run: a run, or the path of its folder.
        frames: T.
        seed: random seed.
        minimum_weight: frames of a lower weight count as unknown.

    Raises:
        PseudoLabelError: no expression has a frame of known status.
    """

    def __init__(
        self,
        run: LabelledRun | str | Path,
        frames: int = 5,
        *,
        seed: int = 0,
        minimum_weight: float = 0.0,
    ) -> None:
        if frames < 1:
            raise ValueError(f"frames={frames}; expected 1 or more")
        opened = run if isinstance(run, LabelledRun) else load_run(run)
        self._store, self._reader = opened.store, opened.reader
        self._frames, self._seed, self._minimum = frames, seed, minimum_weight
        self._epoch = 0
        self._opened: LRUCache[str, VideoRef] = LRUCache(_VIDEOS_KEPT)
        self._samples = [
            (item.video, item.expression, item.text) for item in opened if self._teaches(item)
        ]
        if not self._samples:
            raise PseudoLabelError(
                f"{opened.path}: no frame of known status and of weight {minimum_weight} or more;"
                " expected masks to train on; the report says why frames were rejected"
            )
        if isinstance(self._reader, MaskedReader):
            for video_id in dict.fromkeys(video for video, _, _ in self._samples):
                with suppress(InputError):  # It is raised when a clip of the video is asked for.
                    self._reader.fetch(video_id)

    def set_epoch(self, epoch: int) -> None:
        """Makes the following clips those of an epoch, as samplers for several processes do."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Clip:
        """Returns a clip.

        Raises:
            InputError: a frame is missing or broken.
            StoreError: a mask is damaged.
        """
        video_id, expression, text = self._samples[index]
        count = len(self._store.frames(video_id))
        positions = self._drawn(count, range(len(self))[index])
        masks, weight, status = self._store.read(video_id, expression, positions)
        video = self._open(video_id)
        images = [self._reader.frame(video, FrameIndex(place)) for place in positions]
        weight = np.where(status == Status.UNKNOWN, 0, weight).astype(np.float32)
        unknown = weight < self._minimum
        # A frame that fills up a short clip is there already, and must not count twice.
        unknown[min(count, len(positions)) :] = True
        weight[unknown], status = 0, np.where(unknown, Status.UNKNOWN, status).astype(np.uint8)
        frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return Clip(
            frames,
            torch.from_numpy(masks),
            torch.from_numpy(weight),
            torch.from_numpy(status),
            text,
            video_id,
            expression,
            torch.tensor(positions),
        )

    def _open(self, video_id: str) -> VideoRef:
        """Returns a video. Recent ones are kept, because opening one reads every frame's header."""
        if video_id not in self._opened:
            self._opened[video_id] = self._reader.video(video_id)
        return self._opened[video_id]

    def _drawn(self, count: int, index: int) -> list[int]:
        """Returns T positions in order, one from each of T equal parts of ``count`` frames."""
        if count <= self._frames:
            return [min(place, count - 1) for place in range(self._frames)]
        rng = np.random.default_rng((self._seed, self._epoch, index))
        edges = np.linspace(0, count, self._frames + 1).astype(int)
        return [int(rng.integers(*part)) for part in pairwise(edges)]

    def _teaches(self, item: LabelledExpression) -> bool:
        weight, status = self._store.quality(item.video, item.expression)
        return bool(((status != Status.UNKNOWN) & (weight >= self._minimum) & (weight > 0)).any())


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """Returns a batch of clips of one length, padded to the largest height and width.

    Use it as ``DataLoader(..., collate_fn=collate_clips)``.

    Raises:
        ValueError: the clips have different lengths, or there is none.
    """
    lengths = {len(clip.frames) for clip in clips}
    if len(lengths) != 1:
        raise ValueError(f"clips of {sorted(lengths)} frames; expected some of one length")
    height = max(clip.masks.shape[-2] for clip in clips)
    width = max(clip.masks.shape[-1] for clip in clips)
    inside = [torch.ones(clip.masks.shape[-2:], dtype=torch.bool) for clip in clips]
    return ClipBatch(
        torch.stack([_padded(clip.frames, height, width) for clip in clips]),
        torch.stack([_padded(clip.masks, height, width) for clip in clips]),
        torch.stack([clip.weight for clip in clips]),
        torch.stack([clip.status for clip in clips]),
        torch.stack([_padded(item, height, width) for item in inside]),
        tuple(clip.text for clip in clips),
        tuple(clip.video for clip in clips),
        tuple(clip.expression for clip in clips),
        torch.stack([clip.positions for clip in clips]),
    )


def _padded(values: Tensor, height: int, width: int) -> Tensor:
    """Returns values [..., h, w] with zeros up to [..., height, width]."""
    padded = values.new_zeros((*values.shape[:-2], height, width))
    padded[..., : values.shape[-2], : values.shape[-1]] = values
    return padded
