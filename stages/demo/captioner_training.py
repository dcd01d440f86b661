"""Trains the demo captioner in three parts: to look, to name, to write.

*Look*: the image encoder alone tells colour, shape, size and place in every cell of a frame.
*Name*: the encoder frozen, the language model writes the answer's first positive, which names the
target; one of its attention heads is taught to lie on the target meanwhile, and its lower layers
to tell how things move. *Write*: the same, and the whole answer every third step.

All lessons of a video share one sequence, in which the frames come once and no lesson sees
another: several times as many lessons in the same time.

Letters: B videos, T frames of each, L tokens, c cells of a frame, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

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

_LOOK_GROUPS = [len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1, ROWS, COLUMNS]
_WORD_NORM = 0.6
_READING_LAYER, _MOVING_LAYER, _FINDING_LAYER = 1, 1, 3
"""Layers of which the first attention head reads the expression, the hidden states tell movement,
and the first attention head finds the target."""


_POOL = 128
_NAME_BATCH, _WHOLE_BATCH = (8, 12), (6, 5)
"""Videos of a step, and lessons of each at most."""


@dataclass(frozen=True)
class Pack:
    """Lessons of one video in one sequence: frames, then lesson after lesson.

    Attributes:
        ids: int64 [L].
        positions: int64 [3, L]; those of every lesson follow the frames.
        owner: int64 [L], which lesson a token is of; -1 for the frames.
        learnt: float32 [L], weight of writing a token; 0 for what is given.
        asks: bool [L], tokens that should attend to the expression, then to the target.
        given: bool [L], tokens of an expression.
        lessons: in the order of ``owner``.
    """

    ids: Tensor
    positions: Tensor
    owner: Tensor
    learnt: Tensor
    asks: Tensor
    given: Tensor
    lessons: tuple[Lesson, ...]


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
    """Trains the language model, the image encoder frozen, to write the first positive and, every
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


def pack_lessons(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    lessons: Sequence[Lesson],
    *,
    whole: bool,
) -> Pack:
    """Puts lessons of one video into one sequence. A first positive's words weigh 5, other
    words of positives 1, negatives, which are drawn at random, a fifth.
    """
    tokenizer = processor.tokenizer
    frames = _frame_tokens(model, processor, len(lessons[0].images))
    start = int(frames.positions.max()) + 1
    ids, positions = [frames.ids], [frames.positions]
    owner, learnt = [torch.full_like(frames.ids, -1)], [torch.zeros(len(frames.ids))]
    asks, given = ([torch.zeros(len(frames.ids), dtype=torch.bool)] for _ in range(2))
    marks = tokenizer.convert_tokens_to_ids(
        ['", "confidence": ', '"negatives": [', "<|assistant|>"]
    )
    for row, lesson in enumerate(lessons):
        answer = f"{lesson.answer}<|end|>" if whole else lesson.first_positive
        text = f"{lesson.expression}<|end|><|assistant|>{answer}"
        tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        confident, negative, asked = (tokens == mark for mark in marks)
        started = asked.cumsum(0).bool()
        answered = started & ~asked
        first = answered & (confident.cumsum(0) == 0)
        weight = torch.where(negative.cumsum(0) > 0, 0.2, 1.0) + 4.0 * first
        ids.append(tokens)
        owner.append(torch.full_like(tokens, row))
        learnt.append(weight * answered)
        asks.append(first | asked)
        given.append(~started)
        positions.append((start + torch.arange(len(tokens))).expand(3, -1))
    return Pack(
        torch.cat(ids),
        torch.cat(positions, 1),
        torch.cat(owner),
        torch.cat(learnt),
        torch.cat(asks),
        torch.cat(given),
        tuple(lessons),
    )


@dataclass(frozen=True)
class Seen:
    """What comes of packs.

    Attributes:
        logits: float [B, L, vocabulary].
        reading: float [B, L, L], attention of the head that is to read the expression; empty
            where the attention in use gives no weights.
        finding: the same of the head that is to find the target.
        hidden: float [B, L, C], after the layer that is to tell movement.
    """

    logits: Tensor
    reading: Tensor
    finding: Tensor
    hidden: Tensor


