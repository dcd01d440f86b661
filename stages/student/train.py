"""Trains a student on clips of pseudo-masks, and predicts with it.

Letters: N frames of a step (clips x frames), H W pixels.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import StudentConfig
from pipeline.errors import PseudoLabelError
from pipeline.ports import DatasetReader, Image, MaskSource
from pipeline.types import FrameIndex, VideoRef
from stages.frames import normalise_frames
from stages.student.model import SimRVOS, mask_loss

logger = logging.getLogger(__name__)

_MIRRORED = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_SIDES = re.compile(r"\b(" + "|".join(_MIRRORED) + r")\b")


@dataclass(frozen=True)
class Clip:
    """Frames of one sample with what is known of them.

    Attributes:
        images: T frames uint8 [H, W, 3].
        text: the sentence.
        mask: bool [T, H, W].
        weight: float32 [T]; 0 where nothing is known.
    """

    images: tuple[Image, ...]
    text: str
    mask: NDArray[np.bool_]
    weight: NDArray[np.float32]


class Clips:
    """Draws clips of a data set's samples, deterministically by generator.

    Samples none of whose frames has any weight are left out.

    Raises:
        PseudoLabelError: no sample is left.
    """

    def __init__(self, reader: DatasetReader, masks: MaskSource, frames: int) -> None:
        self._reader, self._masks, self._frames = reader, masks, frames
        self._texts: dict[tuple[str, str], str] = {}
        self._known: list[tuple[str, str, NDArray[np.float32]]] = []
        for video, expression in masks.samples():
            weight, _ = masks.quality(video, expression)
            if weight.any():
                self._known.append((video, expression, weight))
        if not self._known:
            raise PseudoLabelError(
                "no pseudo-mask has any weight, so there is nothing to train on; expected frames"
                " that are present or absent; look at the report for why they were turned down"
            )

    def __len__(self) -> int:
        return len(self._known)

    def draw(self, rng: Generator) -> Clip:
        """A clip of random frames in order, frames of more weight more often, half of them
        mirrored together with the sentence."""
        video_id, expression, weight = self._known[int(rng.integers(len(self._known)))]
        count = min(self._frames, int((weight > 0).sum()))
        picked = np.sort(rng.choice(len(weight), count, replace=False, p=weight / weight.sum()))
        video = self._reader.video(video_id)
        images = [self._reader.frame(video, FrameIndex(int(index))) for index in picked]
        mask, weights, _ = self._masks.read(video_id, expression, picked.tolist())
        text = self._text(video_id, expression)
        if rng.random() < 0.5:
            images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
            mask, text = np.ascontiguousarray(mask[:, :, ::-1]), mirror_sentence(text)
        return Clip(tuple(images), text, mask, weights)

    def _text(self, video: str, expression: str) -> str:
        if (video, expression) not in self._texts:
            for item in self._reader.expressions(video):
                self._texts[video, item.key.expression] = item.text
        return self._texts[video, expression]


def mirror_sentence(text: str) -> str:
    """The sentence for the mirrored frame: left and right change places."""
    return _SIDES.sub(lambda match: _MIRRORED[match.group()], text)


def train(
    model: SimRVOS,
    clips: Clips,
    config: StudentConfig,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int, float], None] = lambda step, frames, loss: None,
) -> list[float]:
    """Trains in place for ``config.steps`` steps, cosine schedule with warm-up.

    Args:
        progress: told the step, its frames and its loss.

    Returns:
        The loss of every step.
    """
    rng = np.random.default_rng(seed)
    model.to(device).train()
    encoder = [weight for name, weight in model.named_parameters() if _of_encoder(name)]
    rest = [weight for name, weight in model.named_parameters() if not _of_encoder(name)]
    groups = [
        {"params": rest, "lr": config.learning_rate},
        {"params": encoder, "lr": config.backbone_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, config.steps))
    losses = []
    for step in range(config.steps):
        drawn = [clips.draw(rng) for _ in range(config.clips_a_step)]
        loss = clip_loss(model, drawn, config, device)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress(step, sum(len(clip.images) for clip in drawn), losses[-1])
    return losses


def clip_loss(
    model: SimRVOS, clips: Sequence[Clip], config: StudentConfig, device: torch.device
) -> Tensor:
    """The mask loss over the frames of some clips, whose frame sizes may differ."""
    by_size: dict[tuple[int, int], list[Clip]] = {}
    for clip in clips:
        by_size.setdefault(clip.mask.shape[1:], []).append(clip)
    total = torch.zeros((), device=device)
    for group in by_size.values():
        images = np.stack([image for clip in group for image in clip.images])
        prepared = prepare_frames(torch.from_numpy(images).to(device), config.short_side)
        texts = [clip.text for clip in group for _ in clip.images]
        logits = model(prepared, texts)
        masks = torch.from_numpy(np.concatenate([clip.mask for clip in group])).to(device)
        target = _shrink(masks, prepared.shape[2] // 2, prepared.shape[3] // 2)
        logits = _resize(logits, *target.shape[1:])
        weight = torch.from_numpy(np.concatenate([clip.weight for clip in group])).to(device)
        share = len(group) / len(clips)
        total = total + share * mask_loss(
            logits, target, weight, config.dice_weight, config.focal_weight
        )
    return total


@torch.inference_mode()
def predict_video(
    model: SimRVOS,
    reader: DatasetReader,
    video: VideoRef,
    texts: Sequence[str],
    config: StudentConfig,
    device: torch.device,
    batch_frames: int = 8,
) -> Iterator[tuple[slice, NDArray[np.bool_], NDArray[np.float32]]]:
    """Masks of all sentences, some frames at a time.

    Yields:
        The frames' positions, masks bool [E, n, H, W] of the E sentences, and how sure the model
        is of each, float32 [E, n]: the mean probability inside the mask.
    """
    model.to(device).eval()
    for start in range(0, len(video), batch_frames):
        part = range(start, min(start + batch_frames, len(video)))
        images = np.stack([reader.frame(video, FrameIndex(index)) for index in part])
        prepared = prepare_frames(torch.from_numpy(images).to(device), config.short_side)
        masks, sure = [], []
        for text in texts:
            logits = _resize(model(prepared, [text] * len(part)), video.height, video.width)
            chance = logits.sigmoid()
            mask = chance > 0.5
            inside = (chance * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
            masks.append(mask.cpu().numpy())
            sure.append(inside.cpu().numpy().astype(np.float32))
        yield slice(part.start, part.stop), np.stack(masks), np.stack(sure)


def prepare_frames(images: Tensor, short_side: int) -> Tensor:
    """uint8 [N, H, W, 3] to normalised float32 [N, 3, H', W'], the short side at ``short_side``."""
    return normalise_frames(images, short_side, 4 * short_side)


def _resize(logits: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _shrink(masks: Tensor, height: int, width: int) -> Tensor:
    """bool [N, H, W] to bool [N, height, width]: a cell is in where most of it is."""
    shares = F.interpolate(masks[:, None].float(), (height, width), mode="area")[:, 0]
    return shares > 0.5


def _of_encoder(name: str) -> bool:
    return name.startswith("image_encoder.")


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / max(1, steps // 20))
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))
