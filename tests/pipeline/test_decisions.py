"""What decisions come to: later ones count, undo takes one's own last one back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decisions import (
    ABSENT,
    KEPT,
    Decision,
    Span,
    Verdict,
    conflicts_of,
    digest_of_verdicts,
    verdicts_of,
)


def decision(action: Any, second: int = 0, who: str = "anna", **more: Any) -> Decision:
    when = f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00"
    return Decision(who, when, more.pop("video", "v"), "0", action, **more)


def verdict(*decisions: Decision) -> Verdict:
    return verdicts_of(decisions).get(("v", "0"), Verdict())


def test_the_last_decision_by_time_counts_in_whatever_order_they_come() -> None:
    early, late = decision("reject", 1), decision("accept", 2, "ben")
    assert verdict(early, late).judged == verdict(late, early).judged == "accept"


def test_undo_takes_back_ones_own_last_decision_alone() -> None:
    first, second = decision("accept", 1), decision("reject", 2)
    assert verdict(first, second, decision("undo", 3)).judged == "accept"
    assert verdict(first, second, decision("undo", 3, "ben")).judged == "reject"
    assert not verdict(first, decision("undo", 3), decision("undo", 4))
    assert verdicts_of([first, decision("undo", 3)]) == {}


def test_a_log_that_is_merged_twice_counts_once() -> None:
    log = [decision("accept", 1), decision("reject", 2), decision("undo", 3)]
    assert verdict(*log, *log).judged == "accept"


def test_frames_of_a_choice_and_of_an_absence() -> None:
    found = verdict(
        decision("choose", 1, first=2, track=4),
        decision("absent", 2, first=3, last=4),
    )
    assert found.frames(6).tolist() == [KEPT, KEPT, 4, ABSENT, ABSENT, 4]
    assert found.reviewed
    later = decision("choose", 3, first=2, track=1)
    assert verdict(decision("absent", 2, first=3, last=4), later).spans == (Span(2, None, 1),)


def test_a_choice_replaces_a_rejection() -> None:
    found = verdict(decision("reject", 1), decision("choose", 2, track=0))
    assert (found.judged, found.reviewed) == ("", True)
    assert not verdict(decision("choose", 1, track=0), decision("reject", 2)).reviewed


def test_people_who_disagree_are_listed_with_what_holds() -> None:
    same = [decision("accept", 1), decision("accept", 2, "ben")]
    assert conflicts_of(same) == []
    [found] = conflicts_of([*same, decision("reject", 3, "cleo")])
    assert found.sample == ("v", "0")
    assert found.verdicts == {"anna": "accepted", "ben": "accepted", "cleo": "rejected"}
    assert found.holds == "rejected"


def test_a_digest_is_of_what_holds_and_empty_without_any() -> None:
    accept = [decision("accept", 1)]
    one = digest_of_verdicts(verdicts_of(accept), ["v"])
    assert one and digest_of_verdicts(verdicts_of(accept), ["w"]) == ""
    both = [*accept, decision("reject", 2), decision("undo", 3)]
    assert digest_of_verdicts(verdicts_of(both), ["v"]) == one


def test_a_choice_among_other_tracks_is_left_out() -> None:
    found = verdict(decision("choose", 1, track=2, masks="old"), decision("absent", 2, last=0))
    assert found.without_other_tracks("old") == found
    assert found.without_other_tracks("new").spans == (Span(0, 0, None),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "delete"},
        {"who": ""},
        {"who": "x" * 300},
        {"when": "2026-01-01T00:00:00"},
        {"when": "yesterday"},
        {"from": -1},
        {"from": 3, "to": 2},
        {"from": True},
        {"track": 1},
        {"action": "choose"},
        {"action": "choose", "track": -1},
        {"video": 3},
    ],
)
def test_what_is_no_decision_is_refused(wrong: dict[str, Any]) -> None:
    values = decision("accept").as_json() | wrong
    with pytest.raises((ValueError, TypeError)):
        Decision.from_json(values)


actions = st.sampled_from(["accept", "reject", "absent", "choose", "undo"])


@given(st.lists(st.tuples(actions, st.sampled_from(["anna", "ben"]), st.integers(0, 5))))
def test_undoing_everything_leaves_nothing(said: list[tuple[str, str, int]]) -> None:
    log = [
        decision(action, n, who, first=frame, track=1 if action == "choose" else None)
        for n, (action, who, frame) in enumerate(said)
    ]
    assert all(Decision.from_json(item.as_json()) == item for item in log)
    undone = [decision("undo", len(said) + n, who) for who in ("anna", "ben") for n in range(99)]
    assert verdicts_of([*log, *undone]) == {}
