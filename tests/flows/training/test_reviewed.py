"""A student learns from reviewed samples alone, if it is asked to."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.context import RunContext
from flows.exchange.export import export_run
from flows.planning.fingerprints import student_basis
from flows.report.card import write_export_card
from flows.review.guarantee import make_guarantee
from flows.training.build import taught_by
from pipeline.decisions import Decision, now
from pipeline.errors import ConfigError
from storage.decisions import append_decisions
from storage.guarantee_table import GuaranteeTable, read_guarantee, write_guarantee
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site, finish

QUIET = Console(quiet=True)


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


def test_samples_of_which_enough_is_promised_are_exported_and_no_others(
    ran: Site, tmp_path: Path
) -> None:
    def export(to: str, out: str, minimum: float, source: str = "masks") -> Path:
        path = tmp_path / out
        export_run(ran.config(), to, path, QUIET, source, False, minimum_j=minimum)
        return path

    make_guarantee(ran.config(), "truth", 0.8, 0.5)
    path = ran.folder / "guarantee.parquet"
    table = read_guarantee(path)
    pairs = zip(table.columns["video"], table.columns["expression"], strict=True)
    lower = [0.9 if pair in (("clip01", "1"), ("clip02", "0")) else 0.5 for pair in pairs]
    write_guarantee(path, GuaranteeTable(table.about, {**table.columns, "lower_j": lower}))
    document = json.loads(export("ytvis", "masks.json", 0.8).read_text())
    assert [video["id"] for video in document["videos"]] == [1, 2]
    assert len(document["annotations"]) == 2
    index = export("ytvos", "ytvos", 0.8) / "meta_expressions/train/meta_expressions.json"
    videos = json.loads(index.read_text())["videos"]
    assert {name: list(entry["expressions"]) for name, entry in videos.items()} == {
        "clip01": ["1"],
        "clip02": ["0"],
    }
    rows = pq.read_table(export("parquet", "rows.parquet", 0.8)).to_pylist()
    assert {(row["video"], row["expression"]) for row in rows} == {("clip01", "1"), ("clip02", "0")}
    card = write_export_card(RunContext(ran.config()), "ytvos", tmp_path / "ytvos", "masks", 0.8)
    assert "--from masks --minimum-j 0.8" in card.read_text()
    with pytest.raises(ConfigError, match=r"J of 0\.95 is promised of no sample"):
        export("ytvis", "none.json", 0.95)
    for to, source in (("wsrvos", "masks"), ("ytvis", "student")):
        with pytest.raises(ConfigError, match="promises are of the run's own masks"):
            export(to, "other", 0.8, source)
