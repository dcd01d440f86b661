"""Exports, read back by what others read them with."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.exports import exporter, hf, webdataset
from storage.exports.json_stream import JsonStream
from storage.exports.source import ExportSource
from storage.exports.yolo import outline
from tests.storage.datasets import trees


def masks_of(source: ExportSource) -> dict[str, np.ndarray]:
    return {name: source.store.read("clip", name)[0] for name in ("0", "1")}


def test_ytvis_reads_back(source: ExportSource, tmp_path: Path) -> None:
    report = exporter("ytvis")(source, tmp_path / "masks.json")
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


def test_coco_is_loaded_and_evaluated_by_pycocotools(
    source: ExportSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "instances.json"
    report = exporter("coco")(source, out)
    assert report.counts == {"videos": 1, "images": 3, "annotations": 4}
    coco = COCO(out)
    expected = masks_of(source)
    for item in coco.loadAnns(coco.getAnnIds()):
        image = coco.imgs[item["image_id"]]
        frame = trees.FRAMES.index(Path(image["file_name"]).stem)
        wanted = expected[item["expression_id"]][frame]
        assert np.array_equal(coco.annToMask(item).astype(bool), wanted)
        assert item["bbox"] == rle_codec.toBbox(item["segmentation"]).tolist()
        assert item["area"] == wanted.sum()
        assert item["expression"].startswith("a ") and item["weight"] in (0.9, 0.5)
    assert [image.get("unknown") for image in coco.dataset["images"]] == [["1"], None, None]
    results = [
        {name: item[name] for name in ("image_id", "category_id", "segmentation")} | {"score": 1}
        for item in coco.dataset["annotations"]
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    capsys.readouterr()


def test_yolos_polygons_fill_the_masks(source: ExportSource, tmp_path: Path) -> None:
    report = exporter("yolo")(source, tmp_path / "out")
    # In the first frame a sentence is unknown.
    assert report.counts == {"images": 2, "instances": 3, "videos": 1, "classes": 2}
    assert "1 frames were left out" in report.notes[0]
    names = (tmp_path / "out" / "data.yaml").read_text()
    assert '  0: "a red box"\n  1: "a blue box"\n' in names and "train: images/train" in names
    labels = tmp_path / "out" / "labels" / "train" / "clip"
    expected = masks_of(source)
    for path in sorted(labels.iterdir()):
        assert (tmp_path / "out/images/train/clip" / f"{path.stem}.jpg").is_file()
        for line in path.read_text().splitlines():
            number, *shares = line.split()
            points = np.array(shares, float).reshape(-1, 2) * (trees.WIDTH, trees.HEIGHT)
            filled = np.zeros((trees.HEIGHT, trees.WIDTH), np.uint8)
            cv2.fillPoly(filled, [np.floor(points).astype(np.int32)], 1)
            wanted = expected[number][trees.FRAMES.index(path.stem)]
            assert np.array_equal(filled.astype(bool), wanted)


def test_an_outline_joins_parts_and_fills_holes() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:15, 5:20] = mask[25:35, 40:55] = mask[2, 50] = True
    filled = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(filled, [outline(mask).astype(np.int32)], 1)
    assert (filled.astype(bool) & mask).sum() == mask.sum()
    # The lines between the parts are drawn, a pixel wide.
    assert (filled.astype(bool) & ~mask).sum() < 60
    mask[8:10, 8:10] = False
    assert np.array_equal(outline(mask), outline(mask | (filled > 0) & mask))
    assert outline(np.zeros((4, 4), np.bool_)).shape == (0, 2)
    assert len(outline(np.eye(3, dtype=np.bool_)[:1])) >= 3


def test_webdatasets_tars_hold_a_sample_a_frame(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "SHARD_BYTES", 1)
    report = exporter("webdataset")(source, tmp_path / "out")
    assert report.counts == {"videos": 1, "samples": 3, "shards": 3}
    expected = masks_of(source)
    seen = 0
    for shard in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(shard) as tar:
            files = {
                name.partition(".")[2]: content.read()
                for name in tar.getnames()
                if (content := tar.extractfile(name)) is not None
            }
        about = json.loads(files["json"])
        assert Image.open(io.BytesIO(files["jpg"])).size == (about["width"], about["height"])
        for target in about["targets"]:
            wanted = expected[target["expression"]][about["frame"]]
            assert (target["mask"] is None) == (not wanted.any())
            if target["mask"]:
                found = np.array(Image.open(io.BytesIO(files[target["mask"]])))
                assert np.array_equal(found > 0, wanted)
                seen += 1
    assert seen == 4


def test_hf_is_parquet_with_images_and_a_card(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf, "GROUP_BYTES", 1)
    monkeypatch.setattr(hf, "FILE_BYTES", 1)
    told = replace(
        source,
        warning="A warning.",
        models={"segment": "sam.pth"},
        metrics={"J&F": 87.23},
    )
    exporter("hf")(told, tmp_path / "out")
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [file.name for file in files] == [f"train-{n:05}.parquet" for n in range(3)]
    features = json.loads(pq.read_schema(files[0]).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == features["targets"]["feature"]["mask"] == {"_type": "Image"}
    expected = masks_of(source)
    for row in (row for file in files for row in pq.read_table(file).to_pylist()):
        assert row["image"]["bytes"] == (
            source.reader.video("clip").paths[row["frame"]].read_bytes()
        )
        for target in row["targets"]:
            wanted = expected[target["expression"]][row["frame"]]
            assert (target["mask"] is None) == (not wanted.any())
            if target["mask"]:
                found = np.array(Image.open(io.BytesIO(target["mask"]["bytes"])))
                assert np.array_equal(found > 0, wanted)
            assert target["stability"] == 0.25
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("**A warning.**", "- segment: `sam.pth`", "- J&F: 87.2 %", "| masks | 4 |"):
        assert part in card
    assert "path: data/train-*.parquet" in card and "mean weight of a mask | 0.800" in card


@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_hf(source: ExportSource, tmp_path: Path) -> None:
    """Where the library is installed."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    exporter("hf")(source, tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    row = loaded["train"][1]
    assert np.array_equal(np.array(row["targets"][1]["mask"]) > 0, masks_of(source)["1"][1])


