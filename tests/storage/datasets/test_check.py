from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from storage.datasets import open_dataset
from storage.datasets.check import DatasetCheck, check_dataset
from storage.datasets.published import published_counts
from storage.datasets.statistics import dataset_statistics
from storage.files import images
from tests.storage.datasets import trees

opened: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if opened is not None and event in ("open", "os.scandir", "os.listdir"):
        opened.append(str(arguments[0]))


sys.addaudithook(_hook)


@contextmanager
def counted_opens() -> Iterator[list[str]]:
    """The files and folders that are opened in the block, by whatever way."""
    global opened
    opened = found = []
    try:
        yield found
    finally:
        opened = None


def check(name: str, root: Path, split: str = "train") -> DatasetCheck:
    return check_dataset(open_dataset(name, root, split))


def kinds(found: DatasetCheck) -> list[tuple[str, str]]:
    return [(item.kind, Path(item.path).name) for item in found.findings]


@pytest.mark.parametrize(
    ("name", "make", "split"),
    [
        ("refytvos", trees.refytvos, "train"),
        ("refdavis", trees.refdavis, "train"),
        ("a2d", trees.a2d, "train"),
        ("jhmdb", trees.jhmdb, "test"),
        ("mevis", trees.mevis, "train"),
        ("mevis_v2", trees.mevis_v2, "train"),
        ("revos", trees.revos, "train"),
        ("long_rvos", trees.long_rvos, "train"),
        ("refcoco", trees.refcoco, "train"),
        ("visor", trees.visor, "train"),
    ],
)
def test_a_sound_data_set_has_no_findings(tmp_path: Path, name, make, split) -> None:  # type: ignore[no-untyped-def]
    found = check(name, make(tmp_path), split)
    assert found.findings == []
    assert found.counts["videos"] == 1
    assert found.counts["frames"] in (1, 2, 3)
    assert found.counts["masks"] > 0


def test_expressions_without_a_target_are_counted(tmp_path: Path) -> None:
    found = check("mevis_v2", trees.mevis_v2(tmp_path / "v2"))
    assert found.counts["expressions without a target"] == 1
    assert "expressions without a target" not in check("mevis", trees.mevis(tmp_path / "v1")).counts


def test_every_missing_and_broken_file_is_named(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path)
    trees.refytvos(tmp_path / "more", video="late")
    (tmp_path / "more/train/JPEGImages/late").rename(root / "train/JPEGImages/late")
    (tmp_path / "more/train/Annotations/late").rename(root / "train/Annotations/late")
    index = root / "meta_expressions/train/meta_expressions.json"
    document = json.loads(index.read_text())
    document["videos"]["late"] = document["videos"]["clip"]
    document["videos"]["gone"] = document["videos"]["clip"]
    index.write_text(json.dumps(document))
    for name in trees.FRAMES[1:]:
        (root / f"train/JPEGImages/late/{name}.jpg").unlink()
    image = root / "train/JPEGImages/clip/00005.jpg"
    image.write_bytes(image.read_bytes()[:-60])
    (root / "train/Annotations/clip/00010.png").write_bytes(b"nonsense")
    found = check("refytvos", root)
    assert kinds(found) == [
        ("broken", "00005.jpg"),
        ("broken", "00010.png"),
        ("missing", "gone"),
        ("missing", "00005.jpg"),
        ("missing", "00010.jpg"),
    ]
    assert found.counts["videos"] == 3
    assert found.counts["frames"] == 3


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "refytvos")
    index = root / "meta_expressions/train/meta_expressions.json"
    document = json.loads(index.read_text())
    document["videos"]["clip"]["expressions"]["0"]["obj_id"] = "9"
    index.write_text(json.dumps(document))
    (odd,) = check("refytvos", root).findings
    assert (odd.kind, odd.path) == ("odd", "clip")
    short = check("jhmdb", trees.jhmdb(tmp_path / "jhmdb", masks=2), "test")
    assert "masks end after 2 of 3 frames" in short.findings[0].words
    a2d = trees.a2d(tmp_path / "a2d")
    folder = a2d / "text_annotations/a2d_annotation_with_instances/clip"
    masks = np.stack([trees.object_mask(1, 0), trees.object_mask(2, 0)])
    trees.write_instances(folder / "00001.h5", [0, 0], masks)
    trees.write_instances(folder / "00002.h5", [0], masks)
    found = check("a2d", a2d)
    assert [item.words.split(";")[0] for item in found.findings if "000" in item.path] == [
        "instance 0 is listed twice",
        "2 masks for 1 instances",
    ]
    assert (found.counts["rows of a2d_annotation.txt"], found.counts["rows dropped"]) == (4, 1)


