"""What a run says of itself at its end."""

from __future__ import annotations

import pytest

from flows.outcome import FEW, RunOutcome, SampleOutcome, advice, outcome_lines
from pipeline.config import RunConfig, load_config
from pipeline.types import Status
from stages.fuse.votes import (
    CLAIMED_BY_NEGATIVE,
    IN_DOUBT,
    NOT_SEEN,
    NOTHING_FOUND,
    UNCLAIMED,
)
from storage.quality_counts import FrameCount

ABSENT, PRESENT, UNKNOWN = int(Status.ABSENT), int(Status.PRESENT), int(Status.UNKNOWN)


def _sample(*counts: tuple[int, str, int]) -> SampleOutcome:
    sample = SampleOutcome()
    for status, reason, frames in counts:
        sample.add(FrameCount("dog", "0", status, reason, frames, 0.11))
    return sample


@pytest.fixture
def config() -> RunConfig:
    return load_config(None, ['out="/nowhere"'])


def test_absent_frames_are_not_masks() -> None:
    sample = _sample((PRESENT, "", 3), (ABSENT, UNCLAIMED, 4), (UNKNOWN, IN_DOUBT, 1))
    outcome = RunOutcome({("dog", "0"): sample}, {f"v{n}": "broken" for n in range(7)})
    lines = outcome_lines(outcome)
    assert lines[0] == (
        "1 video, 1 expression: 3 of 8 frames have a mask; the target is absent from 4;"
        " 1 are unknown"
    )
    assert lines[1].startswith(f"Frames without a mask: {UNCLAIMED} (4); {IN_DOUBT} (1)")
    assert lines[2] == "Skipped v0: broken"
    assert lines[-1] == "… and 2 more videos are skipped"
    assert not outcome.is_nothing


@pytest.mark.parametrize(
    ("counts", "nothing"),
    [
        ([(ABSENT, UNCLAIMED, 4)], True),
        ([(UNKNOWN, IN_DOUBT, 4)], True),
        ([(ABSENT, CLAIMED_BY_NEGATIVE, 3), (UNKNOWN, IN_DOUBT, 1)], True),
        ([(PRESENT, "", 1), (ABSENT, UNCLAIMED, 90)], False),
        ([], True),
    ],
)
def test_nothing_came_out_without_a_mask(counts: list[tuple[int, str, int]], nothing: bool) -> None:
    samples = {("dog", "0"): _sample(*counts)} if counts else {}
    assert RunOutcome(samples).is_nothing == nothing


@pytest.mark.parametrize(
    ("status", "reason", "said", "remedy"),
    [
        (ABSENT, UNCLAIMED, "best box there scores 0.11", "fuse.absent_below=0.06"),
        (ABSENT, CLAIMED_BY_NEGATIVE, "another sentence fits", "augment.negatives=0"),
        (ABSENT, NOTHING_FOUND, "no box was found", "other weights"),
        (ABSENT, NOT_SEEN, "has less support than 0.1 there", "a lower fuse.present_above"),
        (UNKNOWN, IN_DOUBT, "fuse.uncertain_below is 0.3", "fuse.uncertain_below=0.25"),
        (UNKNOWN, "breaks the temporal order", "breaks", "rank.enabled=false"),
    ],
)
def test_where_little_came_out_it_says_why_and_what_to_try(
    config: RunConfig, status: int, reason: str, said: str, remedy: str
) -> None:
    [line] = advice(RunOutcome({("dog", "0"): _sample((status, reason, 24))}), config)
    assert line.startswith("dog: 0 of 24 frames have a mask for '0': ")
    assert said in line
    assert remedy in line.partition("try ")[2]


def test_a_large_run_with_many_masks_gives_no_advice(config: RunConfig) -> None:
    samples = {("v", str(n)): _sample((PRESENT, "", 9)) for n in range(FEW)}
    samples["v", "empty"] = _sample((ABSENT, UNCLAIMED, 9))
    assert advice(RunOutcome(samples), config) == []


def test_a_large_run_is_added_up(monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    monkeypatch.setattr("flows.outcome._MOST_TOLD", 2)
    outcome = RunOutcome()
    for number in range(5):
        full, empty = _sample((PRESENT, "", 3)), _sample((ABSENT, UNCLAIMED, 4))
        outcome.add({(f"v{number}", "0"): full, (f"v{number}", "1"): empty})
    assert outcome.count == 10
    assert outcome.videos == 5
    assert len(outcome.samples) == 2
    assert outcome.statuses == {Status.PRESENT: 15, Status.ABSENT: 20}
    assert outcome.reasons == {UNCLAIMED: 20}
    assert outcome_lines(outcome)[0].startswith("5 videos, 10 expressions: 15 of 35 frames")
    monkeypatch.setattr("flows.outcome.LITTLE", 0.9)
    assert advice(outcome, config)[-1] == "… and 2 more expressions have no mask at all"