def test_fiftyone_has_videos_and_detections_of_their_frames(
    source: ExportSource, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    exporter("fiftyone")(source, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["index"] == [{"data": "data/clip.mp4", "labels": "labels/clip.json"}]
    with av.open(str(folder / "data" / "clip.mp4")) as file:
        [stream] = file.streams
        assert (stream.codec_context.name, stream.frames) == ("h264", 3)
        assert (stream.width, stream.height) == (trees.WIDTH, trees.HEIGHT)
    labels = json.loads((folder / "labels" / "clip.json").read_text())["frames"]
    expected, seen = masks_of(source), 0
    for number, frame in labels.items():
        for item in frame["objects"]["objects"]:
            about = {entry["name"]: entry["value"] for entry in item["attrs"]["attrs"]}
            wanted = expected[about["expression"]][int(number) - 1]
            corner = item["bounding_box"]["top_left"]
            left, top = round(corner["x"] * trees.WIDTH), round(corner["y"] * trees.HEIGHT)
            part = np.load(io.BytesIO(zlib.decompress(b64decode(item["mask"]))))
            found = np.zeros_like(wanted)
            found[top : top + part.shape[0], left : left + part.shape[1]] = part
            assert np.array_equal(found, wanted)
            assert item["index"] == int(about["expression"]) + 1
            assert item["label"] == f"a {('red', 'blue')[item['index'] - 1]} box"
            assert item["confidence"] in (0.9, 0.5) and about["stability"] == 0.25
            assert "temporal_iou" not in about
            seen += 1
    assert seen == 4


@pytest.mark.filterwarnings("ignore")
def test_fiftyones_own_importer_reads_it(source: ExportSource, tmp_path: Path) -> None:
    """Where FiftyOne is installed; its importer needs no database."""
    importers = pytest.importorskip(
        "fiftyone.utils.data.importers", reason="FiftyOne is not installed"
    )
    exporter("fiftyone")(source, tmp_path / "out")
    importer = importers.FiftyOneVideoLabelsDatasetImporter(str(tmp_path / "out"))
    importer.setup()
    [(_, _, _, frames)] = importer
    found = [item for frame in frames.values() for item in frame["detections"].detections]
    assert len(found) == 4
    assert {(item.label, item.index) for item in found} == {("a red box", 1), ("a blue box", 2)}


def test_frames_of_clips_go_out_as_jpeg(tmp_path: Path) -> None:
    reader = open_dataset("a2d", trees.a2d(tmp_path / "data"), "train")
    video = reader.video(reader.video_ids()[0])
    store = MaskStore(tmp_path / "pseudomasks.zarr")
    store.write_video(video, [], [])
    exporter("yolo")(ExportSource(store, reader), tmp_path / "out")
    folder = tmp_path / "out" / "images" / "train" / video.id
    with Image.open(folder / "00001.jpg") as image:
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
