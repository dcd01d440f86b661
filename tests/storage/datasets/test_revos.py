from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees


def test_kinds_and_the_expression_without_a_target(tmp_path: Path) -> None:
    reader = open_dataset("revos", trees.revos(tmp_path), "train")
    video, expressions = reader.video("clip"), reader.expressions("clip")
    assert [item.kind for item in expressions] == ["referring", "reasoning", "no target"]
    assert [item.no_target for item in expressions] == [False, False, True]
    truth = reader.truth(video, expressions[2], FrameIndex(0))
    assert truth is not None
    assert truth.shape == (trees.HEIGHT, trees.WIDTH)
    assert not truth.any()
    assert np.array_equal(
        reader.truth(video, expressions[1], FrameIndex(1)), trees.object_mask(2, 1)
    )


def test_slashes_of_a_name_are_two_dashes_in_the_id(tmp_path: Path) -> None:
    root = trees.revos(tmp_path, video="UVO/all/2E4T")
    reader = open_dataset("revos", root, "train")
    assert list(reader.video_ids()) == ["UVO--all--2E4T"]
    video = reader.video("UVO--all--2E4T")
    assert video.paths[0] == root / "JPEGImages/UVO/all/2E4T/00000.jpg"
    assert reader.sources(video.id).frames == (root / "JPEGImages/UVO/all/2E4T",)
    assert reader.frame(video, FrameIndex(0)).shape == (trees.HEIGHT, trees.WIDTH, 3)
    with pytest.raises(InputError, match="no video 'UVO/all/2E4T'"):
        reader.video("UVO/all/2E4T")


def test_two_names_that_would_be_one_id_are_refused(tmp_path: Path) -> None:
    root = trees.revos(tmp_path)
    path = root / "meta_expressions_train_.json"
    document = json.loads(path.read_text())
    entry = document["videos"]["clip"]
    path.write_text(json.dumps({"videos": {"a/b": entry, "a--b": entry}}))
    with pytest.raises(InputError, match="which have one id here"):
        open_dataset("revos", root, "train")


@pytest.mark.parametrize("name", ["../clip", "/clip", "a//b", "a/../../b"])
def test_a_name_may_not_lead_out(tmp_path: Path, name: str) -> None:
    root = trees.revos(tmp_path)
    path = root / "meta_expressions_train_.json"
    entry = json.loads(path.read_text())["videos"]["clip"]
    path.write_text(json.dumps({"videos": {name: entry}}))
    reader = open_dataset("revos", root, "train")
    (video_id,) = reader.video_ids()
    with pytest.raises(InputError, match=r"train_\.json"):
        reader.video(video_id)


def test_a_missing_split_says_which_there_are(tmp_path: Path) -> None:
    trees.revos(tmp_path, "valid")
    with pytest.raises(InputError, match="splits found: valid"):
        open_dataset("revos", tmp_path, "train")


@pytest.mark.parametrize("number", [3, "0", [1]])
def test_an_unknown_type_is_named(tmp_path: Path, number: object) -> None:
    path = trees.revos(tmp_path) / "meta_expressions_train_.json"
    document = json.loads(path.read_text())
    document["videos"]["clip"]["expressions"]["0"]["type_id"] = number
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="type_id of expression 0 of video clip"):
        open_dataset("revos", tmp_path, "train").expressions("clip")
