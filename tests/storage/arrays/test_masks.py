from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.errors import StoreError
from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, SampleKey, Status, VideoRef
from storage.arrays.masks import FORMAT_VERSION, MaskStore
from storage.files.atomic import sweep
from tests.fakes.disk import Disk

FRAMES, HEIGHT, WIDTH = 5, 9, 13


def _video(video_id: str, frames: int = FRAMES) -> VideoRef:
    names = tuple(f"{5 * index:05d}" for index in range(frames))
    return VideoRef(video_id, names, tuple(Path(name) for name in names), HEIGHT, WIDTH)


def _mask(video: str, expression: str, seed: int = 0, frames: int = FRAMES) -> PseudoMask:
    rng = np.random.default_rng(seed)
    return PseudoMask(
        key=SampleKey("shapes", "train", video, expression),
        mask=PackedMasks.of(rng.random((frames, HEIGHT, WIDTH)) > 0.5),
        weight=rng.random(frames, dtype=np.float32),
        status=rng.integers(0, 3, frames).astype(np.uint8),
        fingerprint=f"f{seed}",
    )


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    store = MaskStore(tmp_path / "pseudomasks.zarr")
    store.write_video(_video("b"), ["x", "y"], [_mask("b", "0", 1), _mask("b", "10", 2)])
    store.write_video(_video("a"), ["z"], [_mask("a", "0", 3)])
    return store


def test_masks_read_back(store: MaskStore) -> None:
    expected = _mask("b", "10", 2)
    mask, weight, status = store.read("b", "10")
    assert np.array_equal(mask, expected.mask)
    assert np.array_equal(weight, expected.weight)
    assert np.array_equal(status, expected.status)
    assert (mask.dtype, weight.dtype, status.dtype) == (np.bool_, np.float32, np.uint8)


@pytest.mark.parametrize("frames", [[], [4], [3, 0, 3], range(1, 3), np.array([2, 1])])
def test_a_clip_reads_in_the_order_asked_for(store: MaskStore, frames: list[int]) -> None:
    mask, weight, status = store.read("a", "0", frames)
    expected = _mask("a", "0", 3)
    chosen = list(frames)
    assert np.array_equal(mask, np.asarray(expected.mask)[chosen])
    assert np.array_equal(weight, expected.weight[chosen])
    assert np.array_equal(status, expected.status[chosen])


def test_the_index_of_a_store(store: MaskStore) -> None:
    assert list(store.samples()) == [("a", "0"), ("b", "0"), ("b", "10")]
    assert store.frames("b") == ("00000", "00005", "00010", "00015", "00020")
    assert store.texts("b") == ("x", "y")
    assert store.fingerprints("b") == ("f1", "f2")
    assert store.size("b") == (HEIGHT, WIDTH)
    assert "b" in store
    assert "c" not in store


def test_what_was_not_written_reads_as_unknown(store: MaskStore) -> None:
    for name in ("masks", "weight", "status"):
        shutil.rmtree(store.path / "a" / name / "c")
    mask, weight, status = MaskStore(store.path).read("a", "0")
    assert not mask.any()
    assert not weight.any()
    assert (status == Status.UNKNOWN).all()


def test_a_video_written_again_replaces_what_was_there(store: MaskStore) -> None:
    store.read("b", "0")
    store.write_video(_video("b", 2), ["new"], [_mask("b", "7", 9, frames=2)])
    assert store.expressions("b") == ("7",)
    assert np.array_equal(store.read("b", "7")[0], _mask("b", "7", 9, frames=2).mask)


def test_a_removed_video_is_gone(store: MaskStore) -> None:
    store.remove_video("b")
    store.remove_video("b")
    assert store.videos() == ["a"]
    with pytest.raises(StoreError, match="no video b"):
        store.read("b", "0")


def test_a_store_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert list(MaskStore(tmp_path / "none.zarr").samples()) == []


def test_a_video_without_expressions_or_frames(tmp_path: Path) -> None:
    store = MaskStore(tmp_path / "m.zarr")
    store.write_video(_video("none"), [], [])
    store.write_video(_video("short", 0), ["x"], [_mask("short", "0", frames=0)])
    assert list(store.samples()) == [("short", "0")]
    assert store.read("short", "0")[0].shape == (0, HEIGHT, WIDTH)


def test_a_store_pickles_for_the_workers_of_a_loader(store: MaskStore) -> None:
    store.read("a", "0")
    copy = pickle.loads(pickle.dumps(store))
    assert np.array_equal(copy.read("a", "0")[0], store.read("a", "0")[0])


def test_any_zarr_reader_can_open_it(store: MaskStore) -> None:
    with pytest.warns(UserWarning, match="Numcodecs"):
        masks = zarr.open_group(store.path, mode="r")["b/masks"]
    assert masks.shape == (2, FRAMES, HEIGHT, WIDTH)
    assert masks.shards == (1, FRAMES, HEIGHT, WIDTH)
    assert masks.chunks == (1, 1, HEIGHT, WIDTH)


def test_misfits_are_refused(store: MaskStore) -> None:
    with pytest.raises(ValueError, match="expected"):
        store.write_video(_video("c", 3), ["x"], [_mask("c", "0")])
    with pytest.raises(ValueError, match="texts"):
        store.write_video(_video("c"), [], [_mask("c", "0")])
    with pytest.raises(ValueError, match="texts"):
        store.write_video(_video("c"), ["x", "y"], [_mask("c", "0"), _mask("c", "0")])
    with pytest.raises(StoreError, match="no expression 5"):
        store.read("a", "5")
    with pytest.raises(IndexError):
        store.read("a", "0", [FRAMES])
    with pytest.raises(ValueError, match="starts with a dot"):
        store.write_video(_video(".."), [], [])
    assert store.videos() == ["a", "b"]


def test_a_newer_store_is_refused(store: MaskStore) -> None:
    document = store.path / "a" / "zarr.json"
    text = document.read_text()
    old = f'"FORMAT_VERSION": {FORMAT_VERSION}'
    assert old in text
    document.write_text(text.replace(old, '"FORMAT_VERSION": 99'))
    for attempt in (lambda: store.frames("a"), lambda: store.read("a", "0")):
        with pytest.raises(StoreError, match="version 99"):
            attempt()


def test_a_damaged_shard_is_named(store: MaskStore) -> None:
    chunk = next(file for file in (store.path / "a/masks/c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(StoreError, match="a/masks"):
        store.read("a", "0")


def test_ids_that_a_store_keeps_for_itself_are_kept(tmp_path: Path) -> None:
    """Ids of YouTube may start with two underscores."""
    store, ids = MaskStore(tmp_path / "m.zarr"), ["__KkKB4wzrY", "a.partial", "zarr.json"]
    for name in ids:
        store.write_video(_video(name), ["x"], [_mask(name, "__0")])
    assert store.videos() == ids
    assert all(store.read(name, "__0")[0].shape[0] == FRAMES for name in ids)
    assert any("KkKB" in name for name in zarr.open_group(store.path, mode="r").group_keys())
    sweep(store.path)
    for name in ids:
        assert name in store
        store.remove_video(name)
    assert not store.videos()


def test_all_of_a_video_is_on_the_disk_before_it_is_in_the_store(
    tmp_path: Path, disk: Disk
) -> None:
    store = MaskStore(tmp_path / "m.zarr")
    store.write_video(_video("c"), ["x"], [_mask("c", "0")])
    place = store.place("c")
    assert disk.flushed_before(place) == {
        str(path.relative_to(place)) for path in place.rglob("*")
    } | {"."}
    assert (place / "masks").is_dir()
