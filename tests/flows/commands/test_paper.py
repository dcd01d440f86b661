"""``pseudolabels paper``: rehearsals on `shapes`, and what the command line refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.papers.tables import TABLES
from tests.flows.commands.conftest import Cli

DATA = ["shapes.train_videos=2", "shapes.valid_videos=1", "device=cpu"]
SMALL = [*DATA, "student.steps=2", "student.clips_per_step=1", "student.frames_per_clip=2"]


def test_tables_and_rows_that_are_not_there_are_named_and_missing_masks_too(cli: Cli) -> None:
    code, shown = cli("paper", "nosuch")
    assert code == 2 and "expected one of labels, " in shown
    code, shown = cli("paper", "simrvos-lgcfs", *SMALL, "--row", "x")
    assert code == 2 and "--row 'x': unknown; expected one of without LGCFS" in shown
    code, shown = cli("paper", "labels", *SMALL)
    assert code == 2 and "no masks, which the row 'pseudo-masks' learns from" in shown


def test_the_list_names_the_tables(cli: Cli) -> None:
    code, shown = cli("paper", "--list")
    assert code == 0 and "simrvos-budgets" in shown
    code, shown = cli("paper", "groprompt", "--list")
    assert code == 0 and "the grounder as it is" in shown and "J&F 65.2 on refdavis" in shown


def test_a_row_is_trained_once(cli: Cli) -> None:
    words = ["paper", "simrvos-random-mask", "--row", "the first frame's mask", "--json"]
    words += [*SMALL, "student.short_side=32", "student.channels=16"]
    code, first = cli(*words)
    assert code == 0 and "the first frame's mask, seed 0: J&F " in first
    code, again = cli(*words)
    assert code == 0 and "seed 0" not in again
    document, _ = json.JSONDecoder().raw_decode(first[first.index("{") :])
    assert json.loads(again) == document
    code, changed = cli(*words, "student.steps=3")
    assert code == 0 and "seed 0: J&F" in changed


@pytest.mark.slow
def test_what_labels_of_a_student_cost_is_what_taught_it(cli: Cli) -> None:
    words = ["paper", "simrvos-two-steps", "--json", *SMALL]
    words += ["student.short_side=32", "student.channels=16"]
    code, shown = cli(*words)
    assert code == 0, shown
    found, _ = json.JSONDecoder().raw_decode(shown[shown.index("{") :])
    hours = [row["measured"]["hours of annotation"]["mean"] for row in found.values()]
    assert hours[0] == hours[1] > 0


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Path:
    """A run of two videos, whose masks, sentences and candidates the tables take."""
    out = tmp_path_factory.mktemp("rehearsed")
    words = ["run", "--out", str(out), "student.enabled=false", *DATA]
    subprocess.run([sys.executable, "-m", "flows", *words], check=True, capture_output=True)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_table_rehearses_on_shapes(name: str, rehearsed: Path, cli: Cli) -> None:
    words = ["paper", name, "--out", str(rehearsed), *SMALL, "student.short_side=32"]
    code, shown = cli(*words)
    assert TABLES[name].asks in shown
    assert "a rehearsal: small models on rendered videos" in shown
    # After two steps, a student may be sure of no frame, and then its labels teach nobody.
    unsure = "two steps, seed 0: no frame has supervision of any weight" in shown
    assert code == int(unsure), shown
    code, shown = cli(*words, "--json")
    found, _ = json.JSONDecoder().raw_decode(shown[shown.index("{") :])
    assert code == int(unsure) and found.keys() == TABLES[name].rows.keys()
    measured = [row["measured"] for row in found.values() if row["measured"]]
    assert len(measured) == len(found) - int(unsure)
    for figures in measured:
        assert all(0 <= figures[metric]["mean"] <= 100 for metric in TABLES[name].metrics)
