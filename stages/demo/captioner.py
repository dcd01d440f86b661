"""Trains the demo captioner: a small Qwen2-VL, from nothing, on videos of ``shapes``.

It sees a few frames and an expression and writes the same JSON that a published model is asked
for. Before it writes it learns to look: to name colour, shape and size in every cell of a frame.

Letters: B videos, T frames of each, L tokens, V vocabulary, c cells of a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image as Pillow
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from pipeline.shapes.language import (
    MOVEMENTS,
    View,
    hard_negatives,
    referring_expressions,
    sentences,
    view,
    vocabulary,
)
from pipeline.shapes.render import render
from pipeline.shapes.scene import COLOURS, SHAPES, SIZES, sample_scene
from stages.demo.cycle import Recipe, run_cycle

FRAMES, NEGATIVES = 4, 8
PROMPT = {"template": "{expression}", "version": "shapes-1"}
_PATCH, _MERGE, _WIDTH = 8, 2, 128
_CELL_GROUPS = [len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1]
_WORD_NORM = 0.6
_PIECES = (
    '{"positives": [',
    '{"text": "',
    '", "confidence": ',
    "}, ",
    "}], ",
    '"negatives": [',
    '", "kind": "',
    '"}, ',
    '"}]}',
    "]}",
    "category",
    "attribute",
    "action",
    "relation",
)
_CONFIDENCES = ("0.95", "0.9", "0.85", "0.8", "0.75", "0.7")
_SPECIAL = ("<|pad|>", "<|unknown|>", "<|end|>", "<|user|>", "<|assistant|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Lesson:
    """One thing to learn: frames and an expression in, an answer out.

    Attributes:
        images: T frames uint8 [H, W, 3].
        cells: int64 [T, c, 3], colour, shape and size in each cell; 0 for background.
        target: index of the object, for scoring.
        names: (size, colour, shape) of the target.
    """

    images: tuple[np.ndarray, ...]
    cells: np.ndarray
    expression: str
    kind: str
    answer: str
    names: tuple[str, str, str]


def build_processor() -> Qwen2VLProcessor:
    """Image processor, tokenizer and chat template; frames of 256 x 144 become 10 x 6 cells."""
    words = [form for word in vocabulary() for form in (word, f" {word}")]
    pieces = [*_SPECIAL, *_VISION, *_PIECES, *_CONFIDENCES, *words]
    vocab = {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<|unknown|>"))
    fixed = sorted((*_PIECES, *_CONFIDENCES), key=len, reverse=True)
    pattern = "|".join([*(_escaped(piece) for piece in fixed), " ?[a-z]+", "[\\s\\S]"])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", *_VISION],
    )
    sizes: dict[str, Any] = {
        "patch_size": _PATCH,
        "merge_size": _MERGE,
        "temporal_patch_size": 1,
        "size": {"shortest_edge": 1024, "longest_edge": 16384},
    }
    return Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes),
        tokenizer,
        Qwen2VLVideoProcessor(**sizes),
        chat_template=_TEMPLATE,
    )


def build_captioner(processor: Qwen2VLProcessor) -> Qwen2VLForConditionalGeneration:
    """The demo model: the published classes, about 1.6 million parameters."""
    ids = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": _WIDTH,
            "intermediate_size": 3 * _WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            "max_window_layers": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": None,
            "eos_token_id": ids("<|end|>"),
            "pad_token_id": ids("<|pad|>"),
        },
        vision_config={
            "depth": 4,
            "embed_dim": 96,
            "num_heads": 4,
            "mlp_ratio": 3,
            "hidden_size": _WIDTH,
            "patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": 1,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2VLForConditionalGeneration(config)


def draw_lessons(rng: Generator) -> list[Lesson]:
    """The lessons of a new video, one an expression."""
    while True:
        scene = sample_scene(rng)
        times = np.linspace(0, scene.frames - 1, FRAMES).round().astype(int)
        seen = view(scene)
        said = [item for item in referring_expressions(scene, rng) if seen.seen(item.target)]
        if said:
            break
    drawn = [render(scene, int(moment)) for moment in times]
    images = tuple(item.image for item in drawn)
    kinds = np.array([_labels(item) for item in scene.objects])
    cells = np.stack([_cells(item.masks, kinds) for item in drawn])
    lessons = []
    for item in said:
        target = scene.objects[item.target]
        answer = write_answer(seen, item.target, rng)
        names = (target.size, target.colour, target.shape)
        lessons.append(Lesson(images, cells, item.text, item.kind, answer, names))
    return lessons


def write_answer(seen: View, target: int, rng: Generator) -> str:
    """The answer that is right for an object, as JSON of the form that the stage asks for."""
    item = seen.objects[target]
    size, colour, shape = item.size, item.colour, item.shape
    positives = [
        (f"the {size} {colour} {shape}", "0.95"),
        (f"a {shape} that is {size} and {colour}", "0.9"),
        (f"the {size} {shape} in {colour} colour", "0.9"),
        (f"the {colour} {shape} {MOVEMENTS[item.motion][0]}", "0.8"),
    ]
    found = sentences(seen, target, rng)
    named = [s.text for s in found["place"] if s.text.startswith(f"the {colour} {shape}")]
    named += [s.text for s in found["relation"] if s.text.startswith(f"the {colour} {shape}")]
    if named:
        positives.append((named[0], "0.75"))
    written = ", ".join(
        f'{{"text": "{text}", "confidence": {confidence}}}' for text, confidence in positives
    )
    negatives = ", ".join(
        f'{{"text": "{item.text}", "kind": "{item.kind}"}}'
        for item in hard_negatives(seen, target, NEGATIVES, rng)
    )
    return f'{{"positives": [{written}], "negatives": [{negatives}]}}'


def train_captioner(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    *,
    look_steps: int,
    write_steps: int,
    seed: int,
    device: torch.device,
) -> None:
    """Trains in place: first to look, then, the image encoder frozen, to write.

    In between, the words for colour, shape and size get the directions by which the image encoder
    tells them apart as their embeddings: to the language model an image token then looks like the
    words for what it shows, and the attention that copies a word copies from the image too.
    """
    nn.Module.to(model, device).train()
    heads = nn.Linear(_WIDTH, sum(_CELL_GROUPS))
    with torch.no_grad():
        heads.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed))
    heads.to(device)

    def look(lessons: Sequence[Lesson]) -> tuple[Tensor, dict[str, float]]:
        loss = _look_loss(model, processor, heads, lessons, device)
        return loss, {"cells": float(loss.detach())}

    def write(lessons: Sequence[Lesson]) -> tuple[Tensor, dict[str, float]]:
        loss, named = _write_loss(model, processor, lessons, device)
        return loss, {"words": float(loss.detach()), "names": named}

    weights = [*model.model.visual.parameters(), *heads.parameters()]
    _run(look, weights, np.random.default_rng(seed), look_steps, 16, 1.5e-3)
    embed_attributes(model, processor, heads)
    model.model.visual.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    _run(write, weights, np.random.default_rng((seed, 1)), write_steps, 32, 2e-3)
    model.model.visual.requires_grad_(True)


def _run(
    loss_of: Callable[[Sequence[Lesson]], tuple[Tensor, dict[str, float]]],
    weights: Sequence[nn.Parameter],
    rng: Generator,
    steps: int,
    batch: int,
    rate: float,
) -> None:
    pool: list[Lesson] = []

    def learn() -> tuple[Tensor, dict[str, float]]:
        while len(pool) < 2 * batch:
            pool.extend(draw_lessons(rng))
        chosen = sorted(rng.choice(len(pool), batch, replace=False).tolist(), reverse=True)
        return loss_of([pool.pop(row) for row in chosen])

    recipe = Recipe(rate, warm_steps=60, weight_decay=1e-3, betas=(0.9, 0.98))
    run_cycle(learn, weights, steps, recipe)


def embed_attributes(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, heads: nn.Linear
) -> None:
    """Gives the words for colour, shape and size the directions of the cell classifier."""
    vocab = processor.tokenizer.get_vocab()
    table = cast(Tensor, model.get_input_embeddings().weight)
    vocabularies: tuple[Iterable[str], ...] = (COLOURS, SHAPES, SIZES)
    with torch.no_grad():
        for group, words in zip(heads.weight.split(_CELL_GROUPS), vocabularies, strict=True):
            directions = F.normalize(group[1:] - group[1:].mean(0), dim=1) * _WORD_NORM
            for word, direction in zip(words, directions, strict=True):
                for form in (word, f" {word}"):
                    table[vocab[form]] = direction


def save_captioner(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, folder: Path
) -> None:
    """Writes weights in half precision, processor and prompt as ``from_pretrained`` reads them."""
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "prompt.json").write_text(json.dumps(PROMPT) + "\n", encoding="utf-8")


def _escaped(piece: str) -> str:
    return "".join(f"\\{char}" if char in '{}[]."|?*+()^$\\' else char for char in piece)


def _labels(item: Any) -> tuple[int, int, int]:
    return (
        1 + list(COLOURS).index(item.colour),
        1 + SHAPES.index(item.shape),
        1 + list(SIZES).index(item.size),
    )


def _cells(masks: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Labels [60, 3] of the 6 x 10 cells: of the object that fills a third of a cell or more."""
    rows, columns = 6, 10
    shares = F.adaptive_avg_pool2d(torch.from_numpy(masks.astype(np.float32)), (rows, columns))
    flat = shares.flatten(1).numpy()
    best = flat.argmax(0)
    labels: np.ndarray = np.where(flat.max(0)[:, None] > 0.3, kinds[best], 0)
    return labels


