"""Which place in the frame a sentence names."""

from __future__ import annotations

import pytest

from pipeline.places import Direction, place_named


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the cat on the left", (-1, 0)),
        ("A dog at the far right", (1, 0)),
        ("a circle that is leftmost", (-1, 0)),
        ("the star that is right-most", (1, 0)),
        ("the square at the bottom", (0, 1)),
        ("a triangle in the upper part", (0, -1)),
        ("the bird that is lowest", (0, 1)),
        ("a deer at the top left corner", (-1, -1)),
        ("a lion on the right hand side of the view", (1, 0)),
        ("a dolphin on the left of the frame", (-1, 0)),
        ("first dolphin from the left", (-1, 0)),
        ("the left dog", (-1, 0)),
        ("left bird on the branch", (-1, 0)),
        ("a person walking on the left, then on the left again", (-1, 0)),
    ],
)
def test_places(text: str, place: Direction) -> None:
    assert place_named(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "a dog",
        "",
        "the cat on the left of the dog",
        "a person moving to the left side",
        "a train moving from left to right",
        "a man with a racket in his left hand",
        "a cup in the right hand",
        "the left hand",
        "a panda on top of a rock",
        "second person from the left of the crowd",
        "a bird at the top of the tree",
        "from the left on the right, and on the left",
        "a red tank top",
    ],
)
def test_no_places(text: str) -> None:
    assert place_named(text) is None
