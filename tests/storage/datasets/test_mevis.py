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
