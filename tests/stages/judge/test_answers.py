"""A judge's answers are read leniently, and never guessed at."""

import math
from collections.abc import Mapping

import pytest

from stages.judge.answers import Reading, probability_of, read_answer, shuffled

NUMBERS = (1, 2, 3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("2", (2,)),
        (" 2.\n", (2,)),
        ("**2**", (2,)),
        ("#2", (2,)),
        ("Object 2", (2,)),
        ("The answer is 2.", (2,)),
        ("Answer: object 2", (2,)),
        ("The target is object 3, the dog on the left of object 1.", (3,)),
        ("It is object 3.", (3,)),
        ("There are 4 dogs; the one that runs is number 3.", (3,)),
        ('```json\n{"answer": 2}\n```', (2,)),
        ('{"tracks": [1, 3], "confidence": 0.9}', (1, 3)),
        ('{"object": "2"}', (2,)),
        ("[1, 3]", (1, 3)),
        ("1 and 3", (1, 3)),
        ("1, 2, and 3", (1, 2, 3)),
        ("Objects 3 and 1", (1, 3)),
        ("object 1, object 3", (1, 3)),
        ("0", ()),
        ("None of them.", ()),
        ("none", ()),
        ("[]", ()),
        ('{"answer": null}', ()),
        ("The answer is none.", ()),
        ("Perhaps 1.\nIs it 3?</think>\n\n2", (2,)),
        ("Let me think: object 1 runs, object 3 sits. Answer: 3", (3,)),
    ],
)
def test_an_answer_is_read(answer: str, expected: tuple[int, ...]) -> None:
    found = read_answer(answer, NUMBERS)
    assert found is not None and found.chosen == expected
    assert 0 <= found.at < found.end <= len(answer)
    if expected:
        assert answer[found.at] in "123"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I am not sure.",
        "4",  # no such number
        "0, 2",
        "2 or 3",
        "Answer: 2 or 3",
        "1-3",
        "2.5",
        "12",
        "It is not object 2.",
        "Object 1 is a cat and object 2 is a dog.",
        "There are 2 dogs.",
        "<think> it may be 2",
        "a" * 100_000,
    ],
)
def test_what_says_nothing_clear_is_no_answer(answer: str) -> None:
    assert read_answer(answer, NUMBERS) is None


def test_a_probability_is_the_share_among_the_possible_answers() -> None:
    logs: Mapping[str, float] = {
        " 2": math.log(0.3),
        "1": math.log(0.1),
        "0": math.log(0.1),
        "the": math.log(0.4),
        "7": math.log(0.1),
    }
    found = probability_of(Reading((2,), 0, 1), NUMBERS, lambda at: (" 2", logs), lambda span: 0.3)
    assert found == pytest.approx(0.6)
    # Without alternatives, and of several numbers, it is that of the tokens themselves.
    alone = probability_of(Reading((2,), 0, 1), NUMBERS, lambda at: None, lambda span: 0.3)
    several = probability_of(
        Reading((1, 2), 0, 4), NUMBERS, lambda at: ("1", logs), lambda span: 0.2
    )
    assert (alone, several) == (0.3, 0.2)
    assert probability_of(Reading((), 0, 4), NUMBERS, lambda at: None, lambda span: None) is None


def test_numbers_are_shuffled_and_every_track_has_another_one_the_second_time() -> None:
    for count in range(1, 10):
        for seed in range(20):
            first, second = shuffled(range(count), seed)
            assert len(first) == len(set(first)) == len(set(second)) == count
            assert all(a != b for a, b in zip(first, second, strict=True))
            assert max(first + second) <= max(count, 2) and min(first + second) >= 1
    assert len({shuffled(range(4), seed) for seed in range(50)}) > 12
    assert shuffled(range(4), 3) == shuffled(range(4), 3) == ((1, 3, 2, 4), (3, 1, 4, 2))
