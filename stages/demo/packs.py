"""Lessons of one video in one sequence: the frames once, then lesson after lesson, none of which
sees another. To the model a packed lesson is what it is alone, in a fraction of the time.

Letters: B videos, T frames of each, L tokens, c cells of a frame, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from stages.demo.lessons import COLUMNS, ROWS, Lesson

_READING_LAYER, _MOVING_LAYER, _FINDING_LAYER = 1, 1, 3
"""Layers of which the first attention head reads the expression, the hidden states tell movement,
and the first attention head finds the target."""


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
    """The outputs of the language model for packs.

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


@dataclass(frozen=True)
class _Frames:
    ids: Tensor
    positions: Tensor


def _frame_tokens(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, count: int
) -> _Frames:
    """The tokens before an expression: ids [L] and rotary positions [3, L]."""
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


def image_places(pack: Pack) -> Tensor:
    """int64 [T c]: where the image tokens are."""
    frames = int((pack.owner == -1).sum())
    places = torch.arange(1, frames).view(-1, ROWS * COLUMNS + 2)
    return places[:, 1:-1].flatten()
