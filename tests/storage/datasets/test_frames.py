from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from storage.datasets import open_dataset
from storage.datasets.frames import video_from_folder
from tests.storage.datasets import trees

FOLDERS_FAULT = [
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EBADMSG,
    errno.EUCLEAN,
    errno.EIO,
]
MAY_PASS = [
    errno.EAGAIN,
    errno.EBUSY,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EINTR,
]
"""What ``flows/orchestration/labelling_flow.py`` tries again, where it is of an input."""


@pytest.mark.parametrize("number", FOLDERS_FAULT, ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_listed_skips_its_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for video in ("clip", "other"):
        trees.refytvos(tmp_path, video=video)
    entry = {"expressions": {"0": {"exp": "a box"}}, "frames": list(trees.FRAMES)}
    trees.write_index(tmp_path, "train", {"clip": entry, "other": entry})
    folder = tmp_path / "train" / "JPEGImages" / "clip"
    reader = open_dataset("refytvos", tmp_path, "train")
    trees.refuse(monkeypatch, folder, number)
    with pytest.raises(InputError) as caught:
        reader.video("clip")
    assert caught.value.path == str(folder)
    assert caught.value.found == f"not readable ({os.strerror(number)})"
    assert caught.value.expected == "the frames of video clip"
    assert "rights" in caught.value.remedy
    assert len(reader.video("other")) == 3


@pytest.mark.parametrize("number", [*MAY_PASS, errno.EMFILE], ids=errno.errorcode.get)
def test_an_error_that_may_pass_or_is_the_machines_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trees.write_frame(tmp_path / "clip" / "00000.jpg", 0)
    trees.refuse(monkeypatch, tmp_path / "clip", number)
    with pytest.raises(OSError) as caught:
        video_from_folder("clip", tmp_path / "clip", [tmp_path])
    assert caught.value.errno == number


@pytest.mark.parametrize("links", ["follow", "inside"])
def test_an_entry_that_may_not_be_looked_at_skips_its_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    """A folder that may be listed but not entered."""
    trees.write_frame(tmp_path / "clip" / "00000.jpg", 0)
    stat = Path.stat

    def looked_at(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "00000.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", looked_at)
    with pytest.raises(InputError, match="Permission denied"):
        video_from_folder("clip", tmp_path / "clip", [tmp_path] if links == "inside" else None)


def test_listed_frames_keep_the_order_of_the_list(tmp_path: Path) -> None:
    names = [f"frame_{number}" for number in (3, 12, 1, 2)]
    for name in names:
        trees.write_frame(tmp_path / f"{name}.jpg", 0)
    video = video_from_folder("clip", tmp_path, None, names)
    assert list(video.frames) == names
    assert [path.stem for path in video.paths] == names


def test_frames_that_nothing_lists_are_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 12, 100):
        trees.write_frame(tmp_path / f"frame_{number}.jpg", 0)
    (tmp_path / "._frame_1.jpg").write_bytes(b"of macOS")
    video = video_from_folder("clip", tmp_path, None)
    assert list(video.frames) == [f"frame_{number}" for number in (1, 2, 9, 10, 12, 100)]


def test_missing_frames_are_named_with_what_is_there(tmp_path: Path) -> None:
    trees.write_frame(tmp_path / "0.jpg", 0)
    with pytest.raises(
        InputError, match=r"2 of 2 listed are missing; what is there is such as 0.j"
    ):
        video_from_folder("clip", tmp_path, None, ["00000", "00001"])


def test_a_frame_name_that_is_no_text_names_the_file_that_lists_it(tmp_path: Path) -> None:
    trees.write_frame(tmp_path / "0.jpg", 0)
    names: list[Any] = [0]
    with pytest.raises(InputError, match="frame name '0' is a int, not text") as caught:
        video_from_folder("clip", tmp_path, None, names, tmp_path / "index.json")
    assert caught.value.path == str(tmp_path / "index.json")


def test_names_that_are_spelled_in_two_ways_are_the_same(tmp_path: Path) -> None:
    """macOS writes a letter and its accent as two characters."""
    composed, apart = "caf\u00e9_1", "cafe\u0301_1"
    for name, other in ((composed, apart), (apart, composed)):
        folder = tmp_path / str(len(name))
        trees.write_frame(folder / f"{other}.jpg", 0)
        video = video_from_folder("clip", folder, None, [name])
        assert video.frames == (name,)
        assert video.paths == (folder / f"{other}.jpg",)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_only_a_regular_file_is_opened_as_a_frame(tmp_path: Path, kind: str) -> None:
    """A named pipe would wait for a writer for ever."""
    trees.write_frame(tmp_path / "clip" / "00000.jpg", 0)
    place = tmp_path / "clip" / "00001.jpg"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(place))
    with pytest.raises(InputError, match=kind) as caught:
        video_from_folder("clip", tmp_path / "clip", None)
    assert caught.value.path == str(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_rights_skips_its_video(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    trees.write_frame(folder / "00000.jpg", 0)
    folder.chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            video_from_folder("clip", folder, [tmp_path])
    finally:
        folder.chmod(0o700)


def test_a_folder_of_links_in_a_circle_skips_its_video(tmp_path: Path) -> None:
    (tmp_path / "clip").symlink_to(tmp_path / "again")
    (tmp_path / "again").symlink_to(tmp_path / "clip")
    with pytest.raises(InputError, match=r"in a circle|symbolic links"):
        video_from_folder("clip", tmp_path / "clip", [tmp_path])