def run_packs(
    model: Qwen2VLForConditionalGeneration, packs: Sequence[Pack], features: Sequence[Tensor]
) -> Seen:
    """Runs the language model on packs, padded to the longest; ``features`` [T c, C] of each."""
    device = features[0].device
    length = max(len(pack.ids) for pack in packs)
    ids = torch.stack([F.pad(pack.ids, (0, length - len(pack.ids))) for pack in packs]).to(device)
    positions = torch.stack(
        [F.pad(pack.positions, (0, length - len(pack.ids))) for pack in packs], 1
    ).to(device)
    owner = _padded_owner(packs, length).to(device)
    words = model.get_input_embeddings()(ids)
    images = ids == model.config.image_token_id
    words = words.masked_scatter(images[..., None], torch.cat(list(features)).to(words.dtype))
    mask = _mask(owner, words.dtype)
    kept: dict[str, Tensor] = {}
    language = model.model.language_model

    def keep(name: str, part: Callable[[Any], Tensor]) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, given, out: kept.update({name: part(out)})

    def first_head(out: Any) -> Tensor:
        weights: Tensor | None = out[1]
        return words.new_zeros(0) if weights is None else weights[:, 0]

    layers = language.layers
    hooks = [
        layers[_MOVING_LAYER].register_forward_hook(
            keep("hidden", lambda out: out if torch.is_tensor(out) else out[0])
        ),
        layers[_READING_LAYER].self_attn.register_forward_hook(keep("reading", first_head)),
        layers[_FINDING_LAYER].self_attn.register_forward_hook(keep("finding", first_head)),
    ]
    try:
        found = language(
            inputs_embeds=words,
            attention_mask={"full_attention": mask},
            position_ids=positions,
            use_cache=False,
        )
    finally:
        for hook in hooks:
            hook.remove()
    logits: Tensor = model.lm_head(found.last_hidden_state)
    return Seen(logits, kept["reading"], kept["finding"], kept["hidden"])


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


@dataclass(frozen=True)
class _Frames:
    ids: Tensor
    positions: Tensor


def _frame_tokens(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, count: int
) -> _Frames:
    """What comes before an expression: ids [L] and rotary positions [3, L]."""
    convert: Callable[[str], int] = processor.tokenizer.convert_tokens_to_ids
    image = [convert("<|vision_start|>"), *[convert("<|image_pad|>")] * (ROWS * COLUMNS)]
    ids = torch.tensor([[convert("<|user|>"), *[*image, convert("<|vision_end|>")] * count]])
    kinds = (ids == convert("<|image_pad|>")).int()
    merge = cast(Any, model.config.vision_config).spatial_merge_size
    grid = torch.tensor([[1, ROWS * merge, COLUMNS * merge]] * count)
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
    return _Frames(ids[0], positions[:, 0])


def _padded_owner(packs: Sequence[Pack], length: int) -> Tensor:
    """int64 [B, L]: as ``Pack.owner``, -2 for padding."""
    return torch.stack([F.pad(p.owner, (0, length - len(p.owner)), value=-2) for p in packs])


def _mask(owner: Tensor, dtype: torch.dtype) -> Tensor:
    """Float [B, 1, L, L], 0 where a token may look: back, at the frames and at its own lesson."""
    length = owner.shape[1]
    back = torch.ones(length, length, dtype=torch.bool, device=owner.device).tril()
    same = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == -1)
    hidden = torch.zeros(same.shape, dtype=dtype, device=owner.device)
    return hidden.masked_fill_(~(same & back), torch.finfo(dtype).min)[:, None]


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
        image = _image_places(pack)
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
        places = _image_places(pack)[ROWS * COLUMNS :]
        losses.append(F.cross_entropy(found[row, places], wanted))
    return torch.stack(losses).mean()


def _image_places(pack: Pack) -> Tensor:
    """int64 [T c]: where the image tokens are."""
    frames = int((pack.owner == -1).sum())
    places = torch.arange(1, frames).view(-1, ROWS * COLUMNS + 2)
    return places[:, 1:-1].flatten()
