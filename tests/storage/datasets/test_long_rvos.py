from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees


def test_the_types_of_expressions_are_kinds(tmp_path: Path) -> None:
    reader = open_dataset("long_rvos", trees.long_rvos(tmp_path), "train")
    assert [item.kind for item in reader.expressions("clip")] == ["static", "dynamic"]
    assert [item.object_ids for item in reader.expressions("clip")] == [("1",), ("2",)]


def test_a_video_without_masks_has_no_truth(tmp_path: Path) -> None:
    root = trees.long_rvos(tmp_path, "test")
    shutil.rmtree(root / "test/Annotations")
    reader = open_dataset("long_rvos", root, "test")
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    assert reader.truth(video, first, FrameIndex(0)) is None
    with pytest.raises(InputError, match="Annotations/clip: no such folder"):
        reader.annotated_video("clip")  # type: ignore[attr-defined]


def test_an_object_whose_folder_is_gone_is_not_taken_for_absent(tmp_path: Path) -> None:
    root = trees.long_rvos(tmp_path)
    shutil.rmtree(root / "train/Annotations/clip/2")
    reader = open_dataset("long_rvos", root, "train")
    video, (first, second) = reader.video("clip"), reader.expressions("clip")
    assert reader.truth(video, first, FrameIndex(0)) is not None
    with pytest.raises(InputError, match="clip/2: no such folder"):
        reader.truth(video, second, FrameIndex(0))


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    root = trees.long_rvos(tmp_path)
    Image.new("L", (3, 2), 255).save(root / "train/Annotations/clip/1/00000.png")
    reader = open_dataset("long_rvos", root, "train")
    with pytest.raises(InputError, match=r"1/00000\.png: a mask of 2 x 3 pixels"):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


def test_without_frames_the_masks_tell_the_size(tmp_path: Path) -> None:
    root = trees.long_rvos(tmp_path)
    shutil.rmtree(root / "train/JPEGImages")
    video = open_dataset("long_rvos", root, "train").annotated_video("clip")  # type: ignore[attr-defined]
    assert (video.height, video.width, len(video)) == (trees.HEIGHT, trees.WIDTH, 3)


@pytest.mark.parametrize("number", ["../1", True, [1], ""])
def test_an_object_id_that_is_none_is_named(tmp_path: Path, number: object) -> None:
    path = trees.long_rvos(tmp_path) / "train/meta_expressions.json"
    document = json.loads(path.read_text())
    document["videos"]["clip"]["expressions"]["0"]["obj_id"] = number
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="obj_id of expression 0 of video clip"):
        open_dataset("long_rvos", tmp_path, "train").expressions("clip")
