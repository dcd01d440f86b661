"""The tables: every row is a student that can be built, and none is there twice."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from flows.papers.rows import student_of
from flows.papers.settings import STUDENTS, settings_of, without_others
from flows.papers.show import list_rows, list_tables, show_table, write_table
from flows.papers.tables import TABLES
from pipeline.config import dump_config, load_config


@pytest.mark.parametrize("rehearsal", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_student_of_its_own(name: str, rehearsal: bool) -> None:
    seen = set()
    for row in TABLES[name].rows.values():
        for fields in (row.student, row.before, row.teacher):
            if fields is None:
                continue
            model = str(fields["model"])
            config = load_config(None, settings_of(model, rehearsal))
            student = student_of(config, type(row)(fields), 3)
            assert student.seed == 3 and student.student.model == model
            assert student.student.steps == config.student.steps
        whole = dump_config(student_of(config, row, 0)), row.masks, row.trained, str(row.before)
        seen.add(whole)
    assert len(seen) == len(TABLES[name].rows)


def test_settings_are_the_papers_or_small_and_the_users_of_other_models_are_left_out() -> None:
    published = load_config(None, settings_of("simrvos", rehearsal=False)).student
    assert published.short_side == 360 and published.weak is not None and published.weak.lgcfs
    for model in STUDENTS:
        small = load_config(None, settings_of(model, rehearsal=True)).student
        assert small.model == model and small.steps <= 200
    words = ["student.steps=3", "student.simrvos.lgcfs=true", "student.wsrvos.fusion=false"]
    assert without_others("wsrvos", words) == [words[0], words[2]]


def shown(name: str, data: str, seeds: int) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    table = TABLES[name]
    figures = dict.fromkeys(table.metrics, 50.0)
    found = {
        label: [{**figures, "J&F": 50.0 + seed} for seed in range(seeds)] for label in table.rows
    }
    show_table(console, name, table, found, data, "Measured on it")
    return console.export_text()


def test_a_table_stands_beside_the_published_one() -> None:
    text = shown("groprompt", "refdavis", 1)
    line = next(line for line in text.splitlines() if "L_box and the contrasts" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:3] == ["50.0", "70.6"] and "74.4" in cells
    assert "published, refdavis" in text and "Measured on it" in text
    rehearsed = shown("simrvos-lgcfs", "shapes", 2)
    assert "published, refytvos" in rehearsed and "63.9" in rehearsed
    line = next(line for line in rehearsed.splitlines() if "summed" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == ["50.5", "0.7", "63.9"]
    assert "published" not in shown("labels", "shapes", 1)


def test_json_has_mean_spread_and_every_seed(capsys: pytest.CaptureFixture[str]) -> None:
    table = TABLES["simrvos-random-mask"]
    found = {label: [{"J&F": 40.0}, {"J&F": 42.0}] for label in table.rows}
    write_table(Console(), table, found)
    document = json.loads(capsys.readouterr().out)
    first = document["the first frame's mask"]
    assert first["measured"]["J&F"]["mean"] == 41 and first["measured"]["J&F"]["seeds"] == [40, 42]
    assert first["published"] == {"refytvos": {"J&F": 46.6}}


@pytest.mark.parametrize("name", TABLES)
def test_the_rows_of_a_table_are_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    list_rows(Console(width=250), name)
    out = capsys.readouterr().out
    assert all(label in out for label in TABLES[name].rows)


def test_the_list_names_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    list_tables(Console(width=200))
    out = capsys.readouterr().out
    assert all(name in out for name in TABLES)
