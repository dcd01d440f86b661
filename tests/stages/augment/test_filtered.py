"""Positives are measured by another model than the one that wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import (
    Augmentation,
    Expression,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    VideoRef,
)
from stages.augment.filtered import FilteredCaptioner, shares_of_first

KEY = SampleKey("shapes", "train", "v", "0")
COSINES = {"a": 0.2, "b": 0.18, "c": 0.1, "d": 0.3}


class Captioner:
    closed = False

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        positives = (Positive("a", 1.0), *(Positive(text, 0.7) for text in "bcd"))
        made = Augmentation(KEY, positives, (Negative("e", "action"),), Provenance("m", "", "", 0))
        return [CaptionAnswer(made, {"odd": 1}, (5, 6), (0.1,)) for _ in requests]

    def close(self) -> None:
        self.closed = True


class Encoder:
    def cosines(self, images: Any, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([COSINES[text] for text in texts])


def test_a_similarity_is_a_share_of_the_originals_cosine() -> None:
    stage = FilteredCaptioner(Captioner(), Encoder(), 0.8)
    [answer] = stage.augment(
        [CaptionRequest(VideoRef("v", (), (), 8, 8), [], Expression(KEY, "a"))]
    )
    found = answer.augmentation
    assert [(item.text, item.confidence) for item in found.positives] == [
        ("a", 1.0), ("b", 0.7), ("d", 0.7)
    ]  # fmt: skip
    assert [item.similarity for item in found.positives] == pytest.approx([1, 0.9, 1])
    assert answer.similarities == pytest.approx((0.9, 0.5, 1))
    assert answer.left_out == {"odd": 1, "positive below minimum_similarity": 1}
    assert (answer.tokens, len(found.negatives)) == ((5, 6), 1)


def test_what_the_captioner_holds_is_closed() -> None:
    captioner = Captioner()
    FilteredCaptioner(captioner, Encoder(), 0.8).close()
    assert captioner.closed


@pytest.mark.parametrize(
    ("cosines", "shares"),
    [
        ([0.2, 0.1, 0.4], [1, 0.5, 1]),
        ([0.2, -0.1], [1, 0]),
        ([-0.1, 0.2, 0.1], [0, 1, 0.5]),
        ([-0.1, -0.2], [1, 1]),
    ],
)
def test_shares_are_within_0_and_1(cosines: list[float], shares: list[float]) -> None:
    assert shares_of_first(np.array(cosines)).tolist() == pytest.approx(shares)
