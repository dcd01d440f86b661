from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import StoreError
from pipeline.types import FrameIndex, FrameQuality
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.exports import exporter
from storage.exports.source import ExportReport, ExportSource, QualityByVideo
from storage.tables import merge_quality, write_quality
from tests.storage.datasets import trees
from tests.storage.exports.conftest import P, pseudo_mask, truth


def row(video: str, frame: int = 0) -> FrameQuality:
    return FrameQuality(video, "0", frame, "00000", 0, 0, 0, 0, math.nan, 0, 1, 1, "")


def test_quality_comes_video_by_video_and_may_lack_some(tmp_path: Path) -> None:
    write_quality(tmp_path / "q.parquet", [row("a"), row("a", 1), row("c"), row("d")])
    quality = QualityByVideo(tmp_path / "q.parquet")
    assert list(quality.of("a")) == [("0", 0), ("0", 1)]
    assert quality.of("b") == {}
    assert list(quality.of("d")) == [("0", 0)]
    assert quality.of("e") == {}


def test_no_table_has_no_rows(tmp_path: Path) -> None:
    assert QualityByVideo(None).of("a") == {}
    assert QualityByVideo(tmp_path / "none.parquet").of("a") == {}


@pytest.fixture
def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.tables._QUALITY_BATCH", 2)


@pytest.mark.usefixtures("small_row_groups")
def test_shards_come_in_any_order_and_videos_span_row_groups(tmp_path: Path) -> None:
    """As after ``--only-videos``, which may put the last video into the first shard."""
    frames = {"clip03": 3, "clip00": 5, "clip01": 1}
    rows = {video: [row(video, frame) for frame in range(frames[video])] for video in frames}
    parts = [tmp_path / f"{number:05d}.parquet" for number in range(3)]
    write_quality(parts[0], rows["clip03"])
    write_quality(parts[1], [])
    write_quality(parts[2], rows["clip00"] + rows["clip01"])
    merge_quality(parts, tmp_path / "q.parquet")
    with pq.ParquetFile(tmp_path / "q.parquet") as file:
        assert file.num_row_groups == 4
    for order in (sorted(frames), list(frames), sorted(frames, reverse=True)):
        quality = QualityByVideo(tmp_path / "q.parquet")
        for video in order:
            found = quality.of(video)
            assert list(found) == [("0", frame) for frame in range(frames[video])]
            assert {item.video for item in found.values()} == {video}
        assert quality.of("clip02") == {}


@pytest.mark.usefixtures("small_row_groups")
def test_one_row_group_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quality(tmp_path / "q.parquet", [row("b"), row("c"), row("a"), row("a", 1)])
    quality, groups = QualityByVideo(tmp_path / "q.parquet"), []
    read_row_group = pq.ParquetFile.read_row_group

    def spied(file: pq.ParquetFile, group: int, columns: list[str]) -> object:
        groups.append(group)
        return read_row_group(file, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spied)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    assert [len(quality.of(video)) for video in "abcd"] == [2, 1, 1, 0]
    assert groups == [1, 0]


def test_exports_have_every_videos_reason_whatever_the_shards(tmp_path: Path) -> None:
    names = ("clip00", "clip01", "clip03")
    for name in names:
        trees.refytvos(tmp_path / "data", video=name)
    entry = {"expressions": {"0": {"exp": "a box"}}, "frames": list(trees.FRAMES)}
    trees.write_index(tmp_path / "data", "train", dict.fromkeys(names, entry))
    reader = open_dataset("refytvos", tmp_path / "data", "train")
    store = MaskStore(tmp_path / "pseudomasks.zarr")
    for name in names:
        store.write_video(
            reader.video(name), ["a box"], [pseudo_mask("0", truth(1), [P, P, P], 1.0)]
        )
    order = ("clip03", "clip00", "clip01")
    write_quality(tmp_path / "q.parquet", [row(name, frame) for name in order for frame in (0, 1)])
    exporter("parquet")(
        ExportSource(store, reader, tmp_path / "q.parquet"), tmp_path / "out.parquet"
    )
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["video"].to_pylist() == [name for name in names for _ in range(3)]
    assert table["reason"].to_pylist() == ["", "", None] * 3


