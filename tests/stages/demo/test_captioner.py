"""The demo captioner's lessons: right answers, in the form that the stage reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from pipeline.config import AugmentConfig
from pipeline.shapes.scene import COLOURS, SHAPES, SIZES
from stages.augment import load_captioner
from stages.augment.parse import parse_answer
from stages.demo.captioner import (
    PROMPT,
    build_captioner,
    build_processor,
    save_captioner,
)
from stages.demo.figures import attributes_right
from stages.demo.lessons import Lesson, draw_lessons
from stages.demo.packs import Pack, pack_lessons, run_packs

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


def asked(processor: Any, lesson: Lesson) -> Any:
    """Model inputs for one lesson, by the processor alone, as the stage makes them."""
    content: list[Any] = [{"type": "image"} for _ in lesson.images]
    content.append({"type": "text", "text": lesson.expression})
    messages: Any = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    pictures = [[Pillow.fromarray(image) for image in lesson.images]]
    return processor(text=[f"{text}{lesson.answer}<|end|>"], images=pictures, return_tensors="pt")


def test_an_image_becomes_as_many_tokens_as_it_has_cells(
    processor: Any, lessons: list[Lesson]
) -> None:
    images = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    inputs = asked(processor, lessons[0])
    assert int((inputs["input_ids"] == images).sum()) == lessons[0].cells[..., 0].size


@pytest.fixture(scope="module")
def model(processor: Any) -> Any:
    torch.manual_seed(0)
    return build_captioner(processor).eval()


@pytest.fixture(scope="module")
def packs(processor: Any, model: Any) -> list[Pack]:
    rng = np.random.default_rng(5)
    videos = [draw_lessons(rng, each=4)[:3], draw_lessons(rng, each=4)[:4]]
    return [pack_lessons(model, processor, lessons, whole=True) for lessons in videos]


def test_a_packed_lesson_is_to_the_model_what_it_is_alone(
    processor: Any, model: Any, packs: list[Pack]
) -> None:
    alone = [[asked(processor, lesson) for lesson in pack.lessons] for pack in packs]
    with torch.no_grad():
        features = []
        for [first, *_] in alone:
            found = model.get_image_features(first["pixel_values"], first["image_grid_thw"])
            features.append(torch.cat(list(found.pooler_output)))
        together = run_packs(model, packs, features).logits
        for row, pack in enumerate(packs):
            for number, inputs in enumerate(alone[row]):
                mine = together[row, : len(pack.ids)][pack.owner == number]
                expected = model(**inputs).logits[0, -len(mine) :]
                assert torch.allclose(mine, expected, atol=1e-5)


def test_only_the_answer_and_its_end_are_learnt(processor: Any, packs: list[Pack]) -> None:
    decode = processor.tokenizer.decode
    for pack in packs:
        for number, lesson in enumerate(pack.lessons):
            taught = pack.ids[(pack.owner == number) & (pack.learnt > 0)]
            written = decode(taught, clean_up_tokenization_spaces=False)
            assert written == lesson.answer + "<|end|>"


def test_the_first_positive_weighs_most(processor: Any, packs: list[Pack]) -> None:
    for pack in packs:
        heavy = pack.ids[(pack.owner == 0) & (pack.learnt >= 5)]
        text = processor.tokenizer.decode(heavy, clean_up_tokenization_spaces=False)
        [first, *_] = json.loads(pack.lessons[0].answer)["positives"]
        assert text == '{"positives": [{"text": "' + first["text"]


def test_the_target_is_marked_where_it_is(lessons: list[Lesson]) -> None:
    for lesson in lessons:
        size, colour, shape = lesson.names
        wanted = [
            1 + list(COLOURS).index(colour),
            1 + SHAPES.index(shape),
            1 + list(SIZES).index(size),
        ]
        assert (lesson.cells[lesson.on_target] == wanted).all()
        assert ((lesson.movements > 0) == (lesson.cells[..., 0] > 0)).all()
        assert len(set(lesson.movements[lesson.on_target].tolist())) <= 1


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
    save_captioner(build_captioner(processor), processor, tmp_path)
    assert json.loads((tmp_path / "prompt.json").read_text()) == PROMPT
    load_captioner(AugmentConfig(checkpoint=str(tmp_path)), CPU, 0)
