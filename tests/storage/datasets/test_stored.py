"""Every data set out of an object store reads as it does from a folder."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.object_store import READER, put_folder
from pipeline.errors import InputError, ObjectStoreError
from pipeline.ports import DatasetReader
from pipeline.store_urls import local_place
from pipeline.types import FrameIndex
from storage.datasets import LOOKS_AT_FRAMES, open_dataset
from storage.files.checksums import walk_files
from storage.remote import objects as objects_module
from storage.remote.data_copy import OF_INDEX, DataCopy, copy_of
from storage.remote.objects import Objects
from tests.storage.datasets import trees
from tests.storage.datasets.test_contract import BUILDERS

IMAGES = (".jpg", ".png", ".mp4")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in walk_files(folder)}


def content(reader: DatasetReader) -> list[object]:
    """All that a reader tells of the video ``clip``."""
    video, expressions = reader.video("clip"), reader.expressions("clip")
    found: list[object] = [video.frames, video.height, video.width, expressions]
    for index in map(FrameIndex, range(len(video))):
        found.append(reader.frame(video, index).tolist())
        for item in expressions:
            for value in (reader.truth(video, item, index), reader.boxes(video, item, index)):
                found += [None if value is None else np.asarray(value).tolist()]
    return found


@pytest.fixture
def ytvos(tmp_path: Path, store_url: str) -> Path:
    """The folder that stands for a data set in the store."""
    put_folder(trees.refytvos(tmp_path / "data"), store_url)
    return local_place(store_url)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_reader_tells_the_same(name: str, tmp_path: Path, store_url: str) -> None:
    dataset, split, build = BUILDERS[name]
    folder = build(tmp_path / "data")
    put_folder(folder, store_url)
    root = local_place(store_url)
    reader = open_dataset(dataset, root, split)
    assert list(reader.video_ids()) == ["clip"]
    if dataset not in LOOKS_AT_FRAMES:
        assert files(root) == {item for item in files(folder) if item.endswith(OF_INDEX)}
        assert not {item for item in files(root) if "clip" in item and item.endswith(IMAGES)}
    # As in the workers of a loader, before anything of the video was read.
    elsewhere = pickle.loads(pickle.dumps(reader))
    expected = content(open_dataset(dataset, folder, split))
    assert content(reader) == content(elsewhere) == expected
    assert files(root) == files(folder)


def test_only_the_videos_that_are_asked_for_are_fetched(tmp_path: Path, store_url: str) -> None:
    folder = trees.refytvos(tmp_path / "data")
    trees.refytvos(folder, "valid")
    put_folder(folder, store_url)
    root = local_place(store_url)
    open_dataset("refytvos", root, "train").video("clip")
    assert {name for name in files(folder) if not name.startswith("valid/")} <= files(root)
    assert not list((root / "valid").rglob("*.jpg"))


def test_what_is_here_is_not_fetched_again(ytvos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_dataset("refytvos", ytvos, "train").video("clip")

    def refused(self: Objects, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(Objects, "chunks", refused)
    open_dataset("refytvos", ytvos, "train").video("clip")


def test_the_copy_follows_the_store(ytvos: Path, store_url: str, tmp_path: Path) -> None:
    reader, objects = open_dataset("refytvos", ytvos, "train"), Objects(store_url)
    first = ytvos / reader.video("clip").paths[0].relative_to(ytvos)
    before, mine = first.read_bytes(), ytvos / "mine.txt"
    mine.write_text("mine")
    # Another version of the same size, a file less, a video less.
    objects.put(first.relative_to(ytvos).as_posix(), before[::-1])
    masks = [e.name for e in objects.walk() if "/Annotations/" in e.name]
    objects.delete(masks)
    reader = open_dataset("refytvos", ytvos, "train")
    assert first.read_bytes() == before
    with pytest.raises(InputError):
        reader.video("clip")
    assert first.read_bytes() == before[::-1]
    assert not (ytvos / "train" / "Annotations").exists()
    assert mine.exists()
    assert files(ytvos) == {entry.name for entry in objects.walk()} | {"mine.txt"}


def test_a_download_that_was_cut_continues(ytvos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = Objects.chunks, list[str]()

    def failing(self: Objects, name: str) -> object:
        asked.append(name)
        if name.endswith("00010.png"):
            yield b"half"
            raise ObjectStoreError(f"{name}: no network")
        yield from real(self, name)

    monkeypatch.setattr(Objects, "chunks", failing)
    with pytest.raises(ObjectStoreError, match="no network"):
        open_dataset("refytvos", ytvos, "train").video("clip")
    assert not list(ytvos.rglob("00010.png"))
    whole = {name for name in asked if (ytvos / name).exists()}
    asked.clear()
    monkeypatch.setattr(
        Objects, "chunks", lambda self, name: asked.append(name) or real(self, name)
    )
    open_dataset("refytvos", ytvos, "train").video("clip")
    assert "train/Annotations/clip/00010.png" in asked
    assert not whole.intersection(asked)


def test_a_long_download_says_how_far_it_is(
    ytvos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storage.remote.data_copy.LOG_SECONDS", 0.0)
    with caplog.at_level("INFO", "storage.remote.data_copy"):
        open_dataset("refytvos", ytvos, "train").video("clip")
    assert len(caplog.messages) == len(files(ytvos))
    assert f"Downloaded {len(files(ytvos))} files, 0.00 GB, from s3://" in caplog.messages[-1]
    assert "; 5 files are waiting" in caplog.text


def test_a_log_with_a_cut_line_costs_one_file(ytvos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_dataset("refytvos", ytvos, "train").video("clip")
    log = ytvos.with_name(f".{ytvos.name}.fetched")
    log.write_bytes(log.read_bytes()[:-9])
    real, asked = Objects.chunks, list[str]()
    monkeypatch.setattr(
        Objects, "chunks", lambda self, name: asked.append(name) or real(self, name)
    )
    for _ in range(2):
        open_dataset("refytvos", ytvos, "train").video("clip")
    assert len(asked) == 1


def test_credentials_that_may_only_read_are_enough(
    ytvos: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Objects(store_url).put("mine.txt", b"mine")
    open_dataset("refytvos", ytvos, "train")
    Objects(store_url).delete(["mine.txt"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    objects_module._open.cache_clear()
    try:
        with pytest.raises(ObjectStoreError, match="refuses access"):
            Objects(store_url).put("mine.txt", b"mine")
        assert len(open_dataset("refytvos", ytvos, "train").video("clip")) == 3
    finally:
        objects_module._open.cache_clear()
    assert not (ytvos / "mine.txt").exists()


def test_nothing_at_an_address_is_said(store_url: str) -> None:
    with pytest.raises(InputError, match=f"{store_url}: nothing is there; expected the files of"):
        open_dataset("refytvos", local_place(store_url), "train")
    with pytest.raises(InputError, match="refytvos2: nothing is there"):
        copy_of(local_place(f"{store_url}/refytvos2"))


def test_a_data_set_that_was_deleted_is_not_read_from_its_copy(ytvos: Path, store_url: str) -> None:
    open_dataset("refytvos", ytvos, "train").video("clip")
    Objects(store_url).delete([entry.name for entry in Objects(store_url).walk()])
    with pytest.raises(InputError, match="nothing is there"):
        open_dataset("refytvos", ytvos, "train")


def test_what_was_rendered_into_the_copy_of_a_run_is_a_folder(
    tmp_path: Path, store_url: str
) -> None:
    root = trees.refytvos(local_place(f"{store_url}/data"))
    assert copy_of(root) is None
    assert len(open_dataset("shapes", root, "train").video("clip")) == 3


def test_names_spelled_otherwise_are_found(tmp_path: Path, store_url: str) -> None:
    folder = trees.refytvos(tmp_path / "data")
    for kind in ("JPEGImages", "Annotations"):
        (folder / "train" / kind / "clip").rename(folder / "train" / kind / "cle\u0301")
    index = folder / "meta_expressions" / "train" / "meta_expressions.json"
    index.write_text(index.read_text().replace('"clip"', '"cl\u00e9"'))
    put_folder(folder, store_url)
    reader = open_dataset("refytvos", local_place(store_url), "train")
    video = reader.video("cl\u00e9")
    assert reader.truth(video, reader.expressions("cl\u00e9")[0], FrameIndex(0)) is not None


def test_a_signature_is_of_the_objects_alone(ytvos: Path, store_url: str) -> None:
    copy = copy_of(ytvos)
    assert isinstance(copy, DataCopy)
    places = [ytvos / "train" / "JPEGImages" / "clip"]
    before = copy.signature(["00000"], places)
    assert not copy.has(places)
    copy.fetch(places)
    shutil.rmtree(ytvos)
    again = copy_of(ytvos)
    assert isinstance(again, DataCopy) and again.signature(["00000"], places) == before
    Objects(store_url).put("train/JPEGImages/clip/00000.jpg", b"other")
    changed = copy_of(ytvos)
    assert isinstance(changed, DataCopy) and changed.signature(["00000"], places) != before


def test_odd_names_do_no_harm(ytvos: Path, store_url: str) -> None:
    objects = Objects(store_url)
    for name in (
        "train.zip",
        "train",
        ".DS_Store",
        "train/JPEGImages/clip/._00000.jpg",
        "__MACOSX/x.json",
    ):
        objects.put(name, b"")
    open_dataset("refytvos", ytvos, "train").video("clip")
    assert not {name for name in files(ytvos) if "DS_Store" in name or "_00000" in name}
    assert not (ytvos / "__MACOSX").exists() and not (ytvos / "train.zip").exists()
