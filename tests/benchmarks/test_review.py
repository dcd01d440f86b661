"""The benchmarks of reviews and of guarantees, on made-up samples."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.guarantee import split
from benchmarks.review import BUDGETS, Sample, curve, report, table_of
from flows.evaluation.guarantee import Labels
from pipeline.types import FrameQuality


def sample(video: str, weight: float, own: float, best: float) -> Sample:
    row = FrameQuality(video, "0", 0, "0", 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, weight, 1, "")
    return Sample(video, "place", [row] * 3, (own, own), (best, best))


def test_a_curve_adds_up_what_the_oracle_gains() -> None:
    found = [sample("a", 0.9, 0.9, 0.9), sample("b", 0.1, 0.0, 0.8)]
    values = curve(found, np.array([1, 0]))
    assert values[0] == pytest.approx(45) and values[1:] == pytest.approx([85] * (len(BUDGETS) - 1))
    assert table_of(found).present_weight.tolist() == pytest.approx([0.9, 0.1])


def test_twenty_by_gain_are_ahead_of_twenty_at_random() -> None:
    found = [sample(f"v{n}", 0.9, 0.9, 0.9) for n in range(180)]
    found += [sample(f"w{n}", 0.2, 0.1, 0.9) for n in range(20)]
    ahead = report(found)[-1]
    assert "+7." in ahead


def test_a_split_labels_one_half_and_tests_the_other() -> None:
    videos = [f"v{n}" for n in range(40)]
    right = Labels(videos, np.linspace(0.5, 1, 40), np.ones(40))
    assert split(right, 0.8, 0.9, 0)[1] == 0
    assert split(right, 0.8, 0.9, 0)[0] > 0.5
    wrong = Labels(videos, np.linspace(0.5, 1, 40), np.zeros(40))
    assert split(wrong, 0.8, 0.9, 0) == (0, 0)
