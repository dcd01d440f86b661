"""Trains the demo captioner in three parts: to look, to name, to write.

*Look*: the image encoder alone tells colour, shape, size and place in every cell of a frame.
*Name*: the encoder frozen, the language model writes the answer's first positive, which names the
target; one of its attention heads is taught to lie on the target meanwhile, and its lower layers
to tell how things move. *Write*: the same, and the whole answer every third step.

Letters: B videos, T frames of each, L tokens, c cells of a frame, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from pipeline.shapes.scene import COLOURS, MOTIONS, SHAPES, SIZES
from stages.demo.captioner import WIDTH
from stages.demo.cycle import Recipe, run_cycle
from stages.demo.lessons import COLUMNS, ROWS, Lesson, draw_lessons
from stages.demo.packs import Pack, image_places, pack_lessons, run_packs

_LOOK_GROUPS = [len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1, ROWS, COLUMNS]
_WORD_NORM = 0.6


_POOL = 128
_NAME_BATCH, _WHOLE_BATCH = (8, 12), (6, 5)
"""Videos of a step, and lessons of each at most."""


def train_captioner(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    *,
    look_steps: int,
    name_steps: int,
    write_steps: int,
    seed: int,
    device: torch.device,
) -> None:
    """Trains in place.

    Between the first part and the second, the words for colour, shape and size get the directions
    by which the image encoder tells them apart as their embeddings: to the language model an image
    token then looks like the words for what it shows.
    """
    nn.Module.to(model, device).train()
    heads = learn_to_look(model, processor, look_steps, seed, device)
    embed_attributes(model, processor, heads)
    learn_to_write(model, processor, name_steps, (seed, 1), device, whole_every=None)
    learn_to_write(model, processor, write_steps, (seed, 2), device, whole_every=3)


def learn_to_look(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    steps: int,
    seed: int,
    device: torch.device,
    rate: float = 1.5e-3,
) -> nn.Linear:
    """Trains the image encoder; returns the classifier of cells that it was trained with."""
    rng = np.random.default_rng(seed)
    heads = nn.Linear(WIDTH, sum(_LOOK_GROUPS))
    with torch.no_grad():
        heads.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed))
    heads.to(device)

    def look() -> tuple[Tensor, dict[str, float]]:
        videos = [draw_lessons(rng)[0] for _ in range(12)]
        found = heads(torch.cat(_image_tokens(model, processor, videos, device)))
        return _cell_losses(found, videos)

    run_cycle(look, [*model.model.visual.parameters(), *heads.parameters()], steps, _recipe(rate))
    return heads


def learn_to_write(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    steps: int,
    seed: tuple[int, int],
    device: torch.device,
    *,
    whole_every: int | None,
    rate: float = 1.5e-3,
) -> None:
    """Trains the language model with a frozen image encoder to write the first positive and, every
    so many steps, the whole answer.
    """
    videos = _Videos(model, processor, np.random.default_rng(seed), device)
    step = 0
    movement = nn.Linear(WIDTH, len(MOTIONS) + 1).to(device)
    with torch.no_grad():
        movement.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed[1]))
    model.model.visual.requires_grad_(False)
    attention = model.config._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})  # only it gives the weights

    def write() -> tuple[Tensor, dict[str, float]]:
        nonlocal step
        step += 1
        whole = whole_every is not None and step % whole_every == 0
        drawn = videos.next(*_WHOLE_BATCH if whole else _NAME_BATCH)
        packs = [pack_lessons(model, processor, lessons, whole=whole) for lessons, _ in drawn]
        seen = run_packs(model, packs, [features for _, features in drawn])
        parts = {
            "words": _word_loss(seen.logits, packs),
            "reads": 0.2 * _reading_loss(seen.reading, packs),
            "finds": 0.5 * _finding_loss(seen.finding, packs),
            "moves": 0.3 * _moving_loss(movement(seen.hidden), packs),
        }
        return _sum(parts)

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    run_cycle(write, [*weights, *movement.parameters()], steps, _recipe(rate))
    model.set_attn_implementation({"text_config": attention})
    model.model.visual.requires_grad_(True)


def embed_attributes(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, heads: nn.Linear
) -> None:
    """Gives the words for colour, shape and size the directions of the cell classifier."""
    vocab = processor.tokenizer.get_vocab()
    table = cast(Tensor, model.get_input_embeddings().weight)
    vocabularies: tuple[Iterable[str], ...] = (COLOURS, SHAPES, SIZES)
    groups = heads.weight.split(_LOOK_GROUPS)
    with torch.no_grad():
        for group, words in zip(groups, vocabularies, strict=False):
            directions = F.normalize(group[1:] - group[1:].mean(0), dim=1) * _WORD_NORM
            for word, direction in zip(words, directions, strict=True):
                for form in (word, f" {word}"):
                    table[vocab[form]] = direction


class _Videos:
    """Videos to draw lessons from, a few at a time. A new one must be drawn and encoded, so only
    one in four is new; the others are drawn again, with lessons in another order.
    """

    def __init__(
        self,
        model: Qwen2VLForConditionalGeneration,
        processor: Qwen2VLProcessor,
        rng: Generator,
        device: torch.device,
    ) -> None:
        self._model, self._processor, self._device, self._rng = model, processor, device, rng
        self._pool: list[tuple[list[Lesson], Tensor]] = []

    def next(self, videos: int, most: int) -> list[tuple[list[Lesson], Tensor]]:
        """Lessons of some videos, at most ``most`` of each, and each video's image features."""
        for _ in range(max(videos // 4, videos - len(self._pool))):
            if len(self._pool) < _POOL:
                self._pool.append(self._draw())
            else:
                self._pool[int(self._rng.integers(len(self._pool)))] = self._draw()
        chosen = self._rng.choice(len(self._pool), videos, replace=False)
        drawn = []
        for index in chosen:
            lessons, features = self._pool[index]
            order = self._rng.permutation(len(lessons))[:most]
            drawn.append(([lessons[row] for row in order], features))
        return drawn

    def _draw(self) -> tuple[list[Lesson], Tensor]:
        lessons = draw_lessons(self._rng, each=4)
        with torch.no_grad():
            [features] = _image_tokens(self._model, self._processor, lessons[:1], self._device)
        return lessons, features


def _recipe(rate: float) -> Recipe:
    return Recipe(rate, warm_steps=60, weight_decay=1e-3, betas=(0.9, 0.98))


def _sum(parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}


def _image_tokens(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    videos: Sequence[Lesson],
    device: torch.device,
) -> list[Tensor]:
    """Image tokens [T c, C] of each video."""
    pictures = [Pillow.fromarray(image) for lesson in videos for image in lesson.images]
    inputs = processor.image_processor(pictures, return_tensors="pt").to(device)
    tokens = model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    frames = torch.stack(list(tokens.pooler_output))
    return list(frames.flatten(0, 1).chunk(len(videos)))


def _cell_losses(found: Tensor, videos: Sequence[Lesson]) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of colour, shape, size, row and column in every cell."""
    wanted = torch.from_numpy(np.stack([lesson.cells for lesson in videos])).to(found.device)
    cell = torch.arange(ROWS * COLUMNS, device=found.device).expand(wanted.shape[:3])
    columns = [*wanted.unbind(-1), cell // COLUMNS, cell % COLUMNS]
    names = ("colour", "shape", "size", "row", "column")
    parts = {
        name: F.cross_entropy(part, target.flatten())
        for name, part, target in zip(names, found.split(_LOOK_GROUPS, dim=1), columns, strict=True)
    }
    return _sum(parts)


def _word_loss(logits: Tensor, packs: Sequence[Pack]) -> Tensor:
    losses, weights = [], []
    for row, pack in enumerate(packs):
        learnt = pack.learnt[1:].to(logits.device)
        chosen = learnt > 0
        found = logits[row, : len(pack.ids) - 1][chosen].float()
        wanted = pack.ids[1:].to(logits.device)[chosen]
        losses.append(F.cross_entropy(found, wanted, reduction="none") * learnt[chosen])
        weights.append(learnt[chosen])
    return torch.cat(losses).sum() / torch.cat(weights).sum()


def _reading_loss(attention: Tensor, packs: Sequence[Pack]) -> Tensor:
    """Negative logarithm of the reading head's attention on the lesson's own expression."""
    losses = []
    for row, pack in enumerate(packs):
        asks = pack.asks.nonzero()[:, 0]
        given = pack.given & (pack.owner[asks, None] == pack.owner)
        mass = (attention[row, asks][:, : len(pack.ids)] * given.to(attention.device)).sum(1)
        losses.append(-(mass + 1e-6).log())
    return torch.cat(losses).mean()


def _finding_loss(attention: Tensor, packs: Sequence[Pack]) -> Tensor:
    """Negative logarithm of the finding head's attention on the target, where it is seen."""
    losses = []
    for row, pack in enumerate(packs):
        image = image_places(pack)
        on_target = torch.from_numpy(np.stack([x.on_target.ravel() for x in pack.lessons]))
        asks = pack.asks.nonzero()[:, 0]
        wanted = on_target[pack.owner[asks]].to(attention.device)
        mass = (attention[row, asks][:, image] * wanted).sum(1)
        losses.append(-(mass[wanted.any(1)] + 1e-6).log())
    return torch.cat(losses).mean()


def _moving_loss(found: Tensor, packs: Sequence[Pack]) -> Tensor:
    """Cross-entropy of the movement of what fills a cell, in all frames but the first."""
    losses = []
    for row, pack in enumerate(packs):
        wanted = torch.from_numpy(pack.lessons[0].movements)[1:].flatten().to(found.device)
        places = image_places(pack)[ROWS * COLUMNS :]
        losses.append(F.cross_entropy(found[row, places], wanted))
    return torch.stack(losses).mean()
