"""Your own videos: ids, parts, sampled frames, boxes, and what a mistake costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from storage.datasets.check import check_dataset
from storage.datasets.videos import Videos
from storage.files.names import is_safe_name
from tests.storage.datasets import trees
from tests.storage.datasets.test_video_clip import shade, write_video


def _table(root: Path, *rows: str, columns: str = "video,text") -> Path:
    (root / "expressions.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return root


def _reader(root: Path, **sampling: float) -> Videos:
    reader = open_dataset("videos", root, "train", sampling=sampling)
    assert isinstance(reader, Videos)
    return reader


def _shades(reader: Videos, video_id: str) -> list[int]:
    video = reader.video(video_id)
    return [shade(reader.frame(video, FrameIndex(index))) for index in range(len(video))]


def test_ids_are_paths_that_stay_apart(tmp_path: Path) -> None:
    names = ["dog.MP4", "dog.mov", "in/side/cat.avi", "in--side--cat.avi", "a:b.gif", "é" * 70]
    reader = _reader(_table(tmp_path, *(f"{name},a pet" for name in names)))
    ids = reader.video_ids()
    assert len(set(ids)) == len(names)
    assert all(is_safe_name(name) for name in ids)
    plain = _reader(_table(tmp_path, "in/side/cat.avi,a pet", "./dog.MP4,a", "dog.MP4,b"))
    assert plain.video_ids() == ("dog", "in--side--cat")
    assert [item.text for item in plain.expressions("dog")] == ["a", "b"]


def test_a_name_without_suffix_finds_the_one_file(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.MP4")
    reader = _reader(_table(tmp_path, "dog,a dog", "dog.MP4,a pet"))
    assert reader.video_ids() == ("dog",)
    assert len(reader.video("dog")) == 12
    write_video(tmp_path / "dog.mov", codec="mpeg4")
    reader = _reader(_table(tmp_path, "dog,a dog", "dog.mov,a pet"))
    with pytest.raises(InputError, match=r"row 2: .* can be dog\.MP4 or dog\.mov; .*suffix"):
        [reader.expressions(name) for name in reader.video_ids()]


def test_each_part_of_a_video_is_a_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.mp4")
    columns = "video,text,start,end"
    rows = ["dog,a,0.3,0.6", "dog,b,0.3,0.6", "dog,c,,", "dog,d,1,"]
    reader = _reader(_table(tmp_path, *rows, columns=columns))
    assert reader.video_ids() == ("dog", "dog@0.3-0.6", "dog@1-end")
    assert _shades(reader, "dog@0.3-0.6") == [3, 4, 5]
    assert reader.video("dog@0.3-0.6").frames == ("00003", "00004", "00005")
    assert [item.text for item in reader.expressions("dog@0.3-0.6")] == ["a", "b"]
    assert _shades(reader, "dog@1-end") == [10, 11]
    assert np.allclose(reader.video("dog@1-end").times, [0, 0.1])


def test_a_part_of_a_folder_counts_its_frames(tmp_path: Path) -> None:
    trees.videos(tmp_path, folder=True)
    _table(tmp_path, "clip,a,1,3", columns="video,text,start,end")
    video = _reader(tmp_path).video("clip@1-3")
    assert video.frames == trees.FRAMES[1:]
    assert video.times == ()


@pytest.mark.parametrize(
    ("rate", "milliseconds", "expected"),
    [
        (5, None, [0, 2, 4, 6, 8, 10]),
        (4, None, [0, 2, 5, 7, 10]),
        (1000, None, list(range(12))),
        (10, [0, 40, 80, 500, 900], [0, 2, 3, 4]),
    ],
)
def test_sampled_frames_are_those_that_a_player_shows(
    tmp_path: Path, rate: float, milliseconds: list[int] | None, expected: list[int]
) -> None:
    write_video(tmp_path / "dog.mp4", milliseconds=milliseconds)
    reader = _reader(_table(tmp_path, "dog,a dog"), frames_per_second=rate)
    assert _shades(reader, "dog") == expected


def test_a_turned_video_is_scaled_upright(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "dog.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_rotation(90)
        image = np.full((32, 64, 3), 20, np.uint8)
        image[:16, 48:] = 220
        file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    reader = _reader(_table(tmp_path, "dog,a dog"), max_size=32)
    video = reader.video("dog")
    assert (video.height, video.width) == (32, 16)
    frame = reader.frame(video, FrameIndex(0))
    assert frame.shape == (32, 16, 3)
    # Counter-clockwise, the upper right corner becomes the upper left one.
    assert frame[3, 3].min() > 150
    assert frame[28, 3].max() < 80


@pytest.mark.parametrize("folder", [False, True])
def test_frames_and_boxes_are_scaled_together(tmp_path: Path, folder: bool) -> None:
    trees.videos(tmp_path, folder)
    whole, reader = _reader(tmp_path), _reader(tmp_path, max_size=16)
    video = reader.video("clip")
    assert (video.height, video.width) == (12, 16)
    assert reader.frame(video, FrameIndex(0)).shape == (12, 16, 3)
    [box] = [
        reader.boxes(video, item, FrameIndex(1))
        for item in reader.expressions("clip")
        if item.key.expression == "red"
    ]
    [full] = [
        whole.boxes(whole.video("clip"), item, FrameIndex(1))
        for item in whole.expressions("clip")
        if item.key.expression == "red"
    ]
    assert box is not None
    assert full is not None
    assert np.allclose(box, full / 2)


def test_a_frame_with_a_box_is_always_taken(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.mp4")
    columns = "video,expression_id,text,frame,box"
    rows = ["dog,a,a dog,5,1 1 9 9", "dog,a,a dog,7,2 1 9 9"]
    reader = _reader(_table(tmp_path, *rows, columns=columns), frames_per_second=1)
    video = reader.video("dog")
    assert video.frames == ("00000", "00005", "00007", "00010")
    [item] = reader.expressions("dog")
    boxes = [reader.boxes(video, item, FrameIndex(index)) for index in range(4)]
    assert [None if box is None else box.tolist() for box in boxes] == [
        None,
        [[1, 1, 9, 9]],
        [[2, 1, 9, 9]],
        None,
    ]


WRONG: dict[str, tuple[str, str]] = {
    "an empty text": ("dog,,,,", "row 2: the text is empty"),
    "500 words": (f"dog,{'very ' * 499}big,,,,", "row 2: the text has 500 words"),
    "no such video": ("cat.mp4,a cat,,,,", "row 2 names the video 'cat.mp4', and"),
    "no video": ("notes.txt,a note,,,,", "a file with the suffix '.txt'"),
    "outside": ("../dog.mp4,a dog,,,,", "row 2: the video '../dog.mp4'"),
    "no frames": ("empty,a dog,,,,", "no frames of video empty"),
    "a part past the end": ("dog,a dog,,7,9", "row 2: no frame from start 7 to end 9"),
    "a bad number": ("dog,a dog,,x,", "row 2: start is 'x'"),
    "a bad id": ("dog,a dog,a/b,,", "expression_id of row 2, 'a/b' holds a path separator"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_mistake_costs_its_video_alone(tmp_path: Path, kind: str) -> None:
    row, found = WRONG[kind]
    write_video(tmp_path / "dog.mp4", frames=1)
    write_video(tmp_path / "good.mp4", frames=1)
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "empty").mkdir()
    columns = "video,text,expression_id,start,end"
    reader = _reader(_table(tmp_path, row, "good,a dog,,,", columns=columns))
    found_check = check_dataset(reader)
    [finding] = found_check.findings
    assert found in f"{finding.path}: {finding.words}"
    assert found_check.counts["frames"] >= 1
    assert len(reader.expressions("good")) == len(reader.video("good")) == 1


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (("dog,a,1", "dog,b,1"), "row 3: expression_id '1' of 'dog' is that of row 2 too"),
        (("dog,a,", "dog,b,0"), "row 3: expression_id '0'"),
    ],
)
def test_an_id_is_one_sentences(tmp_path: Path, rows: tuple[str, ...], found: str) -> None:
    reader = _reader(_table(tmp_path, *rows, columns="video,text,expression_id"))
    with pytest.raises(InputError, match=found):
        reader.expressions("dog")


@pytest.mark.parametrize(
    ("box", "found"),
    [("9,1 1 9 9", "row 2: frame '9', which is not"), ("0,90 1 99 9", "row 2: box outside frame")],
)
def test_a_box_lies_on_a_frame(tmp_path: Path, box: str, found: str) -> None:
    write_video(tmp_path / "dog.mp4", frames=1)
    reader = _reader(_table(tmp_path, f"dog,a dog,{box}", columns="video,text,frame,box"))

    def look() -> Any:
        video = reader.video("dog")
        return reader.boxes(video, reader.expressions("dog")[0], FrameIndex(0))

    with pytest.raises(InputError, match=found):
        look()


def test_two_tables_are_refused_and_so_is_another_split(tmp_path: Path) -> None:
    _table(tmp_path, "dog,a dog")
    with pytest.raises(InputError, match="split 'valid'; expected train, the only one"):
        open_dataset("videos", tmp_path, "valid")
    (tmp_path / "expressions.json").write_text("[]")
    with pytest.raises(InputError, match=r"expressions\.csv and expressions\.json"):
        _reader(tmp_path)
