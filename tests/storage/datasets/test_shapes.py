"""The rendered data set on disk: same seed, same bytes; what its reader gives back is the truth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.shapes.render import render
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from storage.datasets.shapes import scenes, write_shapes

SEED = 41


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, train=3, valid=2, seed=SEED)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "again", train=3, valid=2, seed=SEED)
    assert digests(tmp_path / "again") == digests(root)


def test_another_seed_gives_other_videos(root: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "other", train=1, valid=1, seed=SEED + 1)
    found, kept = digests(tmp_path / "other"), digests(root)
    images = [name for name in found if name.endswith(".jpg")]
    assert images and not any(found[name] == kept.get(name) for name in images)


def test_a_longer_data_set_begins_with_the_shorter_ones_videos(root: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "short", train=1, valid=1, seed=SEED)
    short, long = digests(tmp_path / "short"), digests(root)
    frames = {name: digest for name, digest in short.items() if not name.endswith(".json")}
    assert frames and frames.items() <= long.items()
    for split in ("train", "valid"):
        index = f"meta_expressions/{split}/meta_expressions.json"
        [(video, said)] = json.loads((tmp_path / "short" / index).read_text())["videos"].items()
        assert json.loads((root / index).read_text())["videos"][video] == said


def test_splits_do_not_share_videos(root: Path) -> None:
    digest = digests(root)
    train = {value for name, value in digest.items() if name.startswith("train/JPEG")}
    valid = {value for name, value in digest.items() if name.startswith("valid/JPEG")}
    assert train and valid and not train & valid


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_reader_gives_the_truth_back(root: Path, split: str) -> None:
    reader = open_dataset("shapes", root, split)
    drawn_from = {video: scene for video, scene, _ in scenes(split, 3, SEED)}
    for video_id in reader.video_ids():
        scene = drawn_from[video_id]
        video = reader.video(video_id)
        assert len(video) == scene.frames
        assert video.frames[:2] == ("00000", "00005")
        for index in range(0, len(video), 7):
            drawn = render(scene, index)
            image = reader.frame(video, FrameIndex(index))
            assert np.abs(image.astype(int) - drawn.image).mean() < 6, "JPEG, and no more"
            for expression in reader.expressions(video_id):
                [object_id] = expression.object_ids
                truth = reader.truth(video, expression, FrameIndex(index))
                np.testing.assert_array_equal(truth, drawn.masks[int(object_id) - 1])
                assert expression.kind in ("appearance", "place", "motion", "relation")


def test_objects_are_listed_in_the_frames_that_show_them_and_some_are_absent_at_times(
    tmp_path: Path,
) -> None:
    write_shapes(tmp_path / "s", train=6, valid=1, seed=SEED)
    absent = 0
    meta = json.loads((tmp_path / "s" / "train" / "meta.json").read_text())["videos"]
    for video, scene, _ in scenes("train", 6, SEED):
        masks = sorted((tmp_path / "s" / "train" / "Annotations" / video).iterdir())
        shown = {path.stem: set(np.unique(np.asarray(Image.open(path)))) for path in masks}
        for row in range(len(scene.objects)):
            listed = meta[video]["objects"][str(row + 1)]
            assert listed["frames"] == [name for name, ids in shown.items() if row + 1 in ids]
            assert listed["category"] == scene.objects[row].shape
            absent += len(shown) - len(listed["frames"])
    assert absent > 0


@pytest.mark.parametrize("name", ["mevis/train/frame.jpg", "meta_expressions/train/x.json"])
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    write_shapes(tmp_path / "data", train=1, valid=1, seed=SEED)
    precious = tmp_path / "precious" / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(InputError, match=r"precious.*--dataset"):
        write_shapes(tmp_path / "precious", train=1, valid=1, seed=SEED)
    assert precious.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "precious"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("storage.datasets.shapes.render", fail)
    with pytest.raises(OSError, match="no space"):
        write_shapes(tmp_path / "shapes", train=1, valid=1, seed=SEED)
    assert not (tmp_path / "shapes").exists()
