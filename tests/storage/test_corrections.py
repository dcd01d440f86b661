"""Corrected masks, as CVAT and Label Studio export them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from storage.corrections import expression_of, is_corrections, label_of, read_corrections
from storage.exports import exporter
from storage.exports.source import ExportSource
from storage.files.mask_runs import label_studio_runs
from tests.storage.datasets import trees
from tests.storage.exports.conftest import A, P, U, make_source, pseudo_mask, truth

SIZE = (trees.HEIGHT, trees.WIDTH)
LABELS = {"0": {"0: a red box"}, "1": {"1: a blue box"}}


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    items = [
        pseudo_mask("0", truth(1), [P, P, P], 0.9),
        pseudo_mask("1", truth(2), [U, P, A], 0.5),
    ]
    return make_source(tmp_path, items, ["a red box", "a blue box"])


def masks_of(source: ExportSource) -> dict[str, np.ndarray]:
    return {name: source.store.read("clip", name)[0] for name in ("0", "1")}


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_to_cvat_reads_back(source: ExportSource, tmp_path: Path, packed: bool) -> None:
    exporter("cvat")(source, tmp_path / "out")
    path = tmp_path / "out" / "clip" / "annotations.xml"
    if packed:
        with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
            archive.write(path, "annotations.xml")
        path = tmp_path / "task.zip"
    assert is_corrections(path)
    found = read_corrections(path)
    assert set(found.videos) == {"clip"} and not found.problems
    clip = found.videos["clip"]
    for name, masks in masks_of(source).items():
        for frame in range(3):
            assert clip.covers(frame, trees.FRAMES[frame])
            mask = clip.mask(LABELS[name], frame, trees.FRAMES[frame], SIZE)
            assert np.array_equal(mask, masks[frame])


def test_images_of_cvat_are_read_too_and_other_shapes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(
        '<annotations><image id="1" name="000001.jpg" width="4" height="2">'
        '<mask label="0: x" rle="1, 2, 1" left="2" top="0" width="2" height="2">'
        '<attribute name="video">clip</attribute></mask>'
        '<polygon label="0: x" points="1,1;2,2;3,3"/>'
        '<mask label="0: x" rle="0, 1" left="0" top="0" width="1" height="1"/>'
        "</image></annotations>"
    )
    found = read_corrections(path)
    mask = found.videos["clip"].mask({"0: x"}, 1, "00005", (2, 4))
    assert mask.tolist() == [[False, False, False, True], [False, False, True, False]]
    assert ["polygon was left out" in text for text in found.problems] == [True, False]
    assert "no attribute 'video'" in found.problems[1]
    with pytest.raises(ValueError, match="expected within 2 x 3"):
        found.videos["clip"].mask({"0: x"}, 1, "00005", (2, 3))


def corrected(tasks: list[dict], number: int, result: list[dict], **more: object) -> None:
    tasks[number]["annotations"] = [{"result": result, **more}]


def test_tasks_of_label_studio_that_people_did_are_read(
    source: ExportSource, tmp_path: Path
) -> None:
    exporter("label-studio")(source, tmp_path / "out")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    drawn = np.zeros(SIZE, np.bool_)
    drawn[3:7, 10:20] = True
    result = tasks[1]["predictions"][0]["result"][0]
    result["value"]["rle"] = label_studio_runs(drawn)
    corrected(tasks, 1, [result, {"type": "rectanglelabels"}])
    corrected(tasks, 2, tasks[2]["predictions"][0]["result"], was_cancelled=True)
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks, indent=1))
    found = read_corrections(path)
    clip = found.videos["clip"]
    covered = [clip.covers(frame, name) for frame, name in enumerate(trees.FRAMES)]
    assert covered == [False, True, False]
    assert np.array_equal(clip.mask(LABELS["0"], 1, trees.FRAMES[1], SIZE), drawn)
    assert not clip.mask(LABELS["1"], 1, trees.FRAMES[1], SIZE).any()
    assert found.problems == [
        f"clip {trees.FRAMES[1]}: a rectanglelabels was left out; use the brush"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{}"),
        ("a.json", '[{"annotations": [{"result": []}]}'),
        ("a.json", '[{"annotations": [{"result": []}], "data": {}}]'),
        ("a.json", "["),
        ("a.xml", "<annotations><track>"),
        ("a.xml", '<a><track label="x"><mask frame="x"/></track></a>'),
    ],
)
def test_a_damaged_file_is_one_message(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"a\.(json|xml): not readable .*Label Studio's JSON"):
        read_corrections(tmp_path / name)


def test_labels_name_expressions(tmp_path: Path) -> None:
    assert expression_of(label_of("1", "x"), ("1", "11")) == "1"
    assert expression_of(label_of("1: a", "x"), ("1", "1: a")) == "1: a"
    assert expression_of("2: x", ("1",)) is None
    assert expression_of(label_of("e" * 70, "x")[:64], ("e" * 70,)) == "e" * 70
    (tmp_path / "masks.zip").write_bytes(b"")
    assert not is_corrections(tmp_path / "masks.zip") and not is_corrections(tmp_path)