def encode_lessons(
    processor: Qwen2VLProcessor, lessons: Sequence[Lesson], device: torch.device
) -> tuple[Any, Tensor]:
    """Model inputs and labels [B, L], -100 where there is nothing to learn."""
    tokenizer = processor.tokenizer
    texts = []
    for lesson in lessons:
        content: list[Any] = [{"type": "image"} for _ in lesson.images]
        content.append({"type": "text", "text": lesson.expression})
        messages: Any = [{"role": "user", "content": content}]
        asked = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        texts.append(f"{asked}{lesson.answer}<|end|>")
    pictures = [[Pillow.fromarray(image) for image in lesson.images] for lesson in lessons]
    tokenizer.padding_side = "right"
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt").to(device)
    ids = inputs["input_ids"]
    start = (ids == tokenizer.convert_tokens_to_ids("<|assistant|>")).long().argmax(1)
    after = torch.arange(ids.shape[1], device=device) > start[:, None]
    return inputs, torch.where(after & (inputs["attention_mask"] > 0), ids, -100)


def _look_loss(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    heads: nn.Linear,
    lessons: Sequence[Lesson],
    device: torch.device,
) -> Tensor:
    """Cross-entropy of colour, shape and size in every cell, from the image tokens."""
    pictures = [Pillow.fromarray(image) for lesson in lessons for image in lesson.images]
    inputs = processor.image_processor(pictures, return_tensors="pt").to(device)
    tokens = model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    found = heads(torch.cat(list(tokens.pooler_output)))
    wanted = torch.from_numpy(np.stack([lesson.cells for lesson in lessons])).to(device)
    losses = [
        F.cross_entropy(part, wanted.reshape(-1, 3)[:, column])
        for column, part in enumerate(found.split(_CELL_GROUPS, dim=1))
    ]
    return torch.stack(losses).sum()


def _write_loss(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    lessons: Sequence[Lesson],
    device: torch.device,
) -> tuple[Tensor, float]:
    """Cross-entropy of the answer; its negatives, drawn at random, weigh a fifth. Also the
    cross-entropy of the first positive's words alone, which is what seeing the target means."""
    inputs, labels = encode_lessons(processor, lessons, device)
    logits = model(**inputs).logits[:, :-1].float()
    wanted = labels[:, 1:]
    each = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=-100)
    ids = processor.tokenizer.convert_tokens_to_ids
    negatives = (wanted == ids('"negatives": [')).cumsum(1) > 0
    texts = (wanted == ids('{"text": "')).cumsum(1)
    ends = (wanted == ids('", "confidence": ')).cumsum(1)
    first = (texts == 1) & (ends == 0)
    weight = torch.where(negatives, 0.2, 1.0) + 4.0 * first
    weight = weight * (wanted != -100)
    return (each * weight).sum() / weight.sum(), float((each * first).sum() / first.sum())
