"""Decisions that come back from CVAT, Label Studio and FiftyOne."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.commands.main import app
from flows.context import RunContext
from flows.exchange.export import export_run
from flows.planning.run_config import write_run_config
from flows.review.imported import read_any
from pipeline.decisions import Decision, now
from pipeline.errors import InputError, PseudoLabelError
from storage.arrays.masks import MaskStore
from storage.decisions import append_decisions, read_decisions
from storage.files.mask_runs import label_studio_runs
from tests.fakes.dataset import HEIGHT, WIDTH
from tests.flows.conftest import Site, finish


def exported(ran: Site, to: str, out: Path) -> Path:
    export_run(ran.config(), to, out, Console(file=None, quiet=True), "masks", False)
    return out


def read(ran: Site, path: Path) -> Any:
    return read_any(RunContext(ran.config()), path, "tool")


def drawn_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[3:9, 10:30] = True
    return mask


def label_studio(ran: Site, tmp_path: Path) -> Path:
    """Frame 1 of clip00 has another mask of sentence 0; in frame 2 its mask was removed."""
    tasks = json.loads((exported(ran, "label-studio", tmp_path / "ls") / "tasks.json").read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
        if task["data"]["video"] != "clip00":
            continue
        mine = task["annotations"][0]["result"]
        row = next(n for n, item in enumerate(mine) if item["value"]["brushlabels"][0][0] == "0")
        if task["data"]["frame"] == "00005":
            mine[row]["value"]["rle"] = label_studio_runs(drawn_mask())
        if task["data"]["frame"] == "00010":
            del mine[row]
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    return path


def test_what_was_changed_in_label_studio_becomes_decisions_and_masks(
    ran: Site, tmp_path: Path
) -> None:
    path = label_studio(ran, tmp_path)
    write_run_config(ran.folder / "config.toml", ran.config())
    words = ["review", str(ran.folder), "--import", str(path), "--who", "tool"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "2 decisions taken over" in " ".join(shown.output.split())
    first, second = read_decisions(ran.folder / "review.jsonl").decisions
    assert (first.action, first.first, first.last, first.who) == ("draw", 1, 1, "tool")
    assert (second.action, second.first, second.last) == ("absent", 2, 2)
    again = CliRunner().invoke(app, words)
    assert "0 decisions taken over, 2 known" in " ".join(again.output.split())
    finish(ran)
    masks, weight, status = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")
    assert np.array_equal(masks[1], drawn_mask()) and status.tolist() == [1, 1, 2, 1, 1]
    assert weight.tolist() == pytest.approx([0.8, 1, 1, 0.8, 0.8])
    # The run has these masks now: nothing is new.
    assert read(ran, path).decisions == []


def test_an_untouched_export_to_cvat_decides_nothing(ran: Site, tmp_path: Path) -> None:
    path = exported(ran, "cvat", tmp_path / "cvat") / "clip00" / "annotations.xml"
    assert read(ran, path).decisions == []
    path.write_text(path.read_text().replace(">clip00</attribute>", ">other</attribute>"))
    with pytest.raises(PseudoLabelError, match="masks of none of the 4 videos"):
        read(ran, path)


def test_a_mask_of_another_size_is_refused(ran: Site, tmp_path: Path) -> None:
    path = exported(ran, "cvat", tmp_path / "cvat") / "clip00" / "annotations.xml"
    path.write_text(path.read_text().replace('left="', 'left="9'))
    with pytest.raises(InputError, match="masks of this video's size"):
        read(ran, path)


def test_tags_of_fiftyone_go_out_and_come_back(ran: Site, tmp_path: Path) -> None:
    append_decisions(
        ran.folder / "review.jsonl", [Decision("anna", now(), "clip00", "0", "accept")]
    )
    folder = exported(ran, "fiftyone", tmp_path / "fo")
    log = read(ran, folder)
    [found] = log.decisions
    assert (found.sample, found.action, found.who) == (("clip00", "0"), "accept", "tool")
    path = folder / "labels" / "clip01.json"
    labels = json.loads(path.read_text())
    objects = labels["frames"]["1"]["objects"]["objects"]
    objects[0]["tags"], objects[1]["tags"] = ["rejected", "later"], ["accepted", "rejected"]
    path.write_text(json.dumps(labels))
    (folder / "labels" / "gone.json").write_text(json.dumps(labels))
    log = read(ran, folder)
    assert [item.action for item in log.decisions] == ["accept", "reject"]
    assert log.problems == [
        "clip01 1: tagged accepted and rejected; left out",
        "gone 0: not a sample of the run; left out",
        "gone 1: not a sample of the run; left out",
    ]
    path.write_text("[]")
    with pytest.raises(InputError, match="FiftyOneVideoLabelsDataset"):
        read(ran, folder)
    with pytest.raises(InputError, match="without manifest"):
        read(ran, tmp_path)


def test_every_export_has_a_card(ran: Site, tmp_path: Path) -> None:
    write_run_config(ran.folder / "config.toml", ran.config())
    for to, out, card in (
        ("ytvos", tmp_path / "y", tmp_path / "y" / "card.md"),
        ("coco", tmp_path / "c.json", tmp_path / "c.json.card.md"),
    ):
        words = ["export", str(ran.folder), "--to", to, "--out", str(out)]
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        text = card.read_text()
        assert f", train, as {to}" in text and "4 frames absent: no box claims it" in text
        assert "J&F: " in text and "licence: Apache-2.0" in text and "[ground]" in text
