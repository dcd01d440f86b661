import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import AugmentationError
from pipeline.types import Negative
from stages.augment.parse import normalise, parse_answer, says_the_same

GOOD = {
    "positives": [
        {"text": "the crimson star", "confidence": 0.9},
        {"text": "the star on the left", "confidence": 0.75},
    ],
    "negatives": [
        {"text": "the blue star", "kind": "attribute"},
        {"text": "the red circle", "kind": "category"},
    ],
}


def test_plain_answer_is_read_whole() -> None:
    parsed = parse_answer(json.dumps(GOOD), "the red star", 5, 12)
    assert parsed.positives == (("the crimson star", 0.9), ("the star on the left", 0.75))
    assert parsed.negatives == (
        Negative("the blue star", "attribute"),
        Negative("the red circle", "category"),
    )
    assert parsed.left_out == {}


@pytest.mark.parametrize(
    "wrap",
    [
        "```json\n{}\n```",
        "Here you are:\n```\n{}\n```\nAnything else?",
        "Sure! {} I hope this helps.",
        "<think>a {{ brace</think>{}",
    ],
)
def test_talk_and_fences_around_the_object_are_ignored(wrap: str) -> None:
    answer = wrap.replace("{{", "<").replace("{}", json.dumps(GOOD)).replace("<", "<")
    assert len(parse_answer(answer, "the red star", 5, 12).positives) == 2


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("Tennis Player", "tennis player"),
        ("the dog", "dog"),
        ("", None),
        ("the dog that is running to the left", None),
        (None, None),
    ],
)
def test_the_noun_of_the_target_is_read(noun: str | None, expected: str | None) -> None:
    answer = json.dumps({"noun": noun, **GOOD})
    assert parse_answer(answer, "the red star", 5, 12).noun == expected
    draft = f'<think>{{"noun": "cat"}}</think>{answer}'
    assert parse_answer(draft, "the red star", 5, 12).noun == expected


def test_an_answer_without_a_noun_has_none() -> None:
    assert parse_answer(json.dumps(GOOD), "the red star", 5, 12).noun is None


def test_trailing_commas_are_mended() -> None:
    answer = json.dumps(GOOD).replace("}]", "},]")
    assert len(parse_answer(answer, "the red star", 5, 12).negatives) == 2


@given(st.integers(0, len(json.dumps(GOOD))))
def test_a_truncated_answer_gives_its_whole_items_or_an_error(length: int) -> None:
    try:
        parsed = parse_answer(json.dumps(GOOD)[:length], "the red star", 5, 12)
    except AugmentationError:
        return
    whole = parse_answer(json.dumps(GOOD), "the red star", 5, 12)
    assert parsed.positives == whole.positives[: len(parsed.positives)]
    assert parsed.negatives == whole.negatives[: len(parsed.negatives)]


def test_truncation_in_the_second_list_keeps_what_is_whole() -> None:
    text = json.dumps(GOOD)
    parsed = parse_answer(text[: text.index("the red circle")], "the red star", 5, 12)
    assert len(parsed.positives) == 2
    assert len(parsed.negatives) == 1


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(answer: str) -> None:
    try:
        parse_answer(answer, "the red star", 5, 12)
    except AugmentationError as error:
        assert "expected" in str(error)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ("", "names no list of positives"),
        ('{"positives": [{"text": "a"', "1 x item cut off at the end"),
        ('{"negatives": []}', "positives is 'missing'"),
        ('{"positives": "a star"}', "positives is '\"a star\"}'"),
        ('{"positives": [{"text": "a star", "confidence": 7}]}', "not in 0 to 1"),
        ('{"positives": [{"text": "a star", "confidence": true}]}', "not in 0 to 1"),
        ('{"positives": [{"text": 3, "confidence": 1}]}', "1 x positive without a text"),
        ('{"positives": [{"text": "a", "confidence": NaN}]}', "not in 0 to 1"),
    ],
)
def test_an_answer_without_any_positive_is_an_error_that_says_why(answer: str, part: str) -> None:
    with pytest.raises(AugmentationError) as caught:
        parse_answer(answer, "the red star", 5, 12)
    assert part in str(caught.value)


def test_a_negative_never_says_what_a_positive_says() -> None:
    values = {
        "positives": [{"text": "the star that is red", "confidence": 1}],
        "negatives": [
            {"text": "The RED star!", "kind": "attribute"},
            {"text": "star red", "kind": "attribute"},
            {"text": "red is the star that", "kind": "attribute"},
            {"text": "the blue star", "kind": "attribute"},
            {"text": "a blue star.", "kind": "attribute"},
        ],
    }
    parsed = parse_answer(json.dumps(values), "the red star", 5, 12)
    assert [negative.text for negative in parsed.negatives] == ["the blue star"]
    assert parsed.left_out == {"negative says what a positive says": 3, "negative twice": 1}


def test_duplicates_of_the_original_and_long_or_empty_texts_are_left_out() -> None:
    values = {
        "positives": [
            {"text": "  A red\n STAR ", "confidence": 0.5},
            {"text": "word " * 41, "confidence": 0.5},
            {"text": "...", "confidence": 0.5},
            {"text": "the crimson star", "confidence": 0.5},
            {"text": "one too many", "confidence": 0.5},
        ],
        "negatives": [],
    }
    parsed = parse_answer(json.dumps(values), "the red star", 1, 12)
    assert parsed.positives == (("the crimson star", 0.5),)
    assert sum(parsed.left_out.values()) == 4


def test_normalise_folds_case_articles_and_signs() -> None:
    assert normalise("The ＲＥＤ star, please!") == ("red", "star", "please")
    assert normalise("the") == ("the",)
    assert normalise("…") == ()
    assert says_the_same("a dog chasing the cat", "the cat, chasing a dog")


def test_spans_point_at_what_was_written() -> None:
    answer = 'So: {"positives": [{"text": " the \\"red\\"  star", "confidence": 1}]}'
    parsed = parse_answer(answer, "a star", 5, 12)
    start, end = parsed.spans['the "red" star']
    assert answer[start:end] == ' the \\"red\\"  star'
