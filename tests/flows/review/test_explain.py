"""An explanation of a frame of a run, in words."""

from __future__ import annotations

import pytest

from flows.context import RunContext
from flows.review.explain import explain_frame, shard_of
from pipeline.decisions import Decision, now
from pipeline.errors import PseudoLabelError
from storage.decisions import append_decisions
from tests.flows.conftest import HOSTILE, Site


def test_it_names_sentences_thresholds_and_decisions(ran: Site) -> None:
    append_decisions(
        ran.folder / "review.jsonl",
        [Decision("anna", now(), "clip02", "0", "absent", first=1, last=1)],
    )
    context = RunContext(ran.config())
    assert shard_of(context, "clip02") == "00001"
    found = explain_frame(context, "00001", ("clip02", "0"), 1)
    text = "\n".join(found.lines())
    assert repr(HOSTILE) in text and "100% of the vote" in text
    assert "fuse.present_above: 0.800 >= 0.100" in text
    assert "is the closest" in text
    assert "People decided: absent in frames 1 to 1" in text
    assert "People decided" not in "\n".join(
        explain_frame(context, "00001", ("clip02", "0"), None).lines()
    )


def test_what_is_not_there_is_named(ran: Site) -> None:
    context = RunContext(ran.config())
    with pytest.raises(PseudoLabelError, match="no video nothing"):
        shard_of(context, "nothing")
    with pytest.raises(PseudoLabelError, match="no expression 9; expected one of 0, 1"):
        explain_frame(context, "00000", ("clip00", "9"), 0)
    with pytest.raises(PseudoLabelError, match="no frame 99; expected 0 to 4"):
        explain_frame(context, "00000", ("clip00", "0"), 99)


def test_votes_in_single_frames_are_explained_too(ran: Site) -> None:
    context = RunContext(ran.config('fuse.level="frame"'))
    text = "\n".join(explain_frame(context, "00000", ("clip00", "0"), 0).lines())
    assert "instance 0: score 0.800" in text and "-fuse.claim_margin / 2" in text