def test_a_video_in_two_places_is_refused(tmp_path: Path) -> None:
    write_quality(tmp_path / "q.parquet", [row("b"), row("a"), row("b", 1)])
    with pytest.raises(StoreError, match="video b again after a"):
        QualityByVideo(tmp_path / "q.parquet")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_quality(path, [row("a", frame) for frame in range(50)])
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(StoreError, match=r"q\.parquet: damaged, or no Parquet file"):
        QualityByVideo(path)
    # The footer is whole, the pages before it are not.
    path.write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(StoreError, match=r"q\.parquet: damaged"):
        QualityByVideo(path)


def test_a_table_damaged_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    write_quality(path, [row("a")])
    quality = QualityByVideo(path)
    path.unlink()
    with pytest.raises(StoreError, match=r"q\.parquet: no such table; .*run rank again"):
        quality.of("a")


def test_another_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="expected quality"):
        QualityByVideo(tmp_path / "other.parquet")


def test_a_report_adds_up() -> None:
    report = ExportReport()
    report.add("masks")
    report.add("masks", 2)
    assert report.counts == {"masks": 3}


@pytest.mark.parametrize("name", ["yolo", "ytvos"])
@pytest.mark.parametrize("kind", ["turned", "upright", "16 bits"])
def test_exported_frames_are_seen_alike_whether_or_not_a_tag_is_heeded(
    tmp_path: Path, name: str, kind: str
) -> None:
    root = trees.refytvos(tmp_path / "data")
    folder = root / "train/JPEGImages/clip"
    for path in sorted(folder.iterdir()):
        pixels = np.asarray(Image.open(path))
        if kind == "16 bits":
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path, format="PNG")
        else:
            exif = Image.Exif()
            exif[0x0112] = 6 if kind == "turned" else 1
            stored = np.rot90(pixels) if kind == "turned" else pixels
            Image.fromarray(stored).save(path, exif=exif, quality=95)
    reader = open_dataset("refytvos", root, "train")
    video, store = reader.video("clip"), MaskStore(tmp_path / "m.zarr")
    assert (video.height, video.width) == (trees.HEIGHT, trees.WIDTH)
    store.write_video(video, ["a red box"], [pseudo_mask("0", truth(1), [P, P, P], 0.9)])
    exporter(name)(ExportSource(store, reader), tmp_path / "out")
    frames = sorted((tmp_path / "out").rglob("*.jpg"))
    assert len(frames) == 3
    for index, path in enumerate(frames):
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.getexif().get(0x0112, 1) == 1
            seen = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(seen - reader.frame(video, FrameIndex(index))).mean() < 3
        same = path.read_bytes() == video.paths[index].read_bytes()
        assert same == (kind == "upright") and not path.samefile(video.paths[index])


@pytest.mark.parametrize("name", ["ytvos", "yolo", "cvat", "label-studio"])
def test_an_edit_of_an_exported_frame_leaves_the_data_set_alone(
    source: ExportSource, tmp_path: Path, name: str
) -> None:
    before = [path.read_bytes() for path in source.reader.video("clip").paths]
    exporter(name)(source, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.jpg"):
        with path.open("r+b") as file:
            file.write(b"edited")
    assert [path.read_bytes() for path in source.reader.video("clip").paths] == before
    exporter(name)(replace(source, link="symlink"), tmp_path / "linked")
    links = list((tmp_path / "linked").rglob("*.jpg"))
    assert links and all(path.is_symlink() and path.read_bytes() in before for path in links)


def test_a_warning_is_in_what_an_export_says_of_itself(
    source: ExportSource, tmp_path: Path
) -> None:
    warned = replace(source, warning="Made by demo models.")
    for name, file in (
        ("coco", ""),
        ("ytvis", ""),
        ("yolo", "data.yaml"),
        ("hf", "README.md"),
        ("fiftyone", "manifest.json"),
        ("label-studio", "tasks.json"),
        ("cvat", "clip/annotations.xml"),
    ):
        exporter(name)(warned, tmp_path / name)
        assert "Made by demo models." in (tmp_path / name / file).read_text(), name
