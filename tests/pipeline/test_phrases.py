import pytest

from pipeline.phrases import noun_phrase


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a person wearing a red shirt riding a skateboard", "person"),
        ("the white dog on the left", "dog"),
        ("a tennis player in blue", "tennis player"),
        ("the two dogs", "dogs"),
        ("a group of people", "people"),
        ("the family of ducks near the water", "ducks"),
        ("a running dog chased by a cat", "dog"),
        ("a dog chased by a cat", "dog"),
        ("the man's hat", "hat"),
        ("the building behind the tree", "building"),
        ("someone jumping", "person"),
        ("the second giraffe from the left", "giraffe"),
        ("a small red car parked next to a truck", "car"),
        ("the parked car", "car"),
        ("the bed next to the window", "bed"),
        ("a polar bear", "polar bear"),
        ("a black and white cow", "cow"),
        ("the little girl in a pink dress", "girl"),
        ("the red circle that moves up", "circle"),
        ("left elephant", "elephant"),
        ("A Lizard moving", "lizard"),
        ("an airplane flying away.", "airplane"),
        ("the 3 horses", "horses"),
        ("the animal with stripes", "animal"),
        ("zebra", "zebra"),
    ],
)
def test_the_sort_of_object_is_found(text: str, expected: str) -> None:
    assert noun_phrase(text) == expected


@pytest.mark.parametrize(
    "text",
    ["the one on the left", "he is walking", "standing next to the tree", "12", "", "...", "是"],
)
def test_a_sentence_without_a_noun_has_none(text: str) -> None:
    assert noun_phrase(text) is None
