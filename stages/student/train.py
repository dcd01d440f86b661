"""Trains a student on clips, and predicts with it.

Letters: N frames of a step (clips x frames), H W pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import StudentConfig
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex, VideoRef
from stages.frames import normalise_frames
from stages.student.clips import Clip, Clips
from stages.student.losses import resize_logits, total_loss
from stages.student.model import SimRVOS

logger = logging.getLogger(__name__)


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
        epoch = step * config.clips_a_step // len(clips)
        loss = clip_loss(model, drawn, config, device, epoch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress(step, sum(len(clip.images) for clip in drawn), losses[-1])
    return losses


def clip_loss(
    model: SimRVOS,
    clips: Sequence[Clip],
    config: StudentConfig,
    device: torch.device,
    epoch: int = 0,
) -> Tensor:
    """The total loss over some clips, whose frame sizes may differ.

    Args:
        epoch: from 0; BLCL takes the student's predictions for pseudo-masks from 1 on.
    """
    by_size: dict[tuple[int, int], list[Clip]] = {}
    for clip in clips:
        by_size.setdefault(clip.size, []).append(clip)
    total = torch.zeros((), device=device)
    for group in by_size.values():
        images = np.stack([image for clip in group for image in clip.images])
        prepared = prepare_frames(torch.from_numpy(images).to(device), config.short_side)
        found = model.look(prepared, [clip.text for clip in group for _ in clip.images])
        grid = prepared.shape[2] // 2, prepared.shape[3] // 2
        loss = total_loss(found, group, config, grid, predictions_count=epoch > 0)
        total = total + len(group) / len(clips) * loss
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
            logits = resize_logits(model(prepared, [text] * len(part)), video.height, video.width)
            chance = logits.sigmoid()
            mask = chance > 0.5
            inside = (chance * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
            masks.append(mask.cpu().numpy())
            sure.append(inside.cpu().numpy().astype(np.float32))
        yield slice(part.start, part.stop), np.stack(masks), np.stack(sure)


def prepare_frames(images: Tensor, short_side: int) -> Tensor:
    """uint8 [N, H, W, 3] to normalised float32 [N, 3, H', W'], the short side at ``short_side``."""
    return normalise_frames(images, short_side, 4 * short_side)


def _of_encoder(name: str) -> bool:
    return name.startswith("image_encoder.")


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / max(1, steps // 20))
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))
