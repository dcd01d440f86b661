"""Masks that people corrected take the place of a run's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.planning.run_paths import RunPaths
from pipeline.types import Status
from storage.arrays.masks import MaskStore
from storage.exports.source import ExportSource
from storage.files.mask_runs import label_studio_runs
from storage.tables import iter_quality
from tests.flows.commands.test_main import call
from tests.storage.datasets import trees
from tests.storage.exports.conftest import A, P, U, make_source, pseudo_mask, truth

Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    monkeypatch.setenv("COLUMNS", "160")
    place = ("--dataset", "refytvos", "--root", str(tmp_path / "data"), "--split", "train")

    def run(command: str, *words: object) -> tuple[int, str]:
        option = "--runs" if command == "export" else "--out"
        options = (*place, option, str(tmp_path / "runs"))
        return call(monkeypatch, capsys, command, *map(str, words), *options)

    return run


@pytest.fixture
def before(tmp_path: Path) -> ExportSource:
    """Masks whose store is no run's; expression 1 is unknown at first and absent at last."""
    items = [
        pseudo_mask("0", truth(1), [P, P, P], 0.9),
        pseudo_mask("1", truth(2), [U, P, A], 0.5),
    ]
    return make_source(tmp_path, items, ["a red box", "a blue box"])


def test_what_people_changed_in_label_studio_replaces_the_masks(
    before: ExportSource, cli: Cli, tmp_path: Path
) -> None:
    store = str(before.store.path)
    code, shown = cli("export", "--to", "label-studio", "--out", tmp_path / "ls", "--from", store)
    assert code == 0, shown
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    drawn = np.zeros((trees.HEIGHT, trees.WIDTH), np.bool_)
    drawn[3:7, 10:20] = True
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    tasks[1]["annotations"][0]["result"].pop()  # of expression 1
    tasks[2]["annotations"][0]["result"][0]["value"]["rle"] = label_studio_runs(drawn)
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    code, shown = cli("import-masks", tmp_path / "project.json", "--from", store)
    assert code == 0, shown
    assert "1 videos: 2 frames of sentences changed, 4 as before" in shown
    paths = RunPaths(tmp_path / "runs" / "refytvos-train")
    after = MaskStore(paths.consensus / "pseudomasks.zarr")
    mask, weight, status = after.read("clip", "0")
    assert np.array_equal(mask[2], drawn) and np.array_equal(mask[:2], truth(1)[:2])
    assert weight.tolist() == pytest.approx([0.9, 0.9, 1.0])
    mask, weight, status = after.read("clip", "1")
    # A frame that was unknown and has no mask is still unknown; a removed mask is absent.
    assert status.tolist() == [Status.UNKNOWN, Status.ABSENT, Status.ABSENT]
    assert weight.tolist() == [0.0, 1.0, 0.5] and not mask.any()
    rows = list(iter_quality(paths.consensus / "quality.parquet"))
    assert [row.reason for row in rows].count("corrected by a person") == 2


def test_an_untouched_export_to_cvat_changes_nothing(
    before: ExportSource, cli: Cli, tmp_path: Path
) -> None:
    store = str(before.store.path)
    cli("export", "--to", "cvat", "--out", tmp_path / "cvat", "--from", store)
    file = tmp_path / "cvat" / "clip" / "annotations.xml"
    code, shown = cli("import-masks", file, "--from", store)
    assert code == 0 and "0 frames of sentences changed, 6 as before" in shown
    text = file.read_text().replace(">clip</attribute>", ">other</attribute>")
    file.write_text(text)
    code, shown = cli("import-masks", file, "--from", store)
    assert code == 1 and "masks of none of the 1 videos" in shown
    code, shown = cli("import-masks", file, tmp_path, "--from", store)
    assert code == 2 and "expected one kind" in shown
