from __future__ import annotations

import errno
import os
from pathlib import Path

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
def test_a_folder_that_cannot_be_listed_sets_its_video_aside(
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


def test_an_entry_that_may_not_be_looked_at_sets_its_video_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may be listed but not entered, where listing does not tell links from files."""

    class Entry:
        name = "00000.jpg"

        def is_symlink(self) -> bool:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.name)

    monkeypatch.setattr(os, "scandir", lambda path: iter([Entry()]))
    with pytest.raises(InputError, match="Permission denied"):
        video_from_folder("clip", tmp_path, [tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_rights_sets_its_video_aside(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    trees.write_frame(folder / "00000.jpg", 0)
    folder.chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            video_from_folder("clip", folder, [tmp_path])
    finally:
        folder.chmod(0o700)


def test_a_folder_of_links_in_a_circle_sets_its_video_aside(tmp_path: Path) -> None:
    (tmp_path / "clip").symlink_to(tmp_path / "again")
    (tmp_path / "again").symlink_to(tmp_path / "clip")
    with pytest.raises(InputError, match=r"in a circle|symbolic links"):
        video_from_folder("clip", tmp_path / "clip", [tmp_path])
