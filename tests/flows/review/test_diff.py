"""Two runs compared: what changed, and a page of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.commands.main import app
from flows.context import RunContext
from flows.planning.run_config import write_run_config
from flows.review.diff import compare, write_page
from pipeline.decisions import Decision, now
from pipeline.errors import PseudoLabelError
from storage.decisions import append_decisions
from tests.fakes.stages import fake_parts
from tests.flows.conftest import HOSTILE, Site, finish


def context(site: Site) -> RunContext:
    return RunContext(site.config(), fake_parts(site.weights))


def decide(ran: Site, video: str, action: Any, **more: Any) -> None:
    made = Decision("anna", now(), video, "0", action, **more)
    append_decisions(ran.folder / "review.jsonl", [made])


def test_changes_are_told_the_most_different_first(
    finished: Site, ran: Site, tmp_path: Path
) -> None:
    same = compare(context(finished), context(ran))
    assert (same.changes, same.same, same.missing) == ([], 8, [])
    decide(ran, "clip01", "absent", first=1, last=1)
    decide(ran, "clip02", "choose", track=1)
    finish(ran)
    found = compare(context(finished), context(ran))
    assert [item.video for item in found.changes] == ["clip02", "clip01"]
    first, second = found.changes
    assert first.iou < 0.3 and second.iou == pytest.approx(0.8)
    assert (second.frames, second.total, second.worst) == (1, 5, 1)
    assert second.turned == Counter({("present", "absent"): 1})
    assert found.same == 6
    j_and_f = found.metrics[0]
    assert j_and_f[1] is not None and j_and_f[2] is not None and j_and_f[1] > j_and_f[2]
    write_page(tmp_path / "diff.html", context(finished), context(ran), found)
    page = (tmp_path / "diff.html").read_text()
    assert page.count("<article") == 2 and page.count("data:image/jpeg") == 4
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_a_run_without_masks_is_named(finished: Site, tmp_path: Path) -> None:
    other = RunContext(finished.config(f'out="{tmp_path}"'))
    with pytest.raises(PseudoLabelError, match="no masks"):
        compare(context(finished), other)


def test_the_command_prints_and_writes(finished: Site, ran: Site, tmp_path: Path) -> None:
    for site in (finished, ran):
        write_run_config(site.folder / "config.toml", site.config())
    decide(ran, "clip00", "reject")
    finish(ran)
    words = ["diff", finished.folder, ran.folder, "--out", tmp_path / "diff.html"]
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert "1 samples differ, 7 are the same" in found.output
    assert "5 frames: present before, unknown after" in found.output
    assert HOSTILE[:12] in found.output
    assert (tmp_path / "diff.html").is_file()
