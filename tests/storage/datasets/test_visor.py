from __future__ import annotations

import errno
import json
import logging
import shutil
from pathlib import Path

import pytest

from pipeline.errors import InputError
from storage.datasets import open_dataset
from storage.datasets.visor import fill_polygons
from tests.storage.datasets import trees

SQUARE = [[1.0, 1.0], [8.0, 1.0], [8.0, 8.0], [1.0, 8.0]]
HOLE = [[3.0, 3.0], [6.0, 3.0], [6.0, 6.0], [3.0, 6.0]]
MAPPING = "frame_mapping.json"
ANNOTATIONS = "GroundTruth-SparseAnnotations/annotations/train/P01_01.json"


def test_a_polygon_inside_another_is_a_hole() -> None:
    mask = fill_polygons([SQUARE, HOLE], 10, 10)
    assert mask[2, 2]
    assert not mask[4:6, 4:6].any()
    assert mask.sum() < fill_polygons([SQUARE], 10, 10).sum()


@pytest.mark.parametrize("segments", [[], [[]], [[], []]])
def test_an_empty_polygon_paints_nothing(segments: list[object]) -> None:
    assert not fill_polygons(segments, 10, 10).any()


def test_an_empty_polygon_beside_another_changes_nothing() -> None:
    assert (fill_polygons([[], SQUARE], 10, 10) == fill_polygons([SQUARE], 10, 10)).all()


def test_expressions_join_object_and_narration(tmp_path: Path) -> None:
    reader = open_dataset("visor", trees.visor(tmp_path), "train")
    texts = [item.text for item in reader.expressions("clip")]
    assert texts == [
        f"{colour} box used in the action of open the box" for colour in ("blue", "red")
    ]


def test_a_narration_with_one_frame_is_no_video(tmp_path: Path) -> None:
    reader = open_dataset("visor", trees.visor(tmp_path), "train")
    assert list(reader.video_ids()) == ["clip"]


def test_an_object_in_one_frame_has_no_expression(tmp_path: Path) -> None:
    path = trees.visor(tmp_path) / ANNOTATIONS
    content = json.loads(path.read_text())
    content["video_annotations"][1]["annotations"][1]["segments"] = [[]]
    path.write_text(json.dumps(content))
    reader = open_dataset("visor", tmp_path, "train")
    assert [item.object_ids for item in reader.expressions("clip")] == [("red box",)]


@pytest.mark.parametrize(
    "segments", [["x"], [[[1, 2, 3]]], [[1, 2]], [[[1, "a"]]], [[[1, 2], [3]]], "x"]
)
def test_a_malformed_polygon_is_named(tmp_path: Path, segments: object) -> None:
    path = trees.visor(tmp_path) / ANNOTATIONS
    content = json.loads(path.read_text())
    content["video_annotations"][0]["annotations"][0]["segments"] = segments
    path.write_text(json.dumps(content))
    reader = open_dataset("visor", tmp_path, "train")
    with pytest.raises(InputError, match=r"P01_01\.json"):
        reader.expressions("clip")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("narration_id,video_id\n", "no column start_frame"),
        (
            "narration_id,video_id,start_frame,stop_frame,narration\na,P01_01,x,9,n\n",
            "row 2",
        ),
        ("narration_id,video_id,start_frame,stop_frame,narration\na,P01_01\n", "row 2"),
        (
            f"narration_id,video_id,start_frame,stop_frame,narration\na,P01_01,1,{'9' * 5000},n\n",
            "row 2",
        ),
    ],
)
def test_bad_narrations_are_named(tmp_path: Path, content: str | None, words: str) -> None:
    path = trees.visor(tmp_path) / "EPIC_100_train.csv"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=words):
        open_dataset("visor", tmp_path, "train")


