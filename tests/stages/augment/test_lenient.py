"""Answers in every form that models write: sound items are kept, odd ones cost only themselves."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import UnusableAnswerError
from pipeline.types import NegativeKind
from stages.augment.parse import UNSTATED_CONFIDENCE, parse_answer

ORIGINAL = "the red star"
COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey", "pink")
THINGS = ("dog", "cat", "horse", "man's hat", "bike", "bird", 'box "A"', "panda")
PLACES = ("on the left", "on the right", "near a tree", "that turns", "in front", "far away")
KINDS = ("category", "attribute", "action", "relation")

Values = dict[str, list[Any]]


def sound(rng: random.Random, plain: bool = False) -> Values:
    """Positives and negatives without any oddity, each text once."""
    texts = [f"the {c} {t} {p}" for c in COLOURS for t in THINGS for p in PLACES]
    if plain:
        texts = [text for text in texts if '"' not in text]
    chosen = rng.sample(texts, 25)
    return {
        "positives": [{"text": t, "confidence": rng.randint(1, 9) / 10} for t in chosen[:5]],
        "negatives": [{"text": t, "kind": rng.choice(KINDS)} for t in chosen[5:]],
    }


def with_odd_item(rng: random.Random, item: Any) -> str:
    """One item of each list is odd, at any place."""
    values = sound(rng)
    for items in values.values():
        items.insert(rng.randint(0, len(items)), item)
    return json.dumps(values)


def changed(rng: random.Random, change: Callable[[dict[str, Any]], None]) -> str:
    values = sound(rng)
    for item in (*values["positives"], *values["negatives"]):
        change(item)
    return json.dumps(values)


def percent(item: dict[str, Any]) -> None:
    if "confidence" in item:
        item["confidence"] = f"{round(item['confidence'] * 100)}%"


def as_text(item: dict[str, Any]) -> None:
    if "confidence" in item:
        item["confidence"] = str(item["confidence"])


def capitals(item: dict[str, Any]) -> None:
    if "kind" in item:
        item["kind"] = f" {item['kind'].title()} "


def single_quotes(rng: random.Random) -> str:
    return repr(sound(rng, plain=True))


def cut(rng: random.Random) -> str:
    text = json.dumps(sound(rng))
    return text[: rng.randint(text.index("negatives") + 20, len(text) - 1)]


def draft_before(rng: random.Random) -> str:
    draft = json.dumps({"positives": [{"text": "a draft", "confidence": 1}]})
    return f"I could say {draft}, but no.\n</think>\n\n{json.dumps(sound(rng))}"


FORMS: dict[str, Callable[[random.Random], str]] = {
    "plain": lambda rng: json.dumps(sound(rng)),
    "indented": lambda rng: json.dumps(sound(rng), indent=2),
    "fenced": lambda rng: f"```json\n{json.dumps(sound(rng), indent=1)}\n```",
    "a sentence before": lambda rng: f'Here is the "answer" you want: {json.dumps(sound(rng))}',
    "a sentence after": lambda rng: f"{json.dumps(sound(rng))}\nI hope {{this}} [helps].",
    "trailing commas": lambda rng: json.dumps(sound(rng)).replace("}]", "},]").replace("]}", "],}"),
    "no commas between items": lambda rng: json.dumps(sound(rng)).replace("}, {", "}\n{"),
    "single quotes": single_quotes,
    "cut off": cut,
    "percent": lambda rng: changed(rng, percent),
    "confidence as text": lambda rng: changed(rng, as_text),
    "kinds in capitals": lambda rng: changed(rng, capitals),
    "a thought": lambda rng: f'<think>"positives": [{{</think>{json.dumps(sound(rng))}',
    "only the end of a thought": draft_before,
    "an item that is a number": lambda rng: with_odd_item(rng, 7),
    "an item without keys": lambda rng: with_odd_item(rng, {}),
    "an item with a list": lambda rng: with_odd_item(rng, {"text": ["odd", {"a": "odd"}]}),
    "an item of another kind": lambda rng: with_odd_item(
        rng, {"text": 3, "confidence": "high", "kind": "mood"}
    ),
    "an item with bare quotes": lambda rng: with_odd_item(rng, "@").replace(
        '"@"', '{"text": "the "odd" one", "confidence": 0.5, "kind": "action"}'
    ),
    "an item that does not end": lambda rng: with_odd_item(rng, "@").replace(
        '"@"', '{"text": "the odd one'
    ),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_sound_items_are_kept_and_none_is_invented(form: str) -> None:
    kept = total = 0
    for seed in range(10):
        answer = FORMS[form](random.Random(seed))
        values = sound(random.Random(seed), plain=form == "single quotes")
        parsed = parse_answer(answer, ORIGINAL, 50, 50)
        positives = {item["text"]: item["confidence"] for item in values["positives"]}
        negatives = {item["text"]: item["kind"] for item in values["negatives"]}
        if form == "cut off":
            last = answer.rfind("}")
            negatives = {t: k for t, k in negatives.items() if json.dumps(t) in answer[:last]}
        assert dict(parsed.positives).items() <= positives.items()
        assert {item.text: item.kind for item in parsed.negatives}.items() <= negatives.items()
        kept += len(parsed.positives) + len(parsed.negatives)
        total += len(positives) + len(negatives)
        for text, _ in parsed.positives:
            start, end = parsed.spans[text]
            assert text.split()[1] in answer[start:end]
        odd = form.startswith("an item")
        assert bool(parsed.left_out) == (odd or (form == "cut off" and answer[-1] != "}"))
    assert kept >= 0.95 * total


def read(items: str, name: str = "positives") -> Any:
    other = '"positives": [{"text": "a red one", "confidence": 1}], '
    return parse_answer(f'{{{other if name != "positives" else ""}"{name}": [{items}]}}', "x", 9, 9)


@pytest.mark.parametrize(
    ("written", "confidence"),
    [
        ("0.9", 0.9),
        ("1", 1.0),
        ('"0.9"', 0.9),
        ("95", 0.95),
        ('"95%"', 0.95),
        ('"95 %"', 0.95),
        ("1%", 0.01),
        ("null", UNSTATED_CONFIDENCE),
    ],
)
def test_confidences(written: str, confidence: float) -> None:
    parsed = read(f'{{"text": "a star", "confidence": {written}}}')
    assert parsed.positives == (("a star", pytest.approx(confidence)),)


@pytest.mark.parametrize("written", ["7", "-0.1", "101", "true", '"high"', "NaN", "[1]x"])
def test_what_is_no_confidence_costs_the_item(written: str) -> None:
    parsed = read(f'{{"text": "a star", "confidence": {written}}}, {{"text": "a cat"}}')
    assert parsed.positives == (("a cat", UNSTATED_CONFIDENCE),)
    assert sum(parsed.left_out.values()) == 1


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("color", "attribute"),
        ("Colour", "attribute"),
        ("attributes", "attribute"),
        ("object", "category"),
        ("class", "category"),
        ("categories", "category"),
        ("spatial", "relation"),
        ("spatial_relation", "relation"),
        ("motion", "action"),
        ("attribute (color)", "attribute"),
    ],
)
def test_kinds_by_synonym(written: str, kind: NegativeKind) -> None:
    [negative] = read(f'{{"text": "a star", "kind": "{written}"}}', "negatives").negatives
    assert negative.kind == kind


def test_a_kind_is_not_invented() -> None:
    parsed = read('{"text": "a star"}, {"text": "a cat", "kind": "mood"}', "negatives")
    assert parsed.negatives == ()
    assert parsed.left_out == {"negative without a known kind": 2}


def test_a_positive_may_be_a_plain_string() -> None:
    assert read('"a star", "a cat"').positives == (("a star", 0.5), ("a cat", 0.5))


@pytest.mark.parametrize(
    ("items", "texts"),
    [
        ("{'text': 'the dog's tail'}, {'text': 'a cat'}", ["the dog's tail", "a cat"]),
        ("{'text': 'the dogs' tail'}, {'text': 'a cat'}", ["a cat"]),
        ("{'text': 'the dogs', red'}, {'text': 'a cat'}", ["a cat"]),
    ],
)
def test_single_quotes_are_read_only_if_they_are_unambiguous(items: str, texts: list[str]) -> None:
    parsed = read(items)
    assert [text for text, _ in parsed.positives] == texts
    assert sum(parsed.left_out.values()) == 2 - len(texts)


def test_the_last_answer_counts_and_not_a_draft_before_it() -> None:
    draft = '{"positives": [{"text": "a draft"}], "negatives": [{"text": "b", "kind": "action"}]}'
    parsed = parse_answer(f'{draft} Better: {{"positives": [{{"text": "a star"}}]}}', "x", 9, 9)
    assert parsed.positives == (("a star", 0.5),)
    assert parsed.negatives == ()


def test_an_answer_cut_off_while_the_model_thinks_is_none() -> None:
    with pytest.raises(UnusableAnswerError, match="names no list"):
        parse_answer('<think>{"positives": [{"text": "a draft"}]}', "x", 9, 9)


def test_half_a_letter_costs_the_item() -> None:
    parsed = read('{"text": "a \\ud83d star"}, {"text": "a \\ud83d\\ude00 cat"}')
    assert parsed.positives == (("a 😀 cat", 0.5),)


@pytest.mark.parametrize("text", ['{"positives": [' + "[" * 50_000, "{" * 60_000, '{"' * 30_000])
def test_deep_nesting_is_no_recursion(text: str) -> None:
    with pytest.raises(UnusableAnswerError):
        parse_answer('{"positives": [' + text, "x", 9, 9)
