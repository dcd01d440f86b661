"""Candidates and hypotheses: what a shard's Zarr store gives back."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import NoRoomError, StoreError
from pipeline.types import Candidates, Hypotheses, SampleKey
from storage.arrays import zarr_groups
from storage.arrays.candidates import (
    LOGIT_LIMIT,
    LOGIT_STEP,
    CandidateWriter,
    StoredCandidates,
    read_candidates,
)
from storage.arrays.hypotheses import HypothesisWriter, StoredHypotheses
from tests.fakes.disk import Disk


def _candidates(rng: np.random.Generator, masks: int, boxes: int) -> Candidates:
    return Candidates(
        logits=rng.integers(-127, 128, (masks, 5, 7)).astype(np.float16) * np.float16(LOGIT_STEP),
        predicted_iou=rng.random(masks, dtype=np.float32),
        stability=rng.random(masks, dtype=np.float32),
        box_row=rng.integers(0, max(masks, 1), boxes if masks else 0).astype(np.int32),
    )


def _hypotheses(rng: np.random.Generator, expression: str, frames: int) -> Hypotheses:
    shape = (frames, 2)
    per_instance = {
        name: rng.random(shape, dtype=np.float32)
        for name in (
            "score",
            "box_score",
            "agreement",
            "negative_margin",
            "predicted_iou",
            "stability",
        )
    }
    return Hypotheses(
        key=SampleKey("shapes", "train", "v", expression),
        candidate=rng.integers(-1, 9, (*shape, 3)).astype(np.int32),
        share=rng.random((*shape, 3), dtype=np.float32),
        count=rng.integers(0, 3, frames).astype(np.int32),
        together=rng.integers(1, 3, frames).astype(np.int32),
        box=rng.random((*shape, 4), dtype=np.float32),
        status=rng.integers(0, 3, frames).astype(np.uint8),
        reason=tuple("" if frame % 2 else "claimed by a negative" for frame in range(frames)),
        **per_instance,
    )


def _assert_equal(got: object, expected: object) -> None:
    assert type(got) is type(expected)
    for field in fields(expected):  # type: ignore[arg-type]
        one, other = getattr(got, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert np.array_equal(one, other), field.name
        else:
            assert one == other, field.name


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=4))
def test_candidates_read_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: Sequence[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("segment") / "00000.zarr"
    rng = np.random.default_rng(0)
    frames = [_candidates(rng, *size) for size in sizes]
    with CandidateWriter(path, "f") as writer:
        writer.write_video("v", frames)
    got = read_candidates(path, "v")
    assert len(got) == len(frames)
    for one, other in zip(got, frames, strict=True):
        if len(other):
            _assert_equal(one, other)
        else:  # h and w of a frame without masks are the video's
            assert len(one) == len(one.box_row) == len(one.stability) == 0


def test_logits_are_off_by_half_a_step_or_beyond_the_limit(tmp_path: Path) -> None:
    logits = np.linspace(-40, 40, 3 * 50 * 70, dtype=np.float16).reshape(3, 50, 70)
    ones, rows = np.ones(3, np.float32), np.arange(3, dtype=np.int32)
    with CandidateWriter(tmp_path / "s.zarr", "f") as writer:
        writer.write_video("v", [Candidates(logits, ones, ones, rows)])
    (whole,) = read_candidates(tmp_path / "s.zarr", "v")
    for found in (whole.logits, StoredCandidates(tmp_path / "s.zarr", "v", 0)[0].logits):
        assert found.dtype == np.float16
        within = np.abs(logits) <= LOGIT_LIMIT
        assert np.abs(found[within] - logits[within]).max() <= LOGIT_STEP / 2
        assert (found[~within] == np.sign(logits[~within]) * LOGIT_LIMIT).all()
    assert np.array_equal(whole.logits > 0, logits > LOGIT_STEP / 2)


def test_candidates_over_several_chunks_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [_candidates(rng, 50, 60), _candidates(rng, 90, 10)]
    with CandidateWriter(tmp_path / "s.zarr", "f") as writer:
        writer.write_video("v", frames)
        writer.write_video("w", frames[::-1])
    for one, other in zip(read_candidates(tmp_path / "s.zarr", "w"), frames[::-1], strict=True):
        _assert_equal(one, other)


@pytest.mark.parametrize("frames", [0, 1, 40])
def test_hypotheses_read_back(tmp_path: Path, frames: int) -> None:
    rng = np.random.default_rng(0)
    items = [_hypotheses(rng, expression, frames) for expression in ("0", "10", "2")]
    with HypothesisWriter(tmp_path / "s.zarr", "f") as writer:
        writer.write_video("v", items)
        writer.write_video("none", [])
    for one, other in zip(StoredHypotheses(tmp_path / "s.zarr", "v"), items, strict=True):
        _assert_equal(one, other)
    assert not StoredHypotheses(tmp_path / "s.zarr", "none")


def test_a_store_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    for video in ("a", "b"):
        with CandidateWriter(path, "f") as writer:
            writer.write_video(video, [])
    assert read_candidates(path, "b") == []
    with pytest.raises(StoreError, match="no video a"):
        read_candidates(path, "a")


def test_a_failed_writer_keeps_the_old_store(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with HypothesisWriter(path, "f") as writer:
        writer.write_video("a", [])
    with pytest.raises(RuntimeError), HypothesisWriter(path, "f"):
        raise RuntimeError
    assert not StoredHypotheses(path, "a")
    assert [child.name for child in tmp_path.iterdir()] == ["s.zarr"]


def test_a_disk_that_is_full_when_a_store_is_begun_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, attributes: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr_groups, "create_group", full)
    with pytest.raises(NoRoomError, match=r"s\.zarr: no space left"):
        CandidateWriter(tmp_path / "s.zarr", "f").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such store"):
        read_candidates(tmp_path / "none.zarr", "v")
    with HypothesisWriter(tmp_path / "h.zarr", "f"):
        pass
    with pytest.raises(StoreError, match=r"expected pseudolabels\.candidates"):
        read_candidates(tmp_path / "h.zarr", "v")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with CandidateWriter(path, "f") as writer:
        writer.write_video("v", [_candidates(np.random.default_rng(0), 3, 3)])
    chunk = next(file for file in (path / "v" / "logits" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"s.zarr/v: .*damaged"):
        read_candidates(path, "v")


def test_an_id_that_climbs_out_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="path separator"),
        CandidateWriter(tmp_path / "s.zarr", "f") as writer,
    ):
        writer.write_video("../x", [])


def test_candidates_that_come_in_parts_are_stored_as_those_that_come_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sizes = [(30, 40), (0, 0), (50, 50), (1, 3), (0, 0), (70, 90), (2, 2)]
    frames = [_candidates(rng, *size) for size in sizes]
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    with CandidateWriter(whole, "f") as writer:
        writer.write_video("v", frames)
    with CandidateWriter(parts, "f") as writer:
        video = writer.start_video("v")
        for start in range(0, len(frames), 2):
            video.append(frames[start : start + 2])
        video.finish()
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(parts) for p in parts.rglob("*") if p.is_file())
    for name in files:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    for one, other in zip(read_candidates(parts, "v"), frames, strict=True):
        assert np.array_equal(one.box_row, other.box_row)
        assert len(one) == len(other) and np.array_equal(one.logits, other.logits[: len(one)])


def test_a_video_that_was_begun_can_be_taken_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frames = [_candidates(rng, 70, 70)]
    with CandidateWriter(tmp_path / "s.zarr", "f") as writer:
        writer.start_video("gone").append(frames)
        writer.remove_video("gone")
        writer.write_video("v", frames)
    assert len(read_candidates(tmp_path / "s.zarr", "v")[0]) == 70
    with pytest.raises(StoreError, match="no video gone"):
        read_candidates(tmp_path / "s.zarr", "gone")


@pytest.mark.parametrize("held_bytes", [0, 10**9])
def test_candidates_read_frame_by_frame_are_the_same(tmp_path: Path, held_bytes: int) -> None:
    rng = np.random.default_rng(5)
    frames = [_candidates(rng, *size) for size in [(40, 4), (0, 0), (150, 9), (64, 1), (3, 3)]]
    with CandidateWriter(tmp_path / "s.zarr", "f") as writer:
        writer.write_video("v", frames)
    stored = StoredCandidates(tmp_path / "s.zarr", "v", held_bytes)
    assert len(stored) == len(frames)
    for index in (2, 0, 4, 1, 3, 2):
        _assert_equal(stored[index], read_candidates(tmp_path / "s.zarr", "v")[index])
    for scores, frame in zip(stored.scores, frames, strict=True):
        _assert_equal(scores, frame.scores)
    assert [len(frame) for frame in stored[1:3]] == [0, 150]
    assert [len(frame) for frame in stored] == [40, 0, 150, 64, 3]


def test_ids_that_a_store_keeps_for_itself_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    name = "__KkKB4wzrY"
    with CandidateWriter(tmp_path / "c.zarr", "f") as candidates:
        candidates.write_video(name, [_candidates(rng, 2, 2)])
        candidates.start_video("__b")
        candidates.remove_video("__b")
    assert len(read_candidates(tmp_path / "c.zarr", name)) == 1
    with HypothesisWriter(tmp_path / "h.zarr", "f") as hypotheses:
        hypotheses.write_video(name, [_hypotheses(rng, "__0", 3)])
    (found,) = StoredHypotheses(tmp_path / "h.zarr", name)
    assert (found.key.video, found.key.expression) == (name, "__0")


@pytest.mark.parametrize("writer", [CandidateWriter, HypothesisWriter])
def test_all_of_a_store_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path,
    disk: Disk,
    writer: type[CandidateWriter] | type[HypothesisWriter],
) -> None:
    rng, place = np.random.default_rng(0), tmp_path / "s.zarr"
    with writer(place, "f") as store:
        if isinstance(store, CandidateWriter):
            store.write_video("v", [_candidates(rng, 2, 2)])
        else:
            store.write_video("v", [_hypotheses(rng, "0", 3)])
    assert disk.flushed_before(place) == {
        str(path.relative_to(place)) for path in place.rglob("*")
    } | {"."}
