"""Shards made in one go against zarr-python's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, SampleKey, VideoRef
from storage.arrays.mask_shards import codecs_of, read_shard, write_shard
from storage.arrays.masks import MaskStore
from storage.arrays.zarr_arrays import known_codecs


def _random(seed: int, frames: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = rng.random((frames, height, width)) < rng.choice([0.02, 0.5, 0.98], (frames, 1, 1))
    masks[rng.random(frames) < 0.3] = False
    masks[-1, -1, -1] = True
    return masks


def _store(path: Path, masks: np.ndarray) -> Path:
    """A store of one expression; returns its shard."""
    frames, height, width = masks.shape
    names = tuple(f"{frame:05d}" for frame in range(frames))
    video = VideoRef("v", names, tuple(Path(name) for name in names), height, width)
    ones = np.ones(frames, np.float32)
    item = PseudoMask(
        SampleKey("d", "s", "v", "0"), PackedMasks.of(masks), ones, ones.astype(np.uint8), "f"
    )
    MaskStore(path).write_video(video, ["x"], [item])
    return path / "v" / "masks" / "c" / "0" / "0" / "0" / "0"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 12), st.integers(1, 19))
def test_the_bytes_are_zarrs_own(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, height: int, width: int
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    masks = _random(seed, frames, height, width)
    shard = _store(folder / "store", masks)
    ours = shard.read_bytes()
    with known_codecs():
        array = zarr.open_array(folder / "store" / "v" / "masks", mode="r+")
        said = json.loads((folder / "store/v/masks/zarr.json").read_text())["codecs"]
        assert said == codecs_of(height, width)
        assert np.array_equal(array[0], masks)
        shard.unlink()
        array[0] = masks
    assert shard.read_bytes() == ours
    order = np.random.default_rng(seed).integers(0, frames, 5).tolist()
    found = read_shard(shard, frames, order, (height, width))
    assert found.dtype == np.bool_
    assert np.array_equal(found, masks[order])


def test_a_shard_that_is_missing_is_empty(tmp_path: Path) -> None:
    found = read_shard(tmp_path / "0", 4, [0, 3], (5, 6))
    assert found.shape == (2, 5, 6)
    assert not found.any()


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_of_a_large_shard_only_the_frames_asked_for_are_read(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((24, 300, 400)) < 0.5
    masks[7] = False
    write_shard(tmp_path / "0", PackedMasks.of(masks))
    size = (tmp_path / "0").stat().st_size
    for frames, share in (([20], 0.08), ([7, 0, 20, 0], 0.2), (range(24), 1.1)):
        before = _bytes_read()
        found = read_shard(tmp_path / "0", 24, frames, (300, 400))
        assert _bytes_read() - before < share * size
        assert np.array_equal(found, masks[list(frames)])


def test_a_large_shard_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((6, 300, 400)) < 0.5
    write_shard(tmp_path / "0", PackedMasks.of(masks))
    content = (tmp_path / "0").read_bytes()
    (tmp_path / "0").write_bytes(content[15_000:])
    assert len(content) - 15_000 > 2**16
    with pytest.raises(ValueError, match="past the end"):
        read_shard(tmp_path / "0", 6, [5], (300, 400))
    (tmp_path / "0").write_bytes(content[:-1])
    with pytest.raises((ValueError, RuntimeError)):
        read_shard(tmp_path / "0", 6, [5], (300, 400))


@pytest.mark.parametrize("where", [-1, -20, 0, 40])
def test_damage_is_noticed(tmp_path: Path, where: int) -> None:
    masks = _random(1, 3, 20, 30)
    write_shard(tmp_path / "0", PackedMasks.of(masks))
    content = bytearray((tmp_path / "0").read_bytes())
    content[where] ^= 0xFF
    (tmp_path / "0").write_bytes(content)
    try:
        found = read_shard(tmp_path / "0", 3, range(3), (20, 30))
    except (ValueError, RuntimeError):
        return
    # zstd without a checksum does not see every bit; what it lets through keeps its shape.
    assert where >= 0
    assert found.shape == masks.shape


def test_a_shard_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "0", PackedMasks.of(_random(1, 3, 20, 30)))
    content = (tmp_path / "0").read_bytes()
    for length in (0, 10, len(content) - 1):
        (tmp_path / "0").write_bytes(content[:length])
        with pytest.raises((ValueError, RuntimeError)):
            read_shard(tmp_path / "0", 3, range(3), (20, 30))


def test_a_store_with_other_codecs_is_left_to_zarr(tmp_path: Path) -> None:
    masks = _random(2, 4, 10, 14)
    shard = _store(tmp_path / "store", masks)
    document = shard.parents[4] / "zarr.json"
    text = document.read_text()
    with known_codecs():
        array = zarr.open_array(document.parent, mode="r")
        attributes = {"shape": array.shape, "dtype": array.dtype}
        shard.unlink()
        document.unlink()
        other = zarr.create_array(
            document.parent, **attributes, chunks=(1, 2, 10, 14), fill_value=False
        )
        other[0] = masks
    assert document.read_text() != text
    found, _, _ = MaskStore(tmp_path / "store").read("v", "0", [3, 1])
    assert np.array_equal(found, masks[[3, 1]])
