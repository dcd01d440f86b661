"""Trains the demo grounder, a small Grounding DINO, from scratch on frames of ``shapes``.

First the backbone and the text encoder alone learn which words go with which object (``bind``);
then the whole model learns to find it. The losses are DETR's set losses on the encoder's proposals
and on every decoder layer, and, in both phases, two on the projected backbone features: a region's
mean feature against each sentence, and every cell against each sentence.

Letters: B frames, Q queries, L tokens, S sentences of a caption, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from numpy.random import Generator
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

from pipeline.geometry import masks_to_boxes
from pipeline.shapes.language import view
from pipeline.shapes.render import Rendered, render
from pipeline.shapes.scene import HEIGHT, WIDTH, Scene, sample_scene
from stages.common.preprocessing import normalise_frames
from stages.demo.cycle import Recipe, run_cycle
from stages.demo.phrases import Phrase, frame_phrases, name_phrases, visible_objects
from stages.ground.architecture import (
    FrameFeatures,
    Predictions,
    TextFeatures,
    encode_frames,
    encode_texts,
    run_transformer,
)

SHORT_SIDE, LONG_SIDE = 96, 192
CAPTION_LENGTHS = (1, 2, 6, 8, 10)
"""Sentences in a caption: at work there is one, in training several share a pass."""


_RECIPE = Recipe(rate=5e-4, warm_steps=100, clip=0.5)


@dataclass(frozen=True)
class Example:
    """One frame with a caption.

    Attributes:
        boxes: float32 [n, 4], centre x, centre y, width, height in [0, 1].
        says: bool [S, n], which sentence is true of which box.
        masks: bool [n, H, W].
    """

    image: np.ndarray
    phrases: tuple[Phrase, ...]
    boxes: Tensor
    says: np.ndarray
    masks: np.ndarray

    @property
    def caption(self) -> str:
        return "".join(f"{phrase.text} . " for phrase in self.phrases)


def draw_example(rng: Generator, sentences: int, *, names_only: bool = False) -> Example:
    """Draws a frame of a new scene and ``sentences`` about it; only names if asked."""
    scene: Scene = sample_scene(rng)
    moment = int(rng.integers(scene.frames))
    drawn: Rendered = render(scene, moment)
    visible = visible_objects(drawn.masks.sum((1, 2)), drawn.whole)
    draw = name_phrases if names_only else frame_phrases
    phrases = draw(view(scene, [moment]), visible, sentences, rng)
    order = sorted(visible)
    masks = drawn.masks[order]
    scale = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    boxes = box_convert(torch.from_numpy(masks_to_boxes(masks) / scale), "xyxy", "cxcywh")
    says = np.zeros((len(phrases), len(order)), np.bool_)
    for row, phrase in enumerate(phrases):
        says[row] = [index in phrase.targets for index in order]
    return Example(drawn.image, tuple(phrases), boxes.float(), says, masks)


def train_grounder(
    model: GroundingDINO,
    *,
    bind_steps: int,
    steps: int,
    seed: int,
    device: torch.device,
    batch: int = 16,
) -> None:
    """Trains in place: ``bind_steps`` of binding, then ``steps`` of the whole model."""
    rng = np.random.default_rng(seed)
    model.to(device).train()
    _soften_similarities(model)

    def bind() -> tuple[Tensor, dict[str, float]]:
        drawn = [draw_example(rng, 8, names_only=True) for _ in range(2 * batch)]
        return _bind_loss(model, drawn, device)

    run_cycle(bind, model.parameters(), bind_steps, replace(_RECIPE, rate=1e-3))
    _run_whole(model, rng, steps, batch, 5e-4, device)


def polish_grounder(
    model: GroundingDINO,
    *,
    steps: int,
    seed: int,
    cycle: int,
    device: torch.device,
    batch: int = 16,
) -> None:
    """A further, gentler cycle of the whole model on other videos; trains in place."""
    model.to(device).train()
    _run_whole(model, np.random.default_rng((seed, cycle)), steps, batch, 3e-4, device)


def _run_whole(
    model: GroundingDINO, rng: Generator, steps: int, batch: int, rate: float, device: torch.device
) -> None:
    def find() -> tuple[Tensor, dict[str, float]]:
        count = CAPTION_LENGTHS[int(rng.integers(len(CAPTION_LENGTHS)))]
        return _loss(model, [draw_example(rng, count) for _ in range(batch)], device)

    run_cycle(find, model.parameters(), steps, replace(_RECIPE, rate=rate))


def _soften_similarities(model: GroundingDINO) -> None:
    """The logits are dot products of 256 normalised numbers: start them near unit variance."""
    with torch.no_grad():
        model.transformer.decoder.norm.weight.fill_(0.25)
        model.transformer.enc_output_norm.weight.fill_(0.25)
        for layer in model.transformer.encoder.text_layers:
            layer.norm2.weight.fill_(0.25)


def _bind_loss(
    model: GroundingDINO, examples: list[Example], device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    frames, texts, owner = _encode(model, examples, device)
    parts = _feature_losses(frames, texts, owner, examples)
    return _sum(parts)


def _loss(
    model: GroundingDINO, examples: list[Example], device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    frames, texts, owner = _encode(model, examples, device)
    parts = _feature_losses(frames, texts, owner, examples)
    for name, found in zip(
        ("proposals", "first", "last"), run_transformer(model, frames, texts), strict=True
    ):
        words, boxes = _set_loss(found, owner, examples)
        parts[f"{name} words"] = words
        parts[f"{name} boxes"] = boxes
    return _sum(parts)


def _encode(
    model: GroundingDINO, examples: list[Example], device: torch.device
) -> tuple[FrameFeatures, TextFeatures, Tensor]:
    images = torch.from_numpy(np.stack([example.image for example in examples])).to(device)
    frames = encode_frames(model, normalise_frames(images, SHORT_SIDE, LONG_SIDE))
    texts = encode_texts(model, [example.caption for example in examples])
    return frames, texts, sentence_of_token(texts, [len(example.phrases) for example in examples])


def _sum(parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}


def sentence_of_token(texts: TextFeatures, counts: list[int]) -> Tensor:
    """int64 [B, L]: the sentence that each word belongs to, -1 for what is no word."""
    starts = texts.content & ~F.pad(texts.content, (1, 0))[:, :-1]
    owner = torch.where(texts.content, starts.cumsum(1) - 1, -1)
    assert owner.max(1).values.tolist() == [count - 1 for count in counts]
    return owner


def _feature_losses(
    frames: FrameFeatures, texts: TextFeatures, owner: Tensor, examples: list[Example]
) -> dict[str, Tensor]:
    """The projected features of every level against the sentences, before any transformer.

    ``regions``: a region's mean feature, is it what the sentence names? ``cells``: the same of
    every cell of the finest map, most of which are background.
    """
    regions, cells = [], []
    for row, example in enumerate(examples):
        members = F.one_hot(owner[row] + 1, len(example.phrases) + 1)[:, 1:].float()
        means_SC = members.T @ texts.encoded[row] / members.sum(0)[:, None]
        masks = torch.from_numpy(example.masks.astype(np.float32)).to(means_SC)
        says = torch.from_numpy(example.says).to(means_SC)
        for level, features in enumerate(frames.maps):
            if not len(masks):
                break
            size = features.shape[2], features.shape[3]
            share = F.adaptive_avg_pool2d(masks, size).flatten(1)
            share = share**2 / (share**2).sum(1, keepdim=True).clamp(min=1e-6)
            pooled_nC = share @ features[row].flatten(1).T
            logits = means_SC @ pooled_nC.T / 8
            regions.append(F.binary_cross_entropy_with_logits(logits, says))
            if level == 0:
                named = torch.einsum("sn,nhw->shw", says, masks)
                target = (F.adaptive_avg_pool2d(named, size) > 0.5).float()
                logits = torch.einsum("sc,chw->shw", means_SC, features[row]) / 8 - 3
                cells.append(F.binary_cross_entropy_with_logits(logits, target))
    if not regions:
        nothing = frames.maps[0].sum() * 0
        return {"regions": nothing, "cells": nothing}
    return {"regions": torch.stack(regions).mean(), "cells": torch.stack(cells).mean()}


def _set_loss(found: Predictions, owner: Tensor, examples: list[Example]) -> tuple[Tensor, Tensor]:
    """DETR's matching and losses, with a sentence's words in place of a class."""
    logits = found.logits.float()
    valid = owner >= 0
    target = torch.zeros_like(logits)
    predicted, wanted = [], []
    for row, example in enumerate(examples):
        if not example.says.any():
            continue
        says = torch.from_numpy(example.says).to(logits.device)
        named = says.any(0)
        words = says[owner[row].clamp(min=0)][:, named] & valid[row][:, None]  # [L, n]
        boxes = example.boxes.to(logits.device)[named]
        queries, objects = _match(logits[row].detach(), found.boxes[row].detach(), words, boxes)
        target[row, queries] = words.T[objects].float()
        predicted.append(found.boxes[row, queries])
        wanted.append(boxes[objects])
    words_loss = _focal(logits, target, valid)
    if not predicted:
        return words_loss, logits.new_zeros(())
    a, b = torch.cat(predicted), torch.cat(wanted)
    overlap = generalized_box_iou(_corners(a), _corners(b)).diagonal()
    boxes_loss = 5 * F.l1_loss(a, b, reduction="none").sum(1).mean() + 2 * (1 - overlap).mean()
    return words_loss, boxes_loss


def _focal(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Focal loss over words, balanced to the number of positive ones."""
    logits = logits.clamp(-20, 20)
    loss: Tensor = sigmoid_focal_loss(logits, target, alpha=0.4, gamma=2) * valid[:, None]
    return 2 * loss.sum() / target.sum().clamp(min=len(logits))


def _match(logits: Tensor, boxes: Tensor, words: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Hungarian matching of queries [Q] to objects [n]; returns the rows of both."""
    share = words.float() / words.sum(0).clamp(min=1)
    claim = logits.clamp(-20, 20).sigmoid().nan_to_num() @ share
    overlap = generalized_box_iou(_corners(boxes), _corners(wanted))
    cost = 5 * torch.cdist(boxes, wanted, p=1) - 2 * overlap - 3 * claim
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(rows).to(logits.device), torch.from_numpy(columns).to(logits.device)


def _corners(boxes: Tensor) -> Tensor:
    corners: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return corners
