from __future__ import annotations

from collections import Counter

import pytest

from flows.labelling.executor import Summary
from flows.orchestration.watching.final_states import final_state
from flows.outcome import RunOutcome, SampleOutcome
from pipeline.types import Status


def outcome(present: int, skipped: int = 0) -> RunOutcome:
    statuses = Counter({Status.PRESENT: present, Status.ABSENT: 1})
    samples = {("clip", "0"): SampleOutcome(statuses)}
    return RunOutcome(samples, {f"clip{number}": "broken" for number in range(skipped)})


@pytest.mark.parametrize(
    ("summary", "name"),
    [
        (Summary(), "Completed"),
        (Summary({}, outcome(3)), "Completed"),
        (Summary({}, outcome(3, skipped=2)), "Completed with 2 skipped"),
        (Summary({("fuse", "00000"): "x"}, outcome(3, 1)), "Completed with 1 skipped, 1 failed"),
        (Summary({}, outcome(0)), "Completed with no masks"),
    ],
)
def test_a_run_that_lost_something_says_so_in_the_name_of_its_state(
    summary: Summary, name: str
) -> None:
    state = final_state(summary)
    assert state.is_completed()
    assert state.name == name


def test_the_message_says_what_came_of_it() -> None:
    message = final_state(Summary({("fuse", "00000"): "x"}, outcome(3))).message
    assert message is not None
    assert "3 of 4 frames have a mask" in message
    assert message.endswith("failed: fuse 00000")
