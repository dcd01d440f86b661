"""The guarantee of a run, from ground truth, decisions or another run."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.context import RunContext
from flows.evaluation.guarantee import LEVELS
from flows.finished_results import mark_of
from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.review.guarantee import make_guarantee, run_signals
from pipeline.decisions import Decision, now
from pipeline.errors import ConfigError, PseudoLabelError
from storage.decisions import append_decisions
from storage.guarantee_table import read_guarantee
from tests.flows.conftest import Site, finish


def decide(ran: Site, video: str, action: Any, **more: Any) -> None:
    made = Decision("anna", now(), video, "0", action, **more)
    append_decisions(ran.folder / "review.jsonl", [made])


def test_ground_truth_makes_a_table_of_every_sample(ran: Site) -> None:
    made = make_guarantee(ran.config(), "truth", 0.8, 0.5)
    assert (made.labels, made.guarantee.videos, made.kept) == (8, 4, 1.0)
    assert made.held_out is not None and made.held_out.wrong == 0
    table = read_guarantee(ran.folder / "guarantee.parquet")
    assert len(table.columns["video"]) == 8
    assert min(table.columns["lower_j"]) >= 0.8
    assert min(table.columns["predicted_j"]) > 0.8
    assert table.about["masks"] == mark_of(RunContext(ran.config()))
    assert table.about["thresholds"]["0.8"] == pytest.approx(0.8)


def test_too_few_labels_are_told(ran: Site) -> None:
    made = make_guarantee(ran.config(), "truth", 0.8, 0.9)
    assert made.kept == 0
    assert any("Too few labels: 4 labelled videos" in line for line in made.warnings)
    assert "at least 9" in made.warnings[0]


def test_a_run_that_differs_from_the_labelled_one_is_told(ran: Site, finished: Site) -> None:
    # The signals of these masks are far below those of the labelled run.
    context = RunContext(ran.config())
    with mock.patch("flows.review.guarantee.run_signals") as signals:
        true = run_signals(context)
        few = {(f"v{n}", "0"): 0.01 * (n % 7) for n in range(40)}
        signals.side_effect = [few, {key: 0.9 + 0.01 * n for n, key in enumerate(true)}]
        made = make_guarantee(ran.config(), str(finished.folder), 0.8, 0.5)
    [warning] = [line for line in made.warnings if "differ" in line]
    assert "the promise need not hold for them; label some of them" in warning
    assert made.drift < 0.01 and made.kept == 0


def test_decisions_are_right_or_wrong_by_the_masks_of_the_run(ran: Site) -> None:
    before = run_signals(RunContext(ran.config()))
    with pytest.raises(PseudoLabelError, match="no labels from 'decisions'"):
        make_guarantee(ran.config(), "decisions")
    decide(ran, "clip00", "accept")
    decide(ran, "clip01", "absent", last=0)
    finish(ran)
    made = make_guarantee(ran.config(), "decisions", 0.8, 0.5)
    assert (made.labels, made.guarantee.videos) == (2, 2)
    assert any("drawn at random" in line for line in made.warnings)
    after = run_signals(RunContext(ran.config()))
    # Decided frames weigh 1, which says nothing of the other masks.
    undecided = {key: value for key, value in before.items() if key[0] in ("clip02", "clip03")}
    assert all(after[key] == value for key, value in undecided.items())
    assert after["clip00", "0"] != 1
    # Corrected masks are not the run's own, and no labels of truth.
    assert make_guarantee(ran.config(), "truth", 0.8, 0.5).labels == 6


def test_another_run_can_give_the_labels(ran: Site, finished: Site) -> None:
    made = make_guarantee(ran.config(), str(finished.folder), 0.8, 0.5)
    assert (made.labels, made.kept) == (8, 1.0)
    assert not any(read_guarantee(ran.folder / "guarantee.parquet").columns["labelled"])
    with pytest.raises(ConfigError, match="no run there"):
        make_guarantee(ran.config(), str(ran.data))


def test_only_levels_of_the_grid_can_be_promised(ran: Site) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        make_guarantee(ran.config(), "truth", 0.83)
    assert np.allclose(np.diff(LEVELS), 0.05)


def columns_of(ran: Site, *names: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(ran.folder / "quality.parquet").to_pydict()
    return {name: found[name] for name in names if name in found}


def test_promises_go_into_the_quality_table_the_report_and_the_card(ran: Site) -> None:
    before = columns_of(ran, "video", "weight", "lower_j")
    assert "lower_j" not in before
    make_guarantee(ran.config(), "truth", 0.8, 0.5)
    plan, _ = finish(ran)
    assert [job.stage for job in plan.pending()] == ["merge"]
    [job] = plan.pending()
    assert job.reason == "what is promised of the masks changed"
    after = columns_of(ran, "video", "expression", "weight", "predicted_j", "lower_j")
    assert after["weight"] == before["weight"] and min(after["lower_j"]) >= 0.8
    promised = read_guarantee(ran.folder / "guarantee.parquet").promised()
    samples = zip(after["video"], after["expression"], strict=True)
    assert after["predicted_j"] == [promised[sample][0] for sample in samples]
    assert "promised J of 0.8, at 50% confidence" in (ran.folder / "report" / "card.md").read_text()
    fields = json.loads((ran.folder / "report" / "croissant.json").read_text())["recordSet"][0]
    assert fields["field"][-1]["name"] == "lower_j"
    assert not finish(ran)[0].pending()
    assert not list(verify(ran.folder, Contents()))


def test_promises_of_earlier_masks_are_left_out_and_told(ran: Site) -> None:
    make_guarantee(ran.config(), "truth", 0.8, 0.5)
    decide(ran, "clip00", "reject")
    assert "about earlier masks" in finish(ran)[1]
    assert not columns_of(ran, "lower_j")
    (ran.folder / "guarantee.parquet").write_bytes(b"torn")
    assert "quality.parquet has no promises" in finish(ran)[1]
