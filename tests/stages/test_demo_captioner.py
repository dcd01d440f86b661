"""The demo captioner's lessons: right answers, in the form that the stage reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import AugmentConfig
from pipeline.shapes.scene import COLOURS, SHAPES, SIZES
from stages.augment import load_captioner
from stages.augment.parse import parse_answer
from stages.demo.captioner import (
    PROMPT,
    Lesson,
    build_captioner,
    build_processor,
    draw_lessons,
    encode_lessons,
    save_captioner,
)
from stages.demo.figures import attributes_right

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    rng = np.random.default_rng(53)
    return [lesson for _ in range(25) for lesson in draw_lessons(rng)]


def test_answers_parse_and_nothing_of_them_is_left_out(lessons: list[Lesson]) -> None:
    for lesson in lessons:
        parsed = parse_answer(lesson.answer, lesson.expression, 20, 20)
        written = json.loads(lesson.answer)
        repeated = parsed.left_out.pop("positive twice", 0)
        assert parsed.left_out == {} and repeated <= 1, "the expression itself, if anything"
        assert len(parsed.positives) == len(written["positives"]) - repeated >= 3
        assert len(parsed.negatives) == len(written["negatives"]) >= 4
        texts = [text for text, _ in parsed.positives]
        assert not set(texts) & {item.text for item in parsed.negatives}


def test_positives_name_the_target_and_some_negatives_do_not(lessons: list[Lesson]) -> None:
    for lesson in lessons:
        written = json.loads(lesson.answer)
        for item in written["positives"]:
            assert attributes_right(item["text"], lesson.names), item
            assert 0 < item["confidence"] <= 1
        wrong = [not attributes_right(item["text"], lesson.names) for item in written["negatives"]]
        kinds = [item["kind"] for item in written["negatives"]]
        for false, kind in zip(wrong, kinds, strict=True):
            assert false == (kind in ("category", "attribute"))


def test_the_tokenizer_gives_every_sentence_and_answer_back(
    processor: Any, lessons: list[Lesson]
) -> None:
    tokenizer = processor.tokenizer
    for lesson in lessons:
        for text in (lesson.expression, lesson.answer):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids, text
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_an_image_becomes_as_many_tokens_as_it_has_cells(
    processor: Any, lessons: list[Lesson]
) -> None:
    inputs, _ = encode_lessons(processor, lessons[:2], CPU)
    images = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    cells = [lesson.cells.shape[0] * lesson.cells.shape[1] for lesson in lessons[:2]]
    assert ((inputs["input_ids"] == images).sum(1)).tolist() == cells


def test_only_the_answer_and_its_end_are_learnt(processor: Any, lessons: list[Lesson]) -> None:
    _, labels = encode_lessons(processor, lessons[:3], CPU)
    for lesson, row in zip(lessons[:3], labels, strict=True):
        taught = processor.tokenizer.decode(row[row >= 0], clean_up_tokenization_spaces=False)
        assert taught == lesson.answer + "<|end|>"


def test_cells_say_what_fills_them(lessons: list[Lesson]) -> None:
    for lesson in lessons[:10]:
        size, colour, shape = lesson.names
        wanted = (
            1 + list(COLOURS).index(colour),
            1 + SHAPES.index(shape),
            1 + list(SIZES).index(size),
        )
        assert lesson.cells.shape == (4, 60, 3)
        cells = {tuple(cell) for cell in lesson.cells.reshape(-1, 3).tolist()}
        assert (0, 0, 0) in cells, "background"
        if size == "large":
            assert wanted in cells or len(lesson.images) < 4


def test_attributes_are_read_from_the_subject_alone() -> None:
    names = ("small", "red", "star")
    assert attributes_right("the red star left of the blue cross", names)
    assert attributes_right("a star above the large green circle", names)
    assert attributes_right("something else", names)
    assert not attributes_right("the blue star", names)
    assert not attributes_right("a large red star", names)
    assert not attributes_right("the red cross above the red star", names)


def test_the_same_generator_gives_the_same_lessons() -> None:
    one, two = (draw_lessons(np.random.default_rng(3)) for _ in range(2))
    assert [item.answer for item in one] == [item.answer for item in two]
    assert [item.expression for item in one] == [item.expression for item in two]


def test_a_saved_model_is_one_that_the_stage_loads(processor: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_captioner(build_captioner(processor), processor, tmp_path)
    assert json.loads((tmp_path / "prompt.json").read_text()) == PROMPT
    load_captioner(AugmentConfig(checkpoint=str(tmp_path)), CPU, 0)
