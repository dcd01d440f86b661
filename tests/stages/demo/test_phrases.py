"""What the demo models learn from: captions, boxes and masks that are true of the frame."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from pipeline.geometry import box_iou, masks_to_boxes
from pipeline.shapes.language import View, view
from pipeline.shapes.render import render
from pipeline.shapes.scene import COLOURS, SHAPES, SIZES, Scene, sample_scene
from stages.demo.ground import draw_example, sentence_of_token
from stages.demo.phrases import frame_phrases, name_phrases, visible_objects
from stages.demo.segment import draw_prompts
from stages.demo.tokenizer import build_tokenizer
from stages.ground.architecture import encode_texts

TAILS = re.compile(
    r" (?:on the|at the|in the|that is (?:left|right|top)most|that is lowest|that moves|that does"
    r"|that turns|moving|going|standing|staying|spinning|rotating|to the|left of|right of|above"
    r"|below|higher|lower).*"
)


def frame(number: int) -> tuple[Scene, View, frozenset[int]]:
    rng = np.random.default_rng((47, number))
    scene = sample_scene(rng)
    moment = int(rng.integers(scene.frames))
    drawn = render(scene, moment)
    return scene, view(scene, [moment]), visible_objects(drawn.masks.sum((1, 2)), drawn.whole)


def fits(scene: Scene, text: str) -> set[int]:
    """Objects that no word of size, colour or shape in the sentence's subject excludes."""
    words = set(TAILS.sub("", text).split())
    return {
        index
        for index, item in enumerate(scene.objects)
        if words & set(SIZES) <= {item.size}
        and words & set(COLOURS) <= {item.colour}
        and words & set(SHAPES) <= {item.shape}
    }


def test_names_are_true_of_exactly_the_visible_objects_that_they_fit() -> None:
    true = false = 0
    for number in range(80):
        scene, seen, visible = frame(number)
        rng = np.random.default_rng(number)
        for phrase in name_phrases(seen, visible, 8, rng):
            assert phrase.targets == fits(scene, phrase.text) & visible, phrase.text
            true, false = true + bool(phrase.targets), false + (not phrase.targets)
    assert true > 200 and false > 100


def test_sentences_are_said_of_visible_objects_that_their_subject_fits() -> None:
    true = false = 0
    for number in range(80):
        scene, seen, visible = frame(number)
        rng = np.random.default_rng(number)
        for phrase in frame_phrases(seen, visible, 8, rng):
            assert phrase.targets <= visible
            if phrase.targets:
                assert phrase.targets <= fits(scene, phrase.text), phrase.text
            else:
                assert not fits(scene, phrase.text) & visible, phrase.text
            true, false = true + bool(phrase.targets), false + (not phrase.targets)
    assert 0.25 < false / (true + false) < 0.5, "about a third are of nothing in the frame"


def test_an_empty_frame_has_only_false_sentences() -> None:
    scene, seen, _ = frame(0)
    nobody = View(scene.objects, np.full_like(seen.centres, np.nan), moving=False)
    for draw in (frame_phrases, name_phrases):
        phrases = draw(nobody, frozenset(), 12, np.random.default_rng(0))
        assert len(phrases) == 12 and not any(phrase.targets for phrase in phrases)


def test_visible_is_enough_pixels_and_a_fifth_of_the_object() -> None:
    seen, whole = np.array([0, 23, 24, 100, 24, 400]), np.array([0, 23, 120, 501, 121, 400])
    assert visible_objects(seen, whole) == {2, 5}


@pytest.mark.parametrize("names_only", [True, False])
def test_an_examples_boxes_are_its_masks(names_only: bool) -> None:
    for number in range(12):
        rng = np.random.default_rng((5, number))
        example = draw_example(rng, 6, names_only=names_only)
        assert len(example.phrases) == 6
        assert example.caption.count(" . ") == 6
        assert example.says.shape == (6, len(example.masks))
        height, width = example.image.shape[:2]
        corners = box_convert(example.boxes, "cxcywh", "xyxy").numpy()
        corners = corners * [width, height, width, height]
        np.testing.assert_allclose(corners, masks_to_boxes(example.masks), atol=1e-2)
        for phrase, row in zip(example.phrases, example.says, strict=True):
            assert row.sum() == len(phrase.targets)


def test_each_word_of_a_caption_belongs_to_its_sentence(small_dino: torch.nn.Module) -> None:
    captions = ["a star . the red circle . an orange cross . ", "the cross . "]
    with torch.inference_mode():
        owner = sentence_of_token(encode_texts(small_dino, captions), [3, 1])
    assert [value for value in owner[0].tolist() if value >= 0] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [value for value in owner[1].tolist() if value >= 0] == [0, 0]


def test_prompts_are_the_boxes_of_what_is_seen_shaken_as_told() -> None:
    for number in range(10):
        image, boxes, masks = draw_prompts(np.random.default_rng((6, number)), 0.0)
        assert image.dtype == np.uint8 and len(boxes) == len(masks) >= 1
        np.testing.assert_array_equal(boxes, masks_to_boxes(masks).astype(np.float32))
        _, shaken, again = draw_prompts(np.random.default_rng((6, number)), 0.05)
        np.testing.assert_array_equal(again, masks)
        overlap = np.diagonal(box_iou(shaken, boxes))
        assert (overlap < 1).all() and overlap.mean() > 0.7


def test_the_grounders_tokenizer_gives_every_sentence_back() -> None:
    tokenizer = build_tokenizer()
    for number in range(60):
        _, seen, visible = frame(number)
        for phrase in frame_phrases(seen, visible, 6, np.random.default_rng(number)):
            ids = tokenizer(phrase.text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert len(ids) == len(phrase.text.split()), "a word is a token"
            assert tokenizer.decode(ids) == phrase.text


def test_the_grounders_tokenizer_spells_what_it_does_not_know() -> None:
    tokenizer = build_tokenizer()
    text = "a person wearing 2 dark shoes"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
