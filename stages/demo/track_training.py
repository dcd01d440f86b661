"""Trains the demo tracker from scratch on clips of ``shapes``, hard scenes among them.

First on single frames with boxes, as a segmenter; then on clips: the objects of a clip have boxes
in its first frame, and the model's own masks go into its memory. The losses are those of the demo
segmenter, and one of whether the object is in the frame.

Letters: V clips, T frames of each, n objects of all clips, S side of the model's input, C channels,
c cells of the image's coarsest features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import NO_OBJ_SCORE

from pipeline.shapes.scene import HEIGHT, WIDTH
from stages.common.losses import dice_loss
from stages.demo.clips import LEAST_PIXELS, Clip, draw_clip
from stages.demo.cycle import Recipe, run_cycle
from stages.demo.track import SIDE

_FINE = SIDE // 2
"""Side of the masks that the losses compare."""

_MARGIN = 6


def train_tracker(
    model: Any,
    processor: Any,
    *,
    frame_steps: int,
    clip_steps: int,
    long_clip_steps: int,
    seed: int,
    device: torch.device,
) -> None:
    """Trains in place: single frames; then short and long clips, with a frozen image encoder."""
    _run(model, processor, (seed, 0), frame_steps, _Batch(8, 1, 4), 1e-3, device)
    model.vision_encoder.requires_grad_(False)
    _run(model, processor, (seed, 1), clip_steps, _Batch(3, 4, 3), 1e-3, device)
    _run(model, processor, (seed, 2), long_clip_steps, _Batch(2, 8, 3), 5e-4, device)
    model.vision_encoder.requires_grad_(True)


@dataclass(frozen=True)
class _Batch:
    clips: int
    frames: int
    objects: int


def _run(
    model: Any,
    processor: Any,
    seed: tuple[int, int],
    steps: int,
    batch: _Batch,
    rate: float,
    device: torch.device,
) -> None:
    rng = np.random.default_rng(seed)
    model.to(device).train()

    def follow() -> tuple[Tensor, dict[str, float]]:
        asked = [0]
        if batch.frames > 2 and rng.random() < 0.25:
            asked.append(int(rng.integers(2, batch.frames)))
        drawn = [draw_clip(rng, batch.frames, batch.objects, asked) for _ in range(batch.clips)]
        return clip_loss(model, processor, drawn, device)

    run_cycle(follow, model.parameters(), steps, Recipe(rate, warm_steps=80))


@dataclass(frozen=True)
class Followed:
    """What the model says of n objects in one frame.

    Attributes:
        logits: [n, S / 4, S / 4], the masks, also where it says that the object is not there.
        quality: [n], predicted IoU.
        presence: [n], logit that the object is in the frame.
    """

    logits: Tensor
    quality: Tensor
    presence: Tensor


def clip_loss(
    model: Any, processor: Any, clips: Sequence[Clip], device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """Returns the loss of some clips of one length, with its parts and the mean mask IoU."""
    seen = follow_clips(model, processor, clips, device)
    truth = torch.from_numpy(np.concatenate([clip.masks for clip in clips])).to(device)
    pixels = truth.flatten(2).sum(2).T.flatten()  # frame after frame, as below
    present = pixels >= LEAST_PIXELS
    wanted = F.interpolate(truth.float(), (_FINE, _FINE), mode="bilinear", antialias=True)
    wanted = (wanted > 0.5).transpose(0, 1).flatten(0, 1)[present]
    coarse = torch.cat([item.logits for item in seen])[present]
    logits = F.interpolate(coarse[:, None], (_FINE, _FINE), mode="bilinear")[:, 0]
    with torch.no_grad():
        hard = logits > 0
        both = (hard & wanted).sum((1, 2))
        overlap = both / (hard | wanted).sum((1, 2)).clamp(min=1)
    quality = torch.cat([item.quality for item in seen])[present]
    said = torch.cat([item.presence for item in seen])
    clear = present | (pixels == 0)
    parts = {
        "masks": _mask_loss(logits, wanted.float()),
        "quality": F.mse_loss(quality, overlap),
        "presence": F.binary_cross_entropy_with_logits(said[clear], present[clear].float()),
    }
    figures = {name: float(value.detach()) for name, value in parts.items()}
    figures["mask IoU"] = float(overlap.mean())
    return torch.stack(list(parts.values())).sum(), figures


def _mask_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Dice, and cross-entropy that counts a tenth farther than ``_MARGIN`` cells from the mask."""
    width = 2 * _MARGIN + 1
    near = 0.1 + 0.9 * F.max_pool2d(wanted[:, None], width, stride=1, padding=_MARGIN)[:, 0]
    cross = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * near
    cross = cross.sum((1, 2)) / near.sum((1, 2))
    return dice_loss(logits, wanted).mean() + 2 * cross.mean()


