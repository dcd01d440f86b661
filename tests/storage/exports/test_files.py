"""COCO, Parquet, submissions and FiftyOne, read back by what others read them with."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO

from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.exports import exporter
from storage.exports.json_stream import JsonStream
from storage.exports.source import ExportSource
from tests.storage.datasets import trees


def masks_of(source: ExportSource) -> dict[str, np.ndarray]:
    return {name: source.store.read("clip", name)[0] for name in ("0", "1")}


def test_coco_reads_back(source: ExportSource, tmp_path: Path) -> None:
    report = exporter("coco")(source, tmp_path / "masks.json")
    document = json.loads((tmp_path / "masks.json").read_text())
    (video,) = document["videos"]
    assert (video["name"], video["length"]) == ("clip", 3)
    assert video["file_names"][1] == "clip/00005.jpg"
    expected = masks_of(source)
    assert report.counts == {"videos": 1, "samples": 2, "masks": 4}
    for item in document["annotations"]:
        assert item["video_id"] == video["id"]
        for frame, rle in enumerate(item["segmentations"]):
            wanted = expected[item["expression_id"]][frame]
            if rle is None:
                assert not wanted.any()
                assert item["areas"][frame] is item["bboxes"][frame] is None
                continue
            assert np.array_equal(rle_codec.decode(rle).astype(bool), wanted)
            assert rle_codec.toBbox(rle).tolist() == item["bboxes"][frame]
            assert rle_codec.area(rle) == item["areas"][frame]
    assert document["annotations"][1]["statuses"] == [0, 1, 2]
    assert document["annotations"][1]["weights"] == [0, 0.5, 0.5]
    assert document["annotations"][1]["expression"] == "a blue box"


def test_parquet_reads_back_with_its_quality(source: ExportSource, tmp_path: Path) -> None:
    exporter("parquet")(source, tmp_path / "masks.parquet")
    rows = pq.read_table(tmp_path / "masks.parquet").to_pylist()
    expected = masks_of(source)
    assert len(rows) == 6
    for row in rows:
        wanted = expected[row["expression"]][row["frame"]]
        if row["mask"] is None:
            assert not wanted.any()
        else:
            rle = {"size": [row["height"], row["width"]], "counts": row["mask"]}
            assert np.array_equal(rle_codec.decode(rle).astype(bool), wanted)
        assert row["area"] == wanted.sum()
        assert (row["box_score"], row["negative_margin"]) == (0.5, 0.125)
    unknown = rows[3]
    assert (unknown["status"], unknown["weight"], unknown["reason"]) == (0, 0, "no box")


def test_parquet_without_a_quality_table_has_nulls(source: ExportSource, tmp_path: Path) -> None:
    bare = ExportSource(source.store, source.reader)
    exporter("parquet")(bare, tmp_path / "masks.parquet")
    assert set(pq.read_table(tmp_path / "masks.parquet")["stability"].to_pylist()) == {None}


def test_submission_reads_back(source: ExportSource, tmp_path: Path) -> None:
    exporter("submission")(source, tmp_path / "out.zip")
    expected = masks_of(source)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert sorted(names) == sorted(
            f"Annotations/clip/{name}/{frame}.png" for name in "01" for frame in trees.FRAMES
        )
        for name in names:
            _, _, expression, file = name.split("/")
            with archive.open(name) as content, Image.open(content) as image:
                assert (image.mode, image.format) == ("L", "PNG")
                values = np.array(image)
            assert set(np.unique(values)) <= {0, 255}
            wanted = expected[expression][trees.FRAMES.index(file[:-4])]
            assert np.array_equal(values == 255, wanted)
    exporter("submission")(source, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "out.zip").read_bytes()


def test_a_mevis_submission_has_no_top_folder_and_every_sample(tmp_path: Path) -> None:
    reader = open_dataset("mevis", trees.mevis(tmp_path / "data"), "train")
    store = MaskStore(tmp_path / "pseudomasks.zarr")
    store.write_video(reader.video("clip"), [], [])
    report = exporter("submission")(ExportSource(store, reader), tmp_path / "out.zip")
    assert len(report.notes) == 3
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert "clip/2/00010.png" in archive.namelist()
        assert len(archive.namelist()) == 9


def fiftyone_folder(source: ExportSource, out: Path) -> Path:
    exporter("fiftyone")(source, out)
    return out


def test_fiftyones_folder_reads_back(source: ExportSource, tmp_path: Path) -> None:
    folder = fiftyone_folder(source, tmp_path / "out")
    coco = COCO(folder / "labels.json")
    expected = masks_of(source)
    seen = 0
    for image in coco.dataset["images"]:
        path = folder / "data" / image["file_name"]
        with Image.open(path) as opened:
            assert opened.size == (image["width"], image["height"])
        frame = trees.FRAMES.index(path.stem)
        shown = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        for item in shown:
            wanted = expected[item["expression"]][frame]
            assert np.array_equal(coco.annToMask(item).astype(bool), wanted)
            assert item["stability"] == 0.25
            assert "temporal_iou" not in item
            seen += 1
    assert seen == sum(mask.any() for masks in expected.values() for mask in masks)


@pytest.mark.filterwarnings("ignore")
def test_fiftyones_own_importer_reads_it(source: ExportSource, tmp_path: Path) -> None:
    """Where FiftyOne is installed; its importer needs no database."""
    coco = pytest.importorskip("fiftyone.utils.coco", reason="FiftyOne is not installed")
    importer = coco.COCODetectionDatasetImporter(
        dataset_dir=str(fiftyone_folder(source, tmp_path / "out")), label_types="segmentations"
    )
    importer.setup()
    expected = masks_of(source)
    seen = 0
    for path, _, labels in importer:
        frame = trees.FRAMES.index(Path(path).stem)
        for item in labels.detections if labels is not None else ():
            wanted = expected[item["expression"]][frame]
            x, y, width, height = item.bounding_box
            left, top = round(x * trees.WIDTH), round(y * trees.HEIGHT)
            got = np.zeros_like(wanted)
            rows, columns = item.mask.shape
            assert (rows, columns) == (
                round(height * trees.HEIGHT),
                round(width * trees.WIDTH),
            )
            got[top : top + rows, left : left + columns] = item.mask
            assert np.array_equal(got, wanted)
            assert (item["stability"], item["text"][0]) == (0.25, "a")
            seen += 1
    assert seen == 4


def test_frames_of_clips_go_out_as_jpeg(tmp_path: Path) -> None:
    reader = open_dataset("a2d", trees.a2d(tmp_path / "data"), "train")
    video = reader.video(reader.video_ids()[0])
    store = MaskStore(tmp_path / "pseudomasks.zarr")
    store.write_video(video, [], [])
    exporter("fiftyone")(ExportSource(store, reader), tmp_path / "out")
    with Image.open(tmp_path / "out" / "data" / video.id / "00001.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (video.width, video.height))


def test_a_stream_of_nothing_is_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("w") as file, JsonStream(file) as stream:
        stream.value("a", [1])
        stream.begin("b", "[")
        stream.end()
        stream.begin("c", "{")
        stream.item(1, key='"')
        stream.item(2, key="y")
        stream.end()
    assert json.loads(path.read_text()) == {"a": [1], "b": [], "c": {'"': 1, "y": 2}}
