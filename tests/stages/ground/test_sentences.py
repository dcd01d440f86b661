"""A sentence's score is its own: length, capitals, punctuation and the others do not change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.planning.presets import config_of_preset
from pipeline.config import GroundConfig, RunConfig, load_config
from pipeline.types import (
    Augmentation,
    CandidateScores,
    Hypotheses,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    Status,
    Tracks,
)
from stages.fuse import fuse
from stages.ground.queries import texts_of
from stages.ground.sentences import as_caption, sentence_scores
from tests.fakes.published import PROFILES, ProfiledGrounder, Scene

LEVELS: tuple[Literal["track", "frame"], ...] = ("track", "frame")
RED, BLUE = (4.0, 8.0, 16.0, 20.0), (44.0, 20.0, 56.0, 32.0)
FILLER = ("that", "can", "be", "seen", "there", "while", "it", "is", "near", "what", "was")
WORDS = (3, 6, 8, 16, 40)
PRESETS = {name: load_config(config_of_preset(name)) for name in ("small", "base", "large")}


def sentence(words: int, start: str = "the red square") -> str:
    own = start.split()
    return " ".join([*own, *(FILLER[i % len(FILLER)] for i in range(words - len(own)))])


def fused(
    scenes: Sequence[Scene],
    positives: Sequence[str],
    negatives: Sequence[str] = (),
    profile: str = "peaked",
    level: Literal["track", "frame"] = "track",
    joint: int = 1,
    preset: RunConfig = PRESETS["base"],
    telling_share: float = 0.5,
) -> Hypotheses:
    """Grounds and fuses a sample. Every box is a candidate, and every square a track."""
    config = preset.ground.model_copy(update={"joint": joint})
    augmentation = Augmentation(
        SampleKey("shapes", "train", "v", "0"),
        tuple(Positive(text, 1.0) for text in positives),
        tuple(Negative(text, "category") for text in negatives),
        Provenance("test", "0", "0", 0),
    )
    texts = texts_of([augmentation])
    boxes = ProfiledGrounder(config, PROFILES[profile]).ground(list(scenes), texts)
    candidates, tracks = [], []
    for item in boxes:
        places, row = np.unique(item.xyxy, axis=0, return_inverse=True)
        sure = np.full(len(places), 0.95, np.float32)
        candidates.append(CandidateScores(sure, sure, row.ravel().astype(np.int32)))
        known = [RED, BLUE]
        of = [known.index(place) if (place := tuple(each)) in known else 2 for each in places]
        tracks.append(np.array(of, np.int32))
    settings = preset.fuse.model_copy(update={"level": level, "telling_share": telling_share})
    return fuse(augmentation, texts, boxes, candidates, Tracks(tuple(tracks)), settings)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("joint", [1, 8])
@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("name", list(PRESETS))
def test_sentences_of_every_length_are_present_on_the_right_box(
    name: str, profile: str, joint: int, level: Literal["track", "frame"]
) -> None:
    for words in WORDS:
        found = fused(
            [{"red": RED, "blue": BLUE}] * 2,
            [sentence(words)],
            [sentence(4, "the blue square"), "a dog"],
            profile,
            level,
            joint,
            PRESETS[name],
        )
        assert found.status.tolist() == [Status.PRESENT] * 2, words
        assert tuple(found.box[0, 0]) == RED


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("name", list(PRESETS))
def test_sentences_of_every_length_are_absent_where_no_object_is(
    name: str, profile: str, level: Literal["track", "frame"]
) -> None:
    for words in WORDS:
        found = fused([{}, {}], [sentence(words)], (), profile, level, preset=PRESETS[name])
        assert found.status.tolist() == [Status.ABSENT] * 2, words


@pytest.mark.parametrize("profile", ["peaked", "flat"])
@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_a_short_negative_does_not_win_against_a_long_positive_by_its_length(
    profile: str, words: int
) -> None:
    negative = " ".join(("square", "there", "a", "is")[:words])
    found = fused(
        [{"red": RED}],
        [sentence(40)],
        [negative],
        profile,
        level="frame",
        telling_share=1.0,  # it objects, though it has no box of its own
    )
    assert found.status.tolist() == [Status.PRESENT]
    assert found.negative_margin[0, 0] >= 0


SOME_WORDS = st.lists(st.sampled_from([*FILLER, "red", "moving"]), max_size=30)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("profile", ["peaked", "flat"])
@given(
    appended=SOME_WORDS,
    capitals=st.booleans(),
    marks=st.sampled_from(["", ".", "!", "...", "?!", " ;"]),
    others=st.lists(st.integers(3, 40), max_size=9),
    joint=st.sampled_from([1, 8]),
    scene=st.sampled_from([{"red": RED}, {"red": RED, "blue": BLUE}, {}]),
)
def test_a_verdict_is_invariant(
    profile: str,
    level: Literal["track", "frame"],
    appended: list[str],
    capitals: bool,
    marks: str,
    others: list[int],
    joint: int,
    scene: Scene,
) -> None:
    plain = "the red square"
    changed = " ".join([plain, *appended]) + marks
    changed = changed.upper() if capitals else changed
    elsewhere = [sentence(length, "a dog") for length in others]
    before = fused([scene], [plain], [], profile, level, 1)
    after = fused([scene], [changed], list(dict.fromkeys(elsewhere)), profile, level, joint)
    assert after.status.tolist() == before.status.tolist()
    assert after.box_score[0, 0] == pytest.approx(before.box_score[0, 0], abs=1e-6)


@given(
    chance=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=12),
    lower=st.lists(st.floats(0, 1), max_size=40),
)
def test_words_below_the_best_do_not_change_a_score(
    chance: list[float], lower: list[float]
) -> None:
    config = GroundConfig(score="best", best_words=2)
    second = sorted(chance)[-2]

    def score(values: Sequence[float]) -> float:
        logits = torch.tensor(values).logit()[None, None]
        owner = torch.zeros(1, len(values), dtype=torch.int64)
        return float(sentence_scores(logits, owner, 1, config))

    assert score([*chance, *(each * second for each in lower)]) == pytest.approx(score(chance))


def test_a_sentence_of_one_word_gains_nothing_by_being_short() -> None:
    config = GroundConfig(score="best", best_words=2)
    logits = torch.tensor([[[0.75, 0.75, 0.01]]]).logit()
    owner = torch.tensor([[0, 1, 1]])
    found = sentence_scores(logits, owner, 3, config)[0, :, 0]
    assert found.tolist() == pytest.approx([0.375, 0.38, 0.0])


def test_a_score_is_that_of_the_model_unless_it_is_given() -> None:
    assert GroundConfig().score == "mean"
    published = {"backbone": "swin_B_384_22k"}
    assert GroundConfig.model_validate(published).score == "best"
    assert GroundConfig.model_validate({**published, "score": "max"}).score == "max"


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_ground_with_the_model_that_is_best_at_referring(name: str) -> None:
    ground = PRESETS[name].ground
    assert ground.checkpoint.endswith("groundingdino_swinb_cogcoor.pth")
    assert (ground.backbone, ground.score) == ("swin_B_384_22k", "best")


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("The Red Circle", "the red circle."),
        ("a man. he runs.", "a man he runs."),
        ("which one is red?", "which one is red."),
        ("  spaces   between\twords ", "spaces between words."),
        ("wait... there?!", "wait there."),
        ("the player with no. 5", "the player with no 5."),
        ("a st. bernard", "a st bernard."),
        ("the U.S. flag, 3.5 m wide", "the u s flag 3 5 m wide."),
        ("the man’s t-shirt - 'red'", "the man's t-shirt red."),
        ("50% of it", "50% of it."),
        ("...", "."),
    ],
)
def test_a_caption_is_one_sub_sentence(text: str, caption: str) -> None:
    assert as_caption(text) == caption


@given(text=st.text(max_size=60))
def test_no_text_parts_a_caption(text: str) -> None:
    caption = as_caption(text)
    assert caption.endswith(".")
    assert not {".", "?"} & set(caption[:-1])
    assert as_caption(caption) == caption
