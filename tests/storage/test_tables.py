from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StoreError
from pipeline.types import (
    Augmentation,
    Boxes,
    FrameQuality,
    Negative,
    Positive,
    Provenance,
    SampleKey,
)
from storage.tables import (
    GroundWriter,
    ground_videos,
    iter_quality,
    merge_quality,
    read_augmentations,
    read_ground,
    sort_boxes,
    write_augmentations,
    write_quality,
)


def _augmentation(video: str, expression: str) -> Augmentation:
    return Augmentation(
        key=SampleKey("shapes", "train", video, expression),
        positives=(Positive("a red star", 1.0), Positive("the crimson star", 0.7, 0.81)),
        negatives=(Negative("a blue star", "attribute"), Negative("a dog", None)),
        provenance=Provenance("demo:captioner", "abc", "1", 7),
    )


def _boxes(rng: np.random.Generator, texts: int, ranks: int) -> Boxes:
    count = texts * ranks
    return Boxes(
        xyxy=rng.random((count, 4), dtype=np.float32),
        score=rng.random(count, dtype=np.float32),
        text=np.repeat(np.arange(texts, dtype=np.int32), ranks),
        rank=np.tile(np.arange(ranks, dtype=np.int32), texts),
    )


def _assert_equal(got: Boxes, expected: Boxes) -> None:
    for name in ("xyxy", "score", "text", "rank"):
        a, b = getattr(got, name), getattr(expected, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name


def _quality(frame: int) -> FrameQuality:
    return FrameQuality(
        "v", "0", frame, f"{frame:05d}", 0.1, 0.2, 0.3, 0.4, math.nan, -0.5, 0.6, 1, ""
    )


def test_augmentations_read_back(tmp_path: Path) -> None:
    items = [_augmentation("b", "0"), _augmentation("b", "1"), _augmentation("a", "0")]
    write_augmentations(tmp_path / "x" / "00000.parquet", items)
    got = read_augmentations(tmp_path / "x" / "00000.parquet")
    assert list(got) == ["b", "a"]
    assert [item for video in got.values() for item in video] == items


def test_nouns_are_stored_and_older_tables_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    named = replace(_augmentation("a", "0"), noun="tennis player")
    write_augmentations(path, [named, _augmentation("a", "1")])
    assert [item.noun for item in read_augmentations(path)["a"]] == ["tennis player", None]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("noun").replace_schema_metadata(table.schema.metadata), path)
    assert [item.noun for item in read_augmentations(path)["a"]] == [None, None]


def test_no_augmentations_read_back(tmp_path: Path) -> None:
    write_augmentations(tmp_path / "a.parquet", [])
    assert read_augmentations(tmp_path / "a.parquet") == {}


def test_augmentations_of_two_splits_are_refused(tmp_path: Path) -> None:
    other = _augmentation("a", "0")
    other = replace(other, key=replace(other.key, split="valid"))
    with pytest.raises(ValueError, match="one data set"):
        write_augmentations(tmp_path / "a.parquet", [_augmentation("a", "1"), other])


def test_boxes_read_back_in_table_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = ("one", "two", "three")
    frames = [_boxes(rng, 3, 2), _boxes(rng, 0, 2), _boxes(rng, 2, 1)]
    shuffled = []
    for frame in frames:
        order = rng.permutation(len(frame))
        parts = (getattr(frame, name)[order] for name in ("xyxy", "score", "text", "rank"))
        shuffled.append(Boxes(*parts))
    path = tmp_path / "00000.parquet"
    with GroundWriter(path) as writer:
        writer.write_video("first", texts, frames)
        writer.write_video("empty", ("nothing",), [_boxes(rng, 0, 1)] * 2)
        writer.write_video("second", texts[::-1], shuffled)
    assert ground_videos(path) == ["first", "empty", "second"]
    for video, expected_texts in (("first", texts), ("second", texts[::-1])):
        got_texts, got = read_ground(path, video)
        assert got_texts == expected_texts
        for one, other in zip(got, frames, strict=True):
            _assert_equal(one, sort_boxes(other))
    got_texts, got = read_ground(path, "empty")
    assert got_texts == ("nothing",)
    assert [len(frame) for frame in got] == [0, 0]


def test_a_shard_without_videos_reads_back(tmp_path: Path) -> None:
    with GroundWriter(tmp_path / "g.parquet"):
        pass
    assert ground_videos(tmp_path / "g.parquet") == []


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), GroundWriter(tmp_path / "g.parquet") as writer:
        writer.write_video("v", ("a",), [_boxes(np.random.default_rng(0), 1, 1)])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_equal_texts_or_videos_are_refused(tmp_path: Path) -> None:
    with GroundWriter(tmp_path / "g.parquet") as writer:
        writer.write_video("v", ("a",), [])
        with pytest.raises(ValueError, match="twice"):
            writer.write_video("v", ("a",), [])
        with pytest.raises(ValueError, match="equal"):
            writer.write_video("w", ("a", "a"), [])


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    with GroundWriter(tmp_path / "g.parquet"):
        pass
    with pytest.raises(StoreError, match="no video v"):
        read_ground(tmp_path / "g.parquet", "v")


def test_quality_reads_back_and_merges(tmp_path: Path) -> None:
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet", tmp_path / "2.parquet"]
    write_quality(parts[0], (_quality(frame) for frame in range(3)))
    write_quality(parts[1], [])
    write_quality(parts[2], [replace(_quality(9), reason="no box", status=0)])
    assert merge_quality(parts, tmp_path / "quality.parquet") == 4
    rows = list(iter_quality(tmp_path / "quality.parquet"))
    assert [row.frame for row in rows] == [0, 1, 2, 9]
    assert math.isnan(rows[0].temporal_iou)
    assert replace(rows[0], temporal_iou=0) == replace(_quality(0), temporal_iou=0)
    assert rows[3].reason == "no box"


def test_another_file_is_refused(tmp_path: Path) -> None:
    write_quality(tmp_path / "q.parquet", [])
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(StoreError, match="expected augment"):
        read_augmentations(tmp_path / "q.parquet")
    with pytest.raises(StoreError, match="damaged, or no Parquet file"):
        read_augmentations(tmp_path / "text.parquet")
    with pytest.raises(StoreError, match="no such table"):
        read_augmentations(tmp_path / "none.parquet")


def test_a_byte_that_changed_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "g.parquet"
    boxes = _boxes(np.random.default_rng(0), 1, 400)
    with GroundWriter(path) as writer:
        writer.write_video("v", ("a",), [boxes])
    whole = path.read_bytes()
    places = range(100, len(whole), 173)
    noticed = 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        try:
            texts, [found] = read_ground(path, "v")
        except StoreError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            noticed += 1
        else:
            assert texts == ("a",)
            _assert_equal(found, boxes)
    assert noticed > 0.8 * len(places)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_quality(path, [_quality(0)])
    table = pq.read_table(path)
    metadata = {b"pseudolabels.table": b"quality", b"pseudolabels.version": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(StoreError, match="version 99"):
        list(iter_quality(path))


def test_small_tables_are_joined_into_row_groups_of_many_rows(tmp_path: Path) -> None:
    rows = [replace(_quality(frame), temporal_iou=0.5) for frame in range(2)]
    parts = []
    for number in range(5):
        parts.append(tmp_path / f"{number}.parquet")
        write_quality(parts[-1], rows)
    merge_quality(parts, tmp_path / "quality.parquet")
    assert pq.ParquetFile(tmp_path / "quality.parquet").num_row_groups == 1
    assert list(iter_quality(tmp_path / "quality.parquet")) == rows * 5
