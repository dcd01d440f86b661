"""How many objects a sentence names."""

from __future__ import annotations

import pytest

from pipeline.plural import MANY, targets_named


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("the two dogs", 2),
        ("Two brown dogs running on the grass", 2),
        ("both cats", 2),
        ("a pair of horses", 2),
        ("a couple of people dancing", 2),
        ("three men in red", 3),
        ("the 3 birds flying away", 3),
        ("4 rabbits that eat", 4),
        ("the dogs", MANY),
        ("dogs chasing a ball", MANY),
        ("all the sheep that are moving", MANY),
        ("people on the left", MANY),
        ("the women who are talking", MANY),
        ("a group of elephants walking", MANY),
        ("a herd of sheep", MANY),
        ("these ducks", MANY),
        ("several cars parked", MANY),
        ("the other giraffes", MANY),
        ("sheep which are eating", MANY),
        ("the children playing in the garden", MANY),
    ],
)
def test_sentences_of_several_objects(text: str, count: int) -> None:
    assert targets_named(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "the dog",
        "a brown dog on the left of two cats",
        "the man who is next to the dogs",
        "a person with glasses",
        "the bus",
        "a white goose with two geese behind",
        "the man's bicycle",
        "the other dog",
        "a grass snake",
        "a sheep that is eating",
        "the boss with his men",
        "",
        "the last one",
        "a man playing tennis with people around",
        "the group leader",
        "a tennis player",
        "dog",
        "...",
        "the glasses on the table",
        "a row boat",
        "a pair of glasses on a man",
        "the black sunglasses are being worn by a woman",
        "the ball bounces on the pavement",
        "a woman stands in the kitchen",
        "an all white mug on a counter",
        "the biggest gorilla among the others",
    ],
)
def test_sentences_of_one_object(text: str) -> None:
    assert targets_named(text) == 1
