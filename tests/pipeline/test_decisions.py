"""What decisions come to: later ones count, undo takes one's own last one back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conflicts import conflicts_of
from pipeline.decisions import (
    ABSENT,
    DRAWN,
    KEPT,
    Decision,
    Span,
    Verdict,
    digest_of_verdicts,
    verdicts_of,
)
from pipeline.drawn import Drawn


def decision(action: Any, second: int = 0, who: str = "anna", **more: Any) -> Decision:
    when = f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00"
    return Decision(who, when, more.pop("video", "v"), "0", action, **more)


def drawn(frame: int) -> Drawn:
    return Drawn.of(frame, np.eye(4, dtype=np.bool_))


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
    assert found.fitting("old", (4, 4)) == found
    assert found.fitting("new", (4, 4)).spans == (Span(0, 0, None),)


def test_a_drawn_mask_is_of_its_frame_and_carried_to_the_next_decisions() -> None:
    draws = [decision("draw", n, drawn=(drawn(at),)) for n, at in ((1, 2), (2, 7))]
    found = verdict(*draws, decision("absent", 3, first=4, last=4))
    assert found.frames(9).tolist() == [-1, -1, DRAWN, -1, ABSENT, -1, -1, DRAWN, -1]
    carried = [item and item.drawn[0].frame for item in found.carried(9)]
    assert carried == [2, 2, None, 2, None, 7, 7, None, 7]
    assert found.words() == (
        "a mask drawn in frame 2, a mask drawn in frame 7, absent in frames 4 to 4"
    )
    assert found.reviewed and found.drawn(7) == drawn(7) and found.drawn(3) is None
    assert found.fitting("", (4, 5)).spans == (Span(4, 4, None),)
    again = Verdict(spans=(*found.spans[:1], Span(0, None, 3)))
    assert again.frames(3).tolist() == [3, 3, 3] and again.carried(3) == [None] * 3


def test_a_mask_is_carried_within_its_frames_and_from_the_nearer_one() -> None:
    one = decision("draw", 1, first=1, last=9, drawn=(drawn(3),))
    two = decision("draw", 2, drawn=(drawn(6),))
    carried = [item and item.drawn[0].frame for item in verdict(one, two).carried(11)]
    assert carried == [None, 3, 3, None, 3, 6, None, 6, 6, 6, 6]
    # Frames that a video no longer has are no frames.
    assert verdict(two).carried(3) == [None] * 3
    redrawn = decision("draw", 3, drawn=(Drawn.of(3, np.zeros((4, 4), np.bool_)),))
    assert verdict(one, redrawn).drawn(3) == redrawn.drawn[0]
    assert len(verdict(one, redrawn).spans) == 1


def test_a_digest_covers_the_pixels_that_were_drawn() -> None:
    digests = {
        digest_of_verdicts(verdicts_of([decision("draw", 1, drawn=(item,))]), ["v"])
        for item in (drawn(1), drawn(2), Drawn.of(1, np.ones((4, 4), np.bool_)))
    }
    assert len(digests) == 3


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
        {"action": "draw"},
        {"action": "draw", "drawn": [{"frame": 0, "size": [4, 4], "counts": "04"}]},
        {"action": "draw", "drawn": [{"frame": 0, "size": [4], "counts": "`0"}]},
        {"action": "draw", "drawn": [drawn(0).as_json() | {"frame": -1}]},
        {"action": "draw", "to": 1, "drawn": [drawn(2).as_json()]},
        {"drawn": [drawn(0).as_json()]},
    ],
)
def test_what_is_no_decision_is_refused(wrong: dict[str, Any]) -> None:
    values = decision("accept").as_json() | wrong
    with pytest.raises((ValueError, TypeError)):
        Decision.from_json(values)


actions = st.sampled_from(["accept", "reject", "absent", "choose", "draw", "undo"])


@given(st.lists(st.tuples(actions, st.sampled_from(["anna", "ben"]), st.integers(0, 5))))
def test_undoing_everything_leaves_nothing(said: list[tuple[str, str, int]]) -> None:
    log = [
        decision(
            action,
            n,
            who,
            first=frame,
            track=1 if action == "choose" else None,
            drawn=(drawn(frame),) if action == "draw" else (),
        )
        for n, (action, who, frame) in enumerate(said)
    ]
    assert all(Decision.from_json(item.as_json()) == item for item in log)
    undone = [decision("undo", len(said) + n, who) for who in ("anna", "ben") for n in range(99)]
    assert verdicts_of([*log, *undone]) == {}
