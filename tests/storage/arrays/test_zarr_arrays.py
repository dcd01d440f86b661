"""Arrays and groups made in one go against zarr-python's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.codecs.numcodecs import PackBits

from pipeline.errors import StoreError
from pipeline.packed_masks import PackedMasks
from pipeline.types import Candidates, PseudoMask, SampleKey, VideoRef
from storage.arrays import zarr_arrays
from storage.arrays.candidates import CandidateWriter, StoredCandidates
from storage.arrays.masks import MaskStore
from storage.arrays.zarr_arrays import FOR_LOGITS, StoredArray, known_codecs, write_array
from storage.arrays.zarr_groups import create_group, read_array

DTYPES = (np.float16, np.float32, np.int32, np.uint8)


def _values(seed: int, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Some rows are zeros, and zeros may have a sign."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * 50).astype(dtype)
    values[rng.random(len(values)) < 0.5] *= 0
    return values


def _zarrs(
    folder: Path, values: np.ndarray, rows: int, compressor: BloscCodec | None = None
) -> zarr.Array:
    """The same array through zarr-python."""
    ours = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
    return zarr.create_array(
        folder,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(rows, *(max(1, side) for side in values.shape[1:])),
        compressors=[compressor or ours],
        fill_value=values.dtype.type(0),
    )


def _files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_the_bytes_are_zarrs_own(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    shape: list[int],
    dtype: type[np.generic],
    chunk_rows: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    values = _values(seed, tuple(shape), dtype)
    write_array(folder / "ours", values, chunk_rows)
    rows = max(1, len(values) if chunk_rows is None else min(chunk_rows, len(values)))
    theirs = _zarrs(folder / "theirs", values, rows)
    theirs[...] = values
    assert _files(folder / "ours") == _files(folder / "theirs")
    assert np.array_equal(zarr.open_array(folder / "ours", mode="r")[...], values)
    found = StoredArray(folder / "theirs")
    assert (found.shape, found.dtype, found.chunk_rows) == (values.shape, values.dtype, rows)
    assert found.row_bytes == values[:1].nbytes or not len(values)
    read = read_array(folder / "theirs", dtype)
    assert (read.dtype, read.shape, read.tobytes()) == (
        values.dtype,
        values.shape,
        values.tobytes(),
    )


def test_logits_have_a_codec_of_their_own_which_zarr_python_reads(tmp_path: Path) -> None:
    values = _values(5, (9, 4, 3), np.int8)
    write_array(tmp_path / "ours", values, 4, codec=FOR_LOGITS)
    codec = BloscCodec(typesize=1, cname="zstd", clevel=1, shuffle="noshuffle")
    _zarrs(tmp_path / "theirs", values, 4, codec)[...] = values
    assert _files(tmp_path / "ours") == _files(tmp_path / "theirs")
    assert np.array_equal(zarr.open_array(tmp_path / "ours", mode="r")[...], values)


@pytest.mark.parametrize("shuffle", ["bitshuffle", "noshuffle", "shuffle"])
@pytest.mark.parametrize(("cname", "clevel"), [("zstd", 3), ("lz4", 1), ("blosclz", 9)])
def test_chunks_of_another_compressor_are_read_the_same_way(
    tmp_path: Path, cname: Any, clevel: int, shuffle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = _values(5, (9, 4, 3), np.float16)
    codec = BloscCodec(cname=cname, clevel=clevel, shuffle=shuffle)
    _zarrs(tmp_path / "a", values, 4, codec)[...] = values
    monkeypatch.delattr(zarr_arrays, "open_array")
    assert np.array_equal(read_array(tmp_path / "a", np.float16), values)


def test_rows_added_later_give_the_bytes_of_all_at_once(tmp_path: Path) -> None:
    values = _values(3, (23, 2, 3), np.float16)
    write_array(tmp_path / "whole", values, 4)
    for start in (0, 8, 12, 20):
        stop = {0: 8, 8: 12, 12: 20, 20: 23}[start]
        write_array(tmp_path / "parts", values[start:stop], 4, start=start)
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")


def test_some_chunks_are_read_without_the_rest(tmp_path: Path) -> None:
    values = _values(4, (10, 3), np.float32)
    write_array(tmp_path / "a", values, 4)
    array = StoredArray(tmp_path / "a")
    assert np.array_equal(array.read(1, 2), values[4:8])
    assert np.array_equal(array.read(1), values[4:])
    assert np.array_equal(array.read(2, 3), values[8:])


def test_a_group_has_the_bytes_of_zarrs_own(tmp_path: Path) -> None:
    for attributes in ({}, {"reason": ["", 'ein "Wort", größer'], "n": 1, "size": [2, 0.5]}):
        name = str(len(attributes))
        (tmp_path / name).mkdir()
        create_group(tmp_path / name / "ours", attributes)
        zarr.create_group(tmp_path / name / "theirs", zarr_format=3, attributes=dict(attributes))
        assert _files(tmp_path / name / "ours") == _files(tmp_path / name / "theirs")
    with pytest.raises(FileExistsError):
        create_group(tmp_path / "0" / "ours", {})


def test_a_mask_stores_documents_have_the_bytes_of_zarrs_own(tmp_path: Path) -> None:
    mask = np.zeros((3, 5, 9), np.bool_)
    names = ("a", "b", "c")
    video = VideoRef("v", names, tuple(map(Path, names)), 5, 9)
    ones = np.ones(3, np.float32)
    item = PseudoMask(
        SampleKey("d", "s", "v", "0"), PackedMasks.of(mask), ones, ones.astype(np.uint8), "f"
    )
    store = MaskStore(tmp_path / "ours")
    store.write_video(video, ["x"], [item])
    attributes = json.loads((store.path / "zarr.json").read_text())["attributes"]
    zarr.open_group(tmp_path / "theirs", mode="a", zarr_format=3, attributes=attributes)
    with known_codecs():
        zarr.create_array(
            tmp_path / "theirs/masks",
            shape=(1, *mask.shape),
            dtype=np.bool_,
            chunks=(1, 1, 5, 9),
            shards=(1, *mask.shape),
            filters=[PackBits()],
            compressors=[ZstdCodec(level=3)],
            fill_value=False,
        )
    theirs = _files(tmp_path / "theirs")
    assert (store.path / "zarr.json").read_bytes() == theirs["zarr.json"]
    assert (store.path / "v/masks/zarr.json").read_bytes() == theirs["masks/zarr.json"]


@pytest.mark.parametrize("chunks", [(7, 3, 2), (3, 2, 5)])
def test_an_array_that_is_stored_otherwise_is_left_to_zarr(
    tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    values = _values(5, (10, 4, 5), np.float16)
    theirs = zarr.create_array(
        tmp_path / "a", shape=values.shape, dtype=values.dtype, chunks=chunks, fill_value=0
    )
    theirs[...] = values
    array = StoredArray(tmp_path / "a")
    assert (array.shape, array.dtype, array.chunk_rows) == (values.shape, np.float16, chunks[0])
    assert np.array_equal(array.read(), values)
    assert np.array_equal(array.read(1, 2), values[chunks[0] : 2 * chunks[0]])


@pytest.mark.parametrize("length", [0, 3, 15, 16, 40, -1])
def test_a_chunk_that_was_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    write_array(tmp_path / "a", _values(6, (9, 30), np.float32))
    chunk = tmp_path / "a/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:length])
    with pytest.raises(StoreError, match=r"a: missing or damaged \(chunk 0 has"):
        read_array(tmp_path / "a", np.float32)


@pytest.mark.parametrize("at", [*range(16), 20, 60, -1])
def test_a_flipped_byte_gives_an_error_or_the_shape(tmp_path: Path, at: int) -> None:
    values = _values(7, (9, 30), np.float32)
    write_array(tmp_path / "a", values)
    chunk = tmp_path / "a/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[at] ^= 0xFF
    chunk.write_bytes(content)
    try:
        assert read_array(tmp_path / "a", np.float32).shape == values.shape
    except StoreError:
        return
    assert at not in range(4, 8) and at not in range(12, 16)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", "abc"), ("shape", [-3, 2]), ("shape", None), ("shape", []),
        ("data_type", "object"), ("data_type", None), ("data_type", {"name": "x"}),
        ("chunk_grid", 3), ("codecs", []), ("node_type", "group"), ("node_type", None),
        ("chunk_grid", {"configuration": {}}),
    ],
)  # fmt: skip
def test_a_damaged_document_is_named(tmp_path: Path, key: str, value: object) -> None:
    write_array(tmp_path / "a", _values(8, (3, 2), np.float32))
    document = tmp_path / "a" / "zarr.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), key: value}))
    with pytest.raises(StoreError, match="a: "):
        read_array(tmp_path / "a", np.float32)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "\ud800", "[" * 100_000])
def test_what_is_no_document_is_named(tmp_path: Path, text: str) -> None:
    write_array(tmp_path / "a", _values(9, (3, 2), np.float32))
    (tmp_path / "a" / "zarr.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StoreError, match="a: missing or damaged"):
        read_array(tmp_path / "a", np.float32)
    with pytest.raises(StoreError, match="a: float32; expected int32"):
        write_array(tmp_path / "a", _values(9, (3, 2), np.float32))
        read_array(tmp_path / "a", np.int32)


def test_candidates_in_other_chunks_are_read(tmp_path: Path) -> None:
    logits = _values(1, (6, 4, 5), np.float16)
    ones, rows = np.ones(6, np.float32), np.arange(6, dtype=np.int32)
    with CandidateWriter(tmp_path / "s.zarr", "f") as writer:
        writer.write_video("v", [Candidates(logits, ones, ones, rows)])
    group = zarr.open_group(tmp_path / "s.zarr", mode="r+")
    del group["v/logits"]
    del group["v"].attrs["logit_step"]  # as they were stored before there were steps
    other = group.create_array("v/logits", shape=logits.shape, dtype=logits.dtype, chunks=(2, 3, 5))
    other[...] = logits
    for held_bytes in (0, 10**6):
        stored = StoredCandidates(tmp_path / "s.zarr", "v", held_bytes)
        assert np.array_equal(stored[0].logits, logits)
