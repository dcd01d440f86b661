"""What every reader promises (:class:`pipeline.ports.DatasetReader`), on its own real layout."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, UnknownDatasetError
from pipeline.geometry import masks_to_boxes
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, SampleKey
from storage.datasets import READERS, open_dataset
from tests.storage.datasets import trees

BUILDERS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "refytvos": ("refytvos", "train", trees.refytvos),
    "shapes": ("shapes", "train", trees.refytvos),
    "refdavis, published": ("refdavis", "train", trees.refdavis),
    "refdavis, converted": ("refdavis", "valid", lambda root: trees.refytvos(root, "valid")),
    "a2d": ("a2d", "train", trees.a2d),
    "jhmdb": ("jhmdb", "test", trees.jhmdb),
    "mevis": ("mevis", "train", trees.mevis),
    "mevis_v2": ("mevis_v2", "train", trees.mevis_v2),
    "revos": ("revos", "train", trees.revos),
    "long_rvos": ("long_rvos", "train", trees.long_rvos),
    "refcoco": ("refcoco", "train", trees.refcoco),
    "refcoco+": ("refcoco+", "train", lambda root: trees.refcoco(root, "refcoco+")),
    "refcocog": ("refcocog", "train", lambda root: trees.refcoco(root, "refcocog", "umd")),
    "refcocog-google": (
        "refcocog-google",
        "train",
        lambda root: trees.refcoco(root, "refcocog", "google"),
    ),
    "refytvos, masks by expression": (
        "refytvos",
        "train",
        lambda root: trees.masks_by_expression(trees.refytvos(root)),
    ),
    "visor": ("visor", "train", trees.visor),
    "videos, a file": ("videos", "train", trees.videos),
    "videos, a folder": ("videos", "train", lambda root: trees.videos(root, folder=True)),
}


WITHOUT_TRUTH = frozenset({"videos"})
"""Data sets that have no masks, and boxes on the frames that a row names alone."""

IMAGES = frozenset({"refcoco", "refcoco+", "refcocog", "refcocog-google"})
"""Data sets whose videos have one frame."""


def test_every_reader_is_held_to_the_contract() -> None:
    assert {name for name, _, _ in BUILDERS.values()} == set(READERS)


@pytest.fixture(params=BUILDERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> DatasetReader:
    name, split, build = BUILDERS[request.param]
    return open_dataset(name, build(tmp_path / "root"), split)


@pytest.fixture
def red(reader: DatasetReader) -> Expression:
    """An expression of object 1."""
    return next(item for item in reader.expressions("clip") if "red" in item.text)


def test_the_index(reader: DatasetReader) -> None:
    assert list(reader.video_ids()) == ["clip"]
    video = reader.video("clip")
    assert len(video) == (1 if reader.name in IMAGES else len(trees.FRAMES))
    assert (video.height, video.width) == (trees.HEIGHT, trees.WIDTH)
    assert list(video.frames) == sorted(video.frames)


def test_expressions_have_keys_and_sentences(reader: DatasetReader) -> None:
    expressions = reader.expressions("clip")
    assert expressions
    for item in expressions:
        assert item.key == SampleKey(reader.name, reader.split, "clip", item.key.expression)
        assert item.text == item.text.strip() != ""
    assert len({item.key for item in expressions}) == len(expressions)


def test_frames_decode_to_rgb(reader: DatasetReader) -> None:
    video = reader.video("clip")
    for index in range(len(video)):
        frame = reader.frame(video, FrameIndex(index))
        assert frame.dtype == np.uint8
        assert frame.shape == (trees.HEIGHT, trees.WIDTH, 3)
        # JPEG and video codecs smear colours over edges, so the middle of the object is looked at.
        middle = frame[5, 5 + 3 * index].astype(int)
        assert middle[0] - middle[2] > 100


def test_truth_is_the_mask_of_the_target(reader: DatasetReader, red: Expression) -> None:
    video = reader.video("clip")
    if reader.name in WITHOUT_TRUTH:
        assert reader.truth(video, red, FrameIndex(0)) is None
        return
    for index in range(len(video)):
        truth = reader.truth(video, red, FrameIndex(index))
        assert truth is not None
        assert truth.dtype == np.bool_
        assert np.array_equal(truth, trees.object_mask(1, index))


def test_boxes_are_those_of_the_truth(reader: DatasetReader, red: Expression) -> None:
    video = reader.video("clip")
    index = min(1, len(video) - 1)
    boxes = reader.boxes(video, red, FrameIndex(index))
    assert boxes is not None
    assert boxes.dtype == np.float32
    assert np.array_equal(boxes, masks_to_boxes(trees.object_mask(1, index))[None])


def test_an_absent_target_has_an_empty_truth_and_no_box(reader: DatasetReader) -> None:
    video = reader.video("clip")
    blue = next((item for item in reader.expressions("clip") if "blue" in item.text), None)
    if blue is None or reader.name in IMAGES:
        pytest.skip("the data set has one object a video, or one frame")
    if reader.name in WITHOUT_TRUTH:
        assert reader.boxes(video, blue, FrameIndex(2)) is None
        return
    truth = reader.truth(video, blue, FrameIndex(2))
    boxes = reader.boxes(video, blue, FrameIndex(2))
    assert truth is not None
    assert not truth.any()
    assert boxes is not None
    assert boxes.shape == (0, 4)


@pytest.mark.parametrize("video_id", ["none", "../../x", ""])
def test_a_video_that_is_not_there_is_refused(reader: DatasetReader, video_id: str) -> None:
    for ask in (reader.video, reader.expressions):
        with pytest.raises(InputError):
            ask(video_id)


def test_a_reader_pickles(reader: DatasetReader) -> None:
    assert pickle.loads(pickle.dumps(reader)).video("clip") == reader.video("clip")


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_missing_root_or_split_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_dataset(name, tmp_path / "none", "train")
    with pytest.raises(InputError, match=str(tmp_path)):
        open_dataset(name, tmp_path, "train")


def test_an_unknown_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownDatasetError, match=r"one of .*refytvos"):
        open_dataset("imagenet", tmp_path, "train")


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_root_in_a_closed_folder_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.refuse(monkeypatch, tmp_path, errno.EACCES)
    with pytest.raises(InputError, match=r"root.*: not readable \(Permission denied\)"):
        open_dataset(name, tmp_path / "root", "train")


@pytest.mark.parametrize("name", BUILDERS)
def test_a_data_set_of_links_is_read_unless_links_must_stay_inside(
    name: str, tmp_path: Path
) -> None:
    """Caches and version control of data keep files in a store, and links in their places."""
    dataset, split, build = BUILDERS[name]
    root, store = build(tmp_path / "root"), tmp_path / "store"
    store.mkdir()
    whole = open_dataset(dataset, root, split).video("clip")
    for number, path in enumerate(sorted(root.rglob("*"))):
        if path.is_file():
            path.rename(store / f"{number:06d}")
            path.symlink_to(os.path.relpath(store / f"{number:06d}", path.parent))
    reader = open_dataset(dataset, root, split)
    video = reader.video("clip")
    assert video == whole
    for index in map(FrameIndex, range(len(video))):
        assert reader.frame(video, index).shape == (trees.HEIGHT, trees.WIDTH, 3)
        for item in reader.expressions("clip"):
            has_truth = reader.truth(video, item, index) is not None
            assert has_truth == (reader.name not in WITHOUT_TRUTH)
    with pytest.raises(InputError, match=r"out of the data set, to .*store/0.*dataset\.links"):
        open_dataset(dataset, root, split, "inside").video("clip")


@pytest.mark.parametrize("name", BUILDERS)
def test_links_inside_the_data_set_always_pass(name: str, tmp_path: Path) -> None:
    dataset, split, build = BUILDERS[name]
    root = build(tmp_path / "root")
    (root / "store").mkdir()
    for number, path in enumerate(sorted(root.rglob("*.*"))):
        if path.is_file():
            path.rename(root / "store" / f"{number:06d}")
            path.symlink_to(root / "store" / f"{number:06d}")
    reader = open_dataset(dataset, root, split, "inside")
    video = reader.video("clip")
    truth = reader.truth(video, reader.expressions("clip")[0], FrameIndex(0))
    assert (truth is not None) == (reader.name not in WITHOUT_TRUTH)