@pytest.mark.parametrize("how", ["closed", "missing", "a file"])
def test_frames_that_cannot_be_listed_set_their_narrations_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    trees.visor(tmp_path / "more", "P01_02")
    trees.visor(tmp_path)
    sparse = "GroundTruth-SparseAnnotations"
    for part in ("annotations/train/P01_02.json", "rgb_frames/train/P01/P01_02"):
        shutil.move(tmp_path / "more" / sparse / part, tmp_path / sparse / part)
    mappings = [
        json.loads((place / MAPPING).read_text()) for place in (tmp_path, tmp_path / "more")
    ]
    (tmp_path / MAPPING).write_text(json.dumps(mappings[0] | mappings[1]))
    whole = open_dataset("visor", tmp_path, "train")
    with (tmp_path / "EPIC_100_train.csv").open("a") as file:
        file.write("second,P01,P01_02,90,190,open the door\none,P01,P01_02,130,150,look\n")
    folder = tmp_path / sparse / "rgb_frames/train/P01/P01_02"
    if how == "closed":
        trees.refuse(monkeypatch, folder, errno.EACCES)
    elif how == "missing":
        shutil.rmtree(folder)
    else:
        trees.a_file_instead(folder)
    with caplog.at_level(logging.WARNING):
        reader = open_dataset("visor", tmp_path, "train")
    assert str(folder) in caplog.text
    # As if the folder could be read, but for the narration with one frame.
    assert list(reader.video_ids()) == ["clip", "second"]
    assert all(item.text.endswith("open the door") for item in reader.expressions("second"))
    with pytest.raises(InputError) as caught:
        reader.video("second")
    assert caught.value.path == str(folder)
    assert reader.video("clip") == whole.video("clip")


def test_an_annotation_of_which_nothing_can_be_read_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trees.visor(tmp_path)
    (tmp_path / ANNOTATIONS).with_name("P09_01.json").write_bytes(b"\0\5\x16\7")
    # As macOS leaves it beside a file.
    (tmp_path / ANNOTATIONS).with_name("._P01_01.json").write_bytes(b"\0\5\x16\7")
    with caplog.at_level(logging.WARNING):
        assert list(open_dataset("visor", tmp_path, "train").video_ids()) == ["clip"]
    assert "P09_01.json: " in caplog.text
    assert "its narrations are left out" in caplog.text
    assert "._P01_01" not in caplog.text


def test_narrations_are_matched_by_the_numbers_of_epic_kitchens(tmp_path: Path) -> None:
    """VISOR numbers the same frames 7 higher, so that a span that ends at 183 has the frame that
    VISOR calls 187 in it, and one that begins at 185 does not."""
    trees.visor(tmp_path)
    with (tmp_path / "EPIC_100_train.csv").open("a") as file:
        file.write("early,P01,P01_01,95,183,open the lid\nlate,P01,P01_01,185,999,close it\n")
    reader = open_dataset("visor", tmp_path, "train")
    assert list(reader.video_ids()) == ["clip", "early"]
    names = [f"P01_01_frame_{number:010d}" for number in (107, 147, 187)]
    assert list(reader.video("early").frames) == names


def test_the_mapping_may_lie_beside_the_annotations(tmp_path: Path) -> None:
    trees.visor(tmp_path)
    shutil.move(tmp_path / MAPPING, tmp_path / "GroundTruth-SparseAnnotations" / MAPPING)
    assert list(open_dataset("visor", tmp_path, "train").video_ids()) == ["clip"]


def test_without_the_mapping_no_narration_is_matched(tmp_path: Path) -> None:
    trees.visor(tmp_path)
    (tmp_path / MAPPING).unlink()
    with pytest.raises(InputError, match=r"frame_mapping.json: no such file.*wrong frames"):
        open_dataset("visor", tmp_path, "train")


@pytest.mark.parametrize("value", [7, "frame", None])
def test_a_mapping_without_a_number_is_named(tmp_path: Path, value: object) -> None:
    trees.visor(tmp_path)
    (tmp_path / MAPPING).write_text(json.dumps({"P01_01": {"P01_01_frame_0000000107.jpg": value}}))
    with pytest.raises(InputError, match=r"frame_mapping.json: P01_01_frame_0000000107.jpg of P01"):
        open_dataset("visor", tmp_path, "train")


def test_frames_and_videos_that_the_mapping_lacks_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trees.visor(tmp_path)
    mapping = json.loads((tmp_path / MAPPING).read_text())
    del mapping["P01_01"]["P01_01_frame_0000000147.jpg"]
    (tmp_path / MAPPING).write_text(json.dumps(mapping))
    with caplog.at_level(logging.WARNING):
        video = open_dataset("visor", tmp_path, "train").video("clip")
    assert [name[-3:] for name in video.frames] == ["107", "187"]
    assert (
        "does not have 1 of the 3 frames of P01_01, such as P01_01_frame_0000000147" in caplog.text
    )
    (tmp_path / MAPPING).write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert not open_dataset("visor", tmp_path, "train").video_ids()
    assert "nothing of P01_01; its narrations are left out" in caplog.text


def test_annotations_that_cannot_be_listed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (trees.visor(tmp_path) / ANNOTATIONS).parent
    trees.refuse(monkeypatch, folder, errno.EACCES)
    with pytest.raises(InputError, match=r"train: not readable \(Permission denied"):
        open_dataset("visor", tmp_path, "train")