def follow_clips(
    model: Any, processor: Any, clips: Sequence[Clip], device: torch.device
) -> list[Followed]:
    """Follows the objects of V clips of one length through their T frames.

    It does what the model's own ``forward`` does, which follows one object of one video at a time
    and gives no gradients.

    Args:
        clips: all with boxes in the same frames.

    Returns:
        For each frame, what the model says of the n objects.
    """
    images = [image for clip in clips for image in clip.images]
    pixels = processor.image_processor(images, return_tensors="pt").pixel_values.to(device)
    found = model.get_image_features(pixels)
    frames = len(clips[0].images)
    first = np.repeat(np.arange(len(clips)) * frames, [len(clip.masks) for clip in clips])
    kept: dict[str, dict[int, dict[str, Tensor]]]
    kept = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    session = SimpleNamespace(output_dict_per_obj={0: kept})
    result = []
    for at in range(frames):
        rows = torch.from_numpy(first + at).to(device)
        levels = [level[:, rows] for level in found.fpn_hidden_states]
        if at in clips[0].boxes:
            boxes = torch.from_numpy(np.concatenate([clip.boxes[at] for clip in clips])).to(device)
            said, token = _decode(model, levels, levels[-1] + model.no_memory_embedding, boxes)
        else:
            places = found.fpn_position_encoding[-1][:, rows]
            said, token = _decode(model, levels, _recalled(model, levels[-1], places, session, at))
        asked = at in clips[0].boxes
        kept["cond_frame_outputs" if asked else "non_cond_frame_outputs"][at] = _memory(
            model, levels[-1], said, token, asked
        )
        result.append(said)
    return result


def _recalled(
    model: Any, features: Tensor, places: Tensor, session: SimpleNamespace, at: int
) -> Tensor:
    """Adds to the features [c, n, C] of a frame what the frames before it tell of the objects."""
    _, count, channels = features.shape
    frames = model._gather_memory_frame_outputs(session, 0, at)
    memories, encodings = model._build_memory_attention_inputs(frames, features.device)
    pointers = model._get_object_pointers(session, 0, at, None, features.device, streaming=True)
    tokens, of_tokens = model._process_object_pointers(*pointers, count, channels, features.device)
    found: Tensor = model.memory_attention(
        current_vision_features=features,
        current_vision_position_embeddings=places,
        memory=torch.cat([*memories, tokens]).to(features.dtype),
        memory_posision_embeddings=torch.cat([*encodings, of_tokens]),
        num_object_pointer_tokens=len(tokens),
    )
    return found[0].transpose(0, 1)


def _decode(
    model: Any, levels: Sequence[Tensor], features: Tensor, boxes: Tensor | None = None
) -> tuple[Followed, Tensor]:
    """Returns what the decoder says of n objects, and their output tokens [n, C].

    Args:
        levels: [cells, n, channels] of each resolution, finest first.
        features: [c, n, C], those of the coarsest, with the memory.
        boxes: [n, 4], xyxy pixels of the frame, if it has a prompt.
    """
    count = features.shape[1]
    if boxes is None:
        points = torch.zeros(count, 1, 1, 2, device=features.device)
        labels = -torch.ones(count, 1, 1, dtype=torch.int32, device=features.device)
    else:
        scale = torch.tensor([SIDE / WIDTH, SIDE / HEIGHT], device=features.device)
        points = (boxes.view(count, 1, 2, 2) * scale).to(features.dtype)
        labels = torch.tensor([2, 3], dtype=torch.int32, device=features.device).expand(count, 1, 2)
    sparse, dense = model.prompt_encoder(points, labels, None, None)
    *fine, coarse = (
        level.permute(1, 2, 0).unflatten(2, tuple(size))
        for level, size in zip([*levels[:-1], features], model.backbone_feature_sizes, strict=True)
    )
    masks, quality, tokens, presence = model.mask_decoder(
        image_embeddings=coarse,
        image_positional_embeddings=model.get_image_wide_positional_embeddings().repeat(
            count, 1, 1, 1
        ),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        high_resolution_features=fine,
    )
    said = Followed(masks[:, 0, 0], quality[:, 0, 0], presence[:, 0, 0])
    return said, tokens[:, 0, 0]


def _memory(
    model: Any, features: Tensor, said: Followed, token: Tensor, asked: bool
) -> dict[str, Tensor]:
    """Returns what later frames look back at."""
    there = (said.presence > 0)[:, None]
    masks = torch.where(there[..., None], said.logits, NO_OBJ_SCORE)[:, None]
    whole = F.interpolate(masks, (SIDE, SIDE), mode="bilinear", align_corners=False)
    scores = said.presence[:, None, None]
    stored, places = model._encode_new_memory(features, whole, scores, asked)
    pointer = torch.where(there, model.object_pointer_proj(token), model.no_object_pointer)
    return {"maskmem_features": stored, "maskmem_pos_enc": places, "object_pointer": pointer}
