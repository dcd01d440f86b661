"""Trains the demo segmenter, a small Segment Anything, from scratch on frames of ``shapes``.

Box prompts only: the true box of what is seen of an object, shaken as a grounder's would be.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from pipeline.geometry import masks_to_boxes
from pipeline.shapes.render import render
from pipeline.shapes.scene import sample_scene
from stages.common.losses import dice_loss
from stages.common.mask_resolution import enlarge
from stages.demo.cycle import Recipe, run_cycle
from stages.demo.phrases import visible_objects
from stages.segment.architecture import encode_frames
from stages.segment.decoder import decode_boxes


def draw_prompts(rng: Generator, shake: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame with boxes and masks of its objects.

    Args:
        shake: standard deviation of a box side's displacement, as a share of the box.

    Returns:
        Image uint8 [H, W, 3], boxes float32 [n, 4] in pixels, masks bool [n, H, W]; n >= 1.
    """
    while True:
        scene = sample_scene(rng)
        drawn = render(scene, int(rng.integers(scene.frames)))
        chosen = sorted(visible_objects(drawn.masks.sum((1, 2)), drawn.whole))
        if chosen:
            masks = drawn.masks[chosen]
            boxes = masks_to_boxes(masks)
            extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
            moved = boxes + rng.normal(0, shake, boxes.shape) * extent if shake else boxes
            return drawn.image, moved.astype(np.float32), masks


def train_segmenter(
    sam: Sam, *, steps: int, seed: int, device: torch.device, batch: int = 8
) -> None:
    """Trains in place; the cosine schedule with warm-up ends at ``steps``."""
    _run(sam, np.random.default_rng(seed), steps, 1.2e-3, device, batch)


def polish_segmenter(
    sam: Sam, *, steps: int, seed: int, device: torch.device, batch: int = 8
) -> None:
    """A second, gentler cycle on other videos; trains in place."""
    _run(sam, np.random.default_rng((seed, 1)), steps, 5e-4, device, batch)


def _run(
    sam: Sam, rng: Generator, steps: int, rate: float, device: torch.device, batch: int
) -> None:
    sam.to(device).train()

    def segment() -> tuple[Tensor, dict[str, float]]:
        drawn = [draw_prompts(rng, float(rng.choice([0.0, 0.03, 0.07]))) for _ in range(batch)]
        loss, overlap = _loss(sam, drawn, device)
        return loss, {"loss": float(loss.detach()), "mask IoU": overlap}

    run_cycle(segment, sam.parameters(), steps, Recipe(rate, warm_steps=80))


def predict(sam: Sam, images: Tensor, boxes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits [n, H, W] and predicted IoU [n] for boxes [n, 4] of the frames ``rows`` [n]."""
    height, width = images.shape[1:3]
    scale = sam.image_encoder.img_size / max(height, width)
    embeddings = encode_frames(sam, images)
    low, quality = decode_boxes(sam, embeddings, rows, boxes * scale, (height, width))
    return enlarge(low, height, width), quality


def _loss(
    sam: Sam, drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]], device: torch.device
) -> tuple[Tensor, float]:
    images = torch.from_numpy(np.stack([image for image, _, _ in drawn])).to(device)
    boxes = torch.from_numpy(np.concatenate([boxes for _, boxes, _ in drawn])).to(device)
    masks = torch.from_numpy(np.concatenate([masks for _, _, masks in drawn])).to(device).float()
    counts = torch.tensor([len(boxes) for _, boxes, _ in drawn])
    rows = torch.repeat_interleave(torch.arange(len(drawn)), counts).to(device)
    logits, quality = predict(sam, images, boxes, rows)
    near = 0.1 + 0.9 * _surroundings(boxes, *masks.shape[1:])
    cross = F.binary_cross_entropy_with_logits(logits, masks, reduction="none") * near
    cross = cross.sum((1, 2)) / near.sum((1, 2))
    with torch.no_grad():
        hard = logits > 0
        both = (hard & (masks > 0)).sum((1, 2))
        overlap = both / (hard | (masks > 0)).sum((1, 2)).clamp(min=1)
    loss = dice_loss(logits, masks).mean() + 2 * cross.mean() + F.mse_loss(quality, overlap)
    return loss, float(overlap.mean())


def _surroundings(boxes: Tensor, height: int, width: int, margin: float = 12.0) -> Tensor:
    """1 within ``margin`` pixels of each box, else 0: [n, H, W]."""
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    across = (x > low[:, :1]) & (x < high[:, :1])
    down = (y > low[:, 1:]) & (y < high[:, 1:])
    return (down[:, :, None] & across[:, None, :]).float()
