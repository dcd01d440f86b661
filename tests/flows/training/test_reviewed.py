"""A student learns from reviewed samples alone, if it is asked to."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from flows.context import RunContext
from flows.planning.fingerprints import student_basis
from flows.review.guarantee import make_guarantee
from flows.training.build import taught_by
from pipeline.decisions import Decision, now
from pipeline.errors import ConfigError
from storage.decisions import append_decisions
from storage.guarantee_table import GuaranteeTable, read_guarantee, write_guarantee
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site, finish


def decide(ran: Site, video: str, action: Any, **more: Any) -> None:
    made = Decision("anna", now(), video, "1", action, **more)
    append_decisions(ran.folder / "review.jsonl", [made])


def context(ran: Site, *words: str) -> RunContext:
    return RunContext(ran.config(*words), fake_parts(ran.weights))


def test_accepted_and_corrected_samples_teach_and_no_others(ran: Site) -> None:
    asked = "student.reviewed_only=true"
    with pytest.raises(ConfigError, match="no sample was accepted"):
        taught_by(context(ran, asked))
    decide(ran, "clip00", "accept")
    decide(ran, "clip01", "reject")
    decide(ran, "clip02", "choose", track=0)
    decide(ran, "clip03", "absent", last=0)
    with pytest.raises(ConfigError, match="do not follow yet"):
        taught_by(context(ran, asked))
    finish(ran)
    source = pickle.loads(pickle.dumps(taught_by(context(ran, asked))))
    assert [(item.video, item.expression) for item in source.samples()] == [
        ("clip00", "1"),
        ("clip02", "1"),
    ]
    everything = taught_by(context(ran))
    assert len(list(everything.samples())) == 8


def test_a_student_that_learns_from_all_keeps_its_fingerprint(ran: Site) -> None:
    usual = student_basis(ran.config(), lambda name: "")
    assert "reviewed_only" not in usual["config"]
    asked = student_basis(ran.config("student.reviewed_only=true"), lambda name: "")
    assert asked["config"]["reviewed_only"] is True


def test_samples_of_which_enough_is_promised_teach_and_no_others(ran: Site) -> None:
    asked = "student.minimum_j=0.8"
    with pytest.raises(ConfigError, match="missing; expected promises"):
        taught_by(context(ran, asked))
    make_guarantee(ran.config(), "truth", 0.8, 0.5)
    path = ran.folder / "guarantee.parquet"
    table = read_guarantee(path)
    lower = [0.9 if video == "clip01" else 0.5 for video in table.columns["video"]]
    write_guarantee(path, GuaranteeTable(table.about, {**table.columns, "lower_j": lower}))
    source = pickle.loads(pickle.dumps(taught_by(context(ran, asked))))
    assert {item.video for item in source.samples()} == {"clip01"}
    with pytest.raises(ConfigError, match=r"J of 0\.95 is promised of no sample"):
        taught_by(context(ran, "student.minimum_j=0.95"))
    assert "minimum_j" not in student_basis(ran.config(), lambda name: "")["config"]
    asked_for = student_basis(ran.config(asked), lambda name: "")
    assert asked_for["config"]["minimum_j"] == 0.8
