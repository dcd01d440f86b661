"""``review.jsonl`` and CSV tables of decisions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.decisions import Decision, now
from pipeline.drawn import Drawn
from pipeline.errors import InputError
from storage.decisions import (
    append_decisions,
    read_decision_file,
    read_decisions,
    write_decision_table,
)


def decision(number: int = 0, who: str = "anna") -> Decision:
    return Decision(who, now(), f"clip{number}", "0", "choose", first=2, track=1, masks="ab")


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    assert read_decisions(path).decisions == []
    first, more = decision(), [decision(1), decision(2, 'ünï "\n<b>')]
    append_decisions(path, [first])
    append_decisions(path, more)
    log = read_decisions(path)
    assert log.decisions == [first, *more]
    assert log.problems == []


def test_a_torn_last_line_is_reported_and_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    append_decisions(path, [decision(0)])
    whole = path.read_bytes()
    append_decisions(path, [decision(1)])
    path.write_bytes(path.read_bytes()[:-20])
    [problem] = read_decisions(path).problems
    assert "line 2" in problem and "torn" in problem
    last = decision(2)
    append_decisions(path, [last])
    log = read_decisions(path)
    assert path.read_bytes().startswith(whole)
    assert log.decisions[1:] == [last]
    assert len(log.problems) == 1


@pytest.mark.parametrize("line", ["[]", "{}", "nonsense", '{"version": 99}', "[" * 9999, "7"])
def test_a_line_that_is_no_decision_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "review.jsonl"
    path.write_text(line + "\n")
    append_decisions(path, [decision()])
    log = read_decisions(path)
    assert (len(log.decisions), len(log.problems)) == (1, 1)


def test_decisions_of_many_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    made = [decision(number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: append_decisions(path, [item]), made))
    log = read_decisions(path)
    assert set(log.decisions) == set(made)
    assert log.problems == []


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    made = [decision(0, '=1+1, "quoted"'), Decision("b", now(), "v", "1", "accept")]
    noise = np.random.default_rng(0).random((400, 800)) > 0.5
    drawn = Drawn.of(2, np.eye(4, 5, dtype=np.bool_)), Drawn.of(3, noise)
    assert len(drawn[1].counts) > 1 << 17
    made.append(Decision("b", now(), "v", "1", "draw", drawn=drawn))
    assert write_decision_table(tmp_path / "out.csv", made) == 3
    assert read_decision_file(tmp_path / "out.csv").decisions == made
    append_decisions(tmp_path / "other.jsonl", made)
    assert read_decision_file(tmp_path / "other.jsonl").decisions == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the columns none"),
        ("who,when\n", "the columns who, when"),
        ("who,when,video,expression,action\na,2026-01-01T00:00:00Z,v,0,eat\n", "row 2"),
        ("who,when,video,expression,action,from\na,2026-01-01T00:00:00Z,v,0,absent,x\n", "row 2"),
        ("who,when,video,expression,action\na,b\n", "row 2: 2 cells for 5 columns"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_decision_file(path)
    with pytest.raises(InputError, match="no such file"):
        read_decision_file(tmp_path / "gone.jsonl")


def test_appending_tells_how_long_the_file_was(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    before, after = append_decisions(path, [decision()])
    assert (before, after) == (0, path.stat().st_size)
    assert append_decisions(path, [decision(1)]) == (after, path.stat().st_size)
