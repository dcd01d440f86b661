from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees


def test_the_target_is_the_union(tmp_path: Path) -> None:
    reader = open_dataset("mevis", trees.mevis(tmp_path), "train")
    video, both = reader.video("clip"), reader.expressions("clip")[2]
    assert both.object_ids == ("11", "12")
    for index in range(3):
        expected = trees.object_mask(1, index) | trees.object_mask(2, index)
        assert np.array_equal(reader.truth(video, both, FrameIndex(index)), expected)
    counts = [len(reader.boxes(video, both, FrameIndex(index))) for index in range(3)]
    assert counts == [2, 2, 1]


def test_a_split_without_masks_has_no_truth(tmp_path: Path) -> None:
    trees.mevis(tmp_path, "valid")
    (tmp_path / "valid/mask_dict.json").unlink()
    reader = open_dataset("mevis", tmp_path, "valid")
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    assert reader.truth(video, first, FrameIndex(0)) is None


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({}, "annotation 11 is missing"),
        ({"11": [{"size": [2, 2]}]}, "frame 0 of annotation 11"),
        ({"11": [{"size": [1, 2], "counts": [1, 1]}]}, "1 x 2 pixels"),
    ],
)
def test_a_malformed_mask_is_named(tmp_path: Path, masks: object, words: str) -> None:
    trees.mevis(tmp_path)
    (tmp_path / "train/mask_dict.json").write_text(json.dumps(masks))
    reader = open_dataset("mevis", tmp_path, "train")
    with pytest.raises(InputError, match=words):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


def test_a_missing_split_says_which_there_are(tmp_path: Path) -> None:
    trees.mevis(tmp_path, "valid_u")
    with pytest.raises(InputError, match="splits found: valid_u"):
        open_dataset("mevis", tmp_path, "train")


def test_masks_in_a_closed_folder_are_no_missing_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_dataset("mevis", trees.mevis(tmp_path), "train")
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    trees.refuse(monkeypatch, tmp_path / "train", errno.EACCES)
    with pytest.raises(InputError, match=r"mask_dict\.json: not readable \(Permission denied"):
        reader.truth(video, first, FrameIndex(0))


def test_an_expression_without_a_target_has_an_empty_truth(tmp_path: Path) -> None:
    reader = open_dataset("mevis_v2", trees.mevis_v2(tmp_path), "train")
    video, nothing = reader.video("clip"), reader.expressions("clip")[3]
    assert nothing.no_target
    assert nothing.object_ids == ()
    for index in map(FrameIndex, range(3)):
        truth, boxes = reader.truth(video, nothing, index), reader.boxes(video, nothing, index)
        assert truth is not None
        assert truth.shape == (trees.HEIGHT, trees.WIDTH)
        assert not truth.any()
        assert boxes is not None
        assert boxes.shape == (0, 4)
    (tmp_path / "train/mask_dict.json").unlink()
    assert reader.truth(video, nothing, FrameIndex(0)) is None


def test_version_2_reads_its_own_index(tmp_path: Path) -> None:
    trees.mevis(tmp_path, "valid")
    with pytest.raises(InputError, match=r"meta_expressions_v2\.json: no such file"):
        open_dataset("mevis_v2", tmp_path, "valid")
    document = json.loads((tmp_path / "valid/meta_expressions.json").read_text())
    for entry in document["videos"]["clip"]["expressions"].values():
        del entry["anno_id"], entry["obj_id"]
    document["videos"]["clip"]["expressions"]["9"] = {"exp": "of version 2"}
    (tmp_path / "valid/meta_expressions_v2_release.json").write_text(json.dumps(document))
    (tmp_path / "valid/mask_dict.json").unlink()
    reader = open_dataset("mevis_v2", tmp_path, "valid")
    expressions = reader.expressions("clip")
    assert len(expressions) == 4
    assert not any(item.no_target for item in expressions)
    assert reader.truth(reader.video("clip"), expressions[0], FrameIndex(0)) is None
    assert len(open_dataset("mevis", tmp_path, "valid").expressions("clip")) == 3
