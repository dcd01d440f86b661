from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees

FIRST = FrameIndex(0)


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edits the content of a JSON file or a pickle."""
    if path.suffix == ".p":
        value = pickle.loads(path.read_bytes())
        edit(value)
        path.write_bytes(pickle.dumps(value))
        return
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_every_sentence_of_an_image_is_an_expression(tmp_path: Path) -> None:
    reader = open_dataset("refcoco", trees.refcoco(tmp_path), "train")
    found = {
        item.key.expression: (item.text, item.object_ids) for item in reader.expressions("clip")
    }
    assert found == {
        "10": ("red box", ("11",)),
        "11": ("box on top", ("11",)),
        "20": ("blue box", ("12",)),
        "21": ("lower box", ("12",)),
    }
    video = reader.video("clip")
    assert video.frames == ("clip",)
    for item in reader.expressions("clip"):
        number = int(item.object_ids[0]) - 10
        assert np.array_equal(reader.truth(video, item, FIRST), trees.object_mask(number, 0))


@pytest.mark.parametrize("place", ["images/train2014", "train2014"])
def test_images_are_found_in_other_places(tmp_path: Path, place: str) -> None:
    root = trees.refcoco(tmp_path)
    (root / place).parent.mkdir(exist_ok=True)
    (root / "images/mscoco/images/train2014").rename(root / place)
    assert open_dataset("refcoco", root, "train").video("clip").height == trees.HEIGHT


@pytest.mark.parametrize("split", ["val", "testA", "testB"])
def test_a_split_has_its_own_images(tmp_path: Path, split: str) -> None:
    root = trees.refcoco(tmp_path)
    refs = root / "refcoco/refs(unc).p"
    with pytest.raises(InputError, match=rf"split '{split}'; expected one of train"):
        open_dataset("refcoco", root, split)
    change(refs, lambda items: items[1].update(split=split))
    assert len(open_dataset("refcoco", root, "train").expressions("clip")) == 2
    (item, _) = open_dataset("refcoco", root, split).expressions("clip")
    assert item.text == "blue box"


def test_an_image_that_is_missing_is_skipped_alone_and_still_measured(tmp_path: Path) -> None:
    root = trees.refcoco(tmp_path)
    (root / "images/mscoco/images/train2014/clip.jpg").unlink()
    reader = open_dataset("refcoco", root, "train")
    with pytest.raises(InputError, match=r"clip\.jpg: no such file"):
        reader.video("clip")
    video = reader.annotated_video("clip")  # type: ignore[attr-defined]
    assert (video.height, video.width) == (trees.HEIGHT, trees.WIDTH)
    assert reader.truth(video, reader.expressions("clip")[0], FIRST) is not None


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("refs(unc).p", lambda refs: refs[0].update(ann_id=99), "annotation 99"),
        ("refs(unc).p", lambda refs: refs[0].update(image_id=[7]), r"image \[7\]"),
        ("refs(unc).p", lambda refs: refs[0].pop("sentences"), "item 0 of split train is missing"),
        ("refs(unc).p", lambda refs: refs[0]["sentences"].append({"sent": "x"}), "has no id"),
        ("refs(unc).p", lambda refs: refs.append("x"), "item 2 is text"),
        ("instances.json", lambda doc: doc.pop("images"), "images is missing"),
        ("instances.json", lambda doc: doc["images"][0].update(file_name="../x"), "separator"),
        ("instances.json", lambda doc: doc["images"][0].update(height=0), "image {'id': 7"),
        ("instances.json", lambda doc: doc["images"][0].update(width=10**9), "image {'id': 7"),
        ("instances.json", lambda doc: doc["images"].append({**doc["images"][0], "id": 8}), None),
    ],
)
def test_a_malformed_index_is_named(
    tmp_path: Path, file: str, edit: Callable[[Any], None], words: str | None
) -> None:
    root = trees.refcoco(tmp_path)
    change(root / "refcoco" / file, edit)
    if words is None:
        change(root / "refcoco/refs(unc).p", lambda refs: refs[1].update(image_id=8))
        words = "two images clip"
    with pytest.raises(InputError, match=words):
        open_dataset("refcoco", root, "train")


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 2, 3, 4]], "not a polygon"),
        ([["a"] * 6], "not a polygon"),
        ({"size": [2, 2], "counts": [4]}, "2 x 2 pixels"),
        (None, "not a COCO RLE"),
    ],
)
def test_a_malformed_mask_is_named(tmp_path: Path, segmentation: object, words: str) -> None:
    root = trees.refcoco(tmp_path)
    path = root / "refcoco/instances.json"
    change(path, lambda doc: doc["annotations"][0].update(segmentation=segmentation))
    reader = open_dataset("refcoco", root, "train")
    with pytest.raises(InputError, match=rf"instances\.json: annotation 11.*{words}"):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FIRST)


def test_an_empty_sentence_skips_its_image(tmp_path: Path) -> None:
    root = trees.refcoco(tmp_path)
    change(root / "refcoco/refs(unc).p", lambda refs: refs[0]["sentences"][0].update(sent=" "))
    reader = open_dataset("refcoco", root, "train")
    with pytest.raises(InputError, match=r"refs\(unc\)\.p: sentence 10 of image clip is empty"):
        reader.expressions("clip")
