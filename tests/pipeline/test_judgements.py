import pytest

from pipeline.judgements import (
    INCONSISTENT,
    KEPT,
    MADE_ABSENT,
    NO_ANSWER,
    TURNED_OVER,
    JudgeAnswer,
    Judgement,
    trust_of,
)
from pipeline.types import Provenance, SampleKey

KEY = SampleKey("d", "s", "v", "0")


def judged(
    *chosen: tuple[int, ...] | None,
    voted: tuple[int, ...] = (4,),
    probabilities: tuple[float | None, ...] = (0.9, 0.7),
) -> Judgement:
    answers = [
        JudgeAnswer((4, 7, 9), (1, 2, 3), "?", tracks, chance)
        for tracks, chance in zip(chosen, probabilities, strict=True)
    ]
    return Judgement(KEY, 0.05, voted, tuple(answers), Provenance("m", "", "1", 0))


@pytest.mark.parametrize(
    ("chosen", "voted", "agreement", "outcome", "trust"),
    [
        (((4,), (4,)), (4,), 1.0, KEPT, 1.0),
        (((7,), (7,)), (4,), 1.0, TURNED_OVER, 1.0),
        (((7,), (7,)), (), 1.0, TURNED_OVER, 1.0),
        (((4, 7), (4, 7)), (4, 7), 1.0, KEPT, 1.0),
        (((), ()), (4,), 1.0, MADE_ABSENT, 1.0),
        (((), ()), (), 1.0, KEPT, 1.0),
        (((4,), (7,)), (4,), 0.0, INCONSISTENT, 0.5),
        (((4, 7), (7,)), (4,), 0.5, INCONSISTENT, 0.75),
        (((4,), ()), (4,), 0.0, INCONSISTENT, 0.5),
        (((4,), None), (4,), None, NO_ANSWER, 1.0),
        ((None, None), (4,), None, NO_ANSWER, 1.0),
    ],
)
def test_only_answers_that_agree_decide(
    chosen: tuple[tuple[int, ...] | None, ...],
    voted: tuple[int, ...],
    agreement: float | None,
    outcome: str,
    trust: float,
) -> None:
    found = judged(*chosen, voted=voted)
    assert found.agreement == agreement
    assert found.outcome == outcome
    assert found.trust == trust == trust_of({("v", "0"): found}, KEY)
    assert (found.ruling is None) == (outcome in (INCONSISTENT, NO_ANSWER))


def test_a_ruling_has_the_mean_probability_or_one_half_if_it_is_not_known() -> None:
    ruling = judged((7,), (7,)).ruling
    assert ruling is not None
    assert (ruling.chosen, ruling.rejected) == ((7,), (4, 9))
    assert ruling.probability == pytest.approx(0.8)
    unknown = judged((7,), (7,), probabilities=(None, 0.7))
    assert unknown.probability is None
    assert unknown.ruling is not None and unknown.ruling.probability == 0.5


def test_words_tell_answers_and_unreadable_ones() -> None:
    told = judged((7,), None, probabilities=(None, None)).words()
    assert "track 7 (probability unknown)" in told and "unreadable '?'" in told
    assert "none of them (0.90)" in judged((), (4, 9)).words()
    assert "tracks 4 and 9" in judged((), (4, 9)).words()
    assert trust_of({}, KEY) == 1.0