def test_targets_are_counted_once_for_the_cost(tmp_path: Path) -> None:
    # Object 1 shows in three frames, object 2 in two; the third expression is of both.
    assert check("mevis", trees.mevis(tmp_path)).shown == [3, 2, 3]


def test_without_truth_every_frame_counts(tmp_path: Path) -> None:
    found = check("refytvos", trees.refytvos(tmp_path, "valid", masks=False), "valid")
    assert found.shown == [3, 3]
    assert found.findings == []


def test_published_counts() -> None:
    assert published_counts("refytvos", "valid", 202)["videos"] == 202
    assert published_counts("refytvos", "valid", 507)["expressions"] == 2096
    assert published_counts("shapes", "train", 3) == {}


def test_the_real_index_has_its_published_statistics(real_data: Path, tmp_path: Path) -> None:
    text = (real_data / "text" / "refytvos_valid_meta_expressions.json").read_text()
    index = tmp_path / "meta_expressions/valid/meta_expressions.json"
    index.parent.mkdir(parents=True)
    index.write_text(text)
    reader = open_dataset("refytvos", tmp_path, "valid")
    found = dataset_statistics(reader)
    assert (found.videos, found.expressions, len(found.types)) == (507, 2096, 1246)
    assert np.mean(found.words) == pytest.approx(10.0, abs=0.05)
    assert (min(found.words), max(found.words)) == (2, 25)
    assert (min(found.frames), max(found.frames), found.not_from_zero) == (4, 36, 73)
    assert [found.per_video[n] for n in (2, 4, 6, 8)] == [169, 164, 123, 24]
    assert found.starts["a"] / found.expressions == pytest.approx(0.84, abs=0.005)
    checked = check_dataset(reader)
    assert (checked.counts["videos"], checked.counts["expressions"]) == (507, 2096)
    assert checked.published == {"videos": 507, "expressions": 2096}


def test_the_real_rows_have_their_published_count(real_data: Path, tmp_path: Path) -> None:
    root = trees.a2d(tmp_path)
    text = (real_data / "text" / "a2d_annotation.txt").read_bytes()
    (root / "text_annotations/a2d_annotation.txt").write_bytes(text)
    reader = open_dataset("a2d", root, "train")
    assert reader.rows() == (6655, 1)  # type: ignore[attr-defined]


def test_opening_3500_videos_opens_the_index_alone(tmp_path: Path) -> None:
    names = [f"{5 * frame:05d}" for frame in range(27)]
    expressions = {str(n): {"exp": f"object number {n}", "obj_id": "1"} for n in range(4)}
    entry = {"expressions": expressions, "frames": names}
    trees.write_index(tmp_path, "train", {f"video{n:04d}": entry for n in range(3500)})
    (tmp_path / "train/JPEGImages").mkdir(parents=True)
    with counted_opens() as found:
        reader = open_dataset("refytvos", tmp_path, "train")
        assert len(reader.video_ids()) == 3500
        assert len(reader.expressions("video1234")) == 4
    mine = [path for path in found if path.startswith(str(tmp_path))]
    assert mine == [str(tmp_path / "meta_expressions/train/meta_expressions.json")]


def test_a_disk_that_stalls_does_not_end_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees.refytvos(tmp_path)
    stalling = {root / "train/JPEGImages/clip/00005.jpg", root / "train/Annotations/clip/00010.png"}
    opened = images.Image.open
    asked: list[Path] = []

    def stalled(file: IO[bytes]) -> object:
        path = Path(file.name)
        asked.append(path)
        # Headers are read once; the error of a read, unlike that of an open, names no file.
        if path in stalling and (path.suffix == ".png" or asked.count(path) > 1):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return opened(file)

    monkeypatch.setattr(images.Image, "open", stalled)
    found = check("refytvos", root)
    assert kinds(found) == [("broken", "00005.jpg"), ("broken", "clip, frame 00010")]
    assert f"{os.strerror(errno.ESTALE)}; this may pass" in found.findings[0].words
    assert found.counts["frames"] == 3


def test_a_folder_that_stalls_is_found_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees.jhmdb(tmp_path)
    reader = open_dataset("jhmdb", root, "test")
    folder = root / "Rename_Images/jump/clip"
    trees.refuse(monkeypatch, folder, errno.ESTALE)
    (finding,) = check_dataset(reader).findings
    assert (finding.kind, finding.path) == ("broken", str(folder))
    assert dataset_statistics(reader).unreadable == 1


def test_annotations_that_cannot_be_listed_are_found(tmp_path: Path) -> None:
    root = trees.a2d(tmp_path)
    trees.a_file_instead(root / "text_annotations/a2d_annotation_with_instances/clip")
    found = check("a2d", root)
    assert ("broken", "clip") in kinds(found)
    assert found.counts["frames"] == 3
