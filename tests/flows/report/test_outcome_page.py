from __future__ import annotations

from collections import Counter

from flows.outcome import RunOutcome, SampleOutcome
from flows.report.outcome_page import kept_share, outcome_page
from pipeline.types import Status


def test_the_page_says_what_was_made_rejected_measured_and_skipped() -> None:
    statuses = Counter({Status.PRESENT: 3, Status.ABSENT: 1})
    sample = SampleOutcome(statuses, Counter({"no box claims it": 1}))
    outcome = RunOutcome({("clip", "0"): sample}, {"a|b": "a broken\nimage"})
    metrics = {"pseudo_masks": {"overall": {"J&F": 91.25}}, "baseline": None}
    page = outcome_page(outcome, metrics, {("fuse", "00000"): "out of luck"})
    assert "3 of 4 frames have a mask" in page
    assert "| no box claims it | 1 |" in page
    assert "| J\\&F | 91\\.2 |" in page
    assert "### Skipped videos (1)" in page
    assert "| a\\|b | a broken image |" in page
    assert "| fuse 00000 | out of luck |" in page
    assert kept_share(outcome) == 0.75


def test_a_run_without_frames_or_ground_truth_has_a_page_too() -> None:
    page = outcome_page(RunOutcome(), {}, {})
    assert "0 videos" in page
    assert "###" not in page
    assert kept_share(RunOutcome()) == 0
