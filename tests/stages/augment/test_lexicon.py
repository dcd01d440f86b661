import numpy as np
import pytest

from pipeline.config import AugmentConfig
from pipeline.ports import CaptionRequest, Image
from pipeline.types import Augmentation, Expression, SampleKey, VideoRef
from stages.augment.lexicon import LexiconCaptioner
from stages.augment.parse import normalise, says_the_same


def augment(text: str, others: tuple[str, ...] = (), **changes: int) -> Augmentation:
    config = AugmentConfig(source="lexicon", **({"negatives": 40} | changes))
    video = VideoRef("v", (), (), 4, 4)
    frames: list[Image] = [np.zeros((4, 4, 3), np.uint8)]
    expression = Expression(SampleKey("shapes", "train", "v", "0"), text)
    request = CaptionRequest(video, frames, expression, others)
    [answer] = LexiconCaptioner(config, 3).augment([request])
    return answer.augmentation


SENTENCES = [
    "the small red star to the left of the blue square",
    "the circle moving up",
    "the large white triangle standing still",
    "the leftmost cross",
    "the yellow circle at the top",
    "a man in a red shirt walking to the left behind a dog",
    "the woman sitting in front of the car",
    "a big brown bear on the right",
    "the small circle that moves upward in the scene",
    "a large blue cross that is leftmost seen in the video",
    "the star lower than the circle",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_every_sentence_gets_sound_positives_and_negatives(text: str) -> None:
    result = augment(text)
    assert result.original == text
    assert result.positives[0].confidence == 1
    assert 1 < len(result.positives) <= 6
    assert len(result.negatives) >= 3
    words = [normalise(positive.text) for positive in result.positives]
    assert len(set(words)) == len(words)
    for negative in result.negatives:
        assert not any(says_the_same(negative.text, p.text) for p in result.positives)


@pytest.mark.parametrize(
    ("text", "negative", "kind"),
    [
        ("the red star", "the blue star", "attribute"),
        ("the small star", "the large star", "attribute"),
        ("the red star", "the red circle", "category"),
        ("the star moving left", "the star moving right", "action"),
        ("the star moving left", "the star standing still", "action"),
        ("the star to the left of the cross", "the star above the cross", "relation"),
        ("the star on the left", "the star on the right", "relation"),
        ("the man behind the car", "the man in front of the car", "relation"),
        ("the man walking", "the man sitting", "action"),
        ("the box at the bottom", "the box at the top", "relation"),
        ("the star that moves upward", "the star that moves downward", "action"),
        ("a dog that walks to the left", "a dog that walks to the right", "action"),
        ("the star that does not move", "the star that turns around itself", "action"),
        ("a star higher than the cross", "a star lower than the cross", "relation"),
        ("An apple", "An apple", None),
    ],
)
def test_swaps_carry_their_kind(text: str, negative: str, kind: str | None) -> None:
    found = {item.text: item.kind for item in augment(text).negatives}
    assert found.get(negative) == kind


def test_articles_go_with_their_word() -> None:
    texts = [item.text for item in augment("a red star").negatives]
    assert "an orange star" in texts


def test_first_negatives_differ_in_kind() -> None:
    kinds = {item.kind for item in augment(SENTENCES[0], negatives=4).negatives}
    assert kinds == {"attribute", "category", "relation"}


def test_other_objects_come_first_and_are_never_a_positive() -> None:
    others = ("the little red star", "the blue cross")
    result = augment("the small red star", others)
    assert [item.text for item in result.negatives[:2]] == list(others)
    assert result.negatives[0].kind == "category"
    assert "the little red star" not in [item.text for item in result.positives]


def test_a_sentence_without_a_known_word_keeps_the_original_alone() -> None:
    result = augment("zyx")
    assert len(result.positives) == 1
    assert result.negatives == ()


def test_limits_hold_and_provenance_is_stored() -> None:
    result = augment(SENTENCES[0], positives=2, negatives=3)
    assert (len(result.positives), len(result.negatives)) == (2, 3)
    assert result.provenance.model == "lexicon"
    assert result.provenance.seed == 3
