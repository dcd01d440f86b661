from __future__ import annotations

import errno
import logging
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees


def test_masks_may_end_before_the_frames(tmp_path: Path) -> None:
    reader = open_dataset("jhmdb", trees.jhmdb(tmp_path, masks=2), "test")
    video, (sentence,) = reader.video("clip"), reader.expressions("clip")
    assert len(video) == 3
    known = [reader.truth(video, sentence, FrameIndex(index)) is not None for index in range(3)]
    assert known == [True, True, False]
    assert reader.boxes(video, sentence, FrameIndex(2)) is None


def test_a_single_mask_has_lost_its_last_axis(tmp_path: Path) -> None:
    trees.jhmdb(tmp_path)
    path = tmp_path / "puppet_mask/jump/clip/puppet_mask.mat"
    scipy.io.savemat(path, {"part_mask": trees.object_mask(1, 0).astype(np.uint8)})
    reader = open_dataset("jhmdb", tmp_path, "test")
    video, (sentence,) = reader.video("clip"), reader.expressions("clip")
    truth = reader.truth(video, sentence, FrameIndex(0))
    assert np.array_equal(truth, trees.object_mask(1, 0))
    assert reader.truth(video, sentence, FrameIndex(1)) is None


def test_a_video_without_masks_has_no_truth(tmp_path: Path) -> None:
    trees.jhmdb(tmp_path)
    (tmp_path / "puppet_mask/jump/clip/puppet_mask.mat").unlink()
    reader = open_dataset("jhmdb", tmp_path, "test")
    assert reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0)) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not MATLAB", "not readable"),
        ({"other": np.ones((24, 32, 3))}, "not readable"),
        ({"part_mask": np.ones((9, 9, 3))}, "9 x 9 pixels"),
        ({"part_mask": np.ones((24, 32, 3, 2))}, "part_mask"),
    ],
)
def test_a_broken_mask_file_is_named(tmp_path: Path, content: object, words: str) -> None:
    trees.jhmdb(tmp_path)
    path = tmp_path / "puppet_mask/jump/clip/puppet_mask.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    reader = open_dataset("jhmdb", tmp_path, "test")
    with pytest.raises(InputError, match=words):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


@pytest.mark.parametrize("size", [0, 20, 126, 200, -1])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_truncated_mask_file_is_named(tmp_path: Path, size: int, compressed: bool) -> None:
    reader, path = _rewritten(tmp_path, compressed)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"puppet_mask\.mat: not readable"):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


def test_a_damaged_compressed_mask_file_is_named(tmp_path: Path) -> None:
    """zlib's own error, which is no OSError and no ValueError."""
    reader, path = _rewritten(tmp_path, compressed=True)
    content = bytearray(path.read_bytes())
    content[150:170] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(zlib.error):
        scipy.io.loadmat(path)
    with pytest.raises(InputError, match=r"puppet_mask\.mat: not readable"):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


def _rewritten(root: Path, compressed: bool) -> tuple[DatasetReader, Path]:
    """The data set with its masks as MATLAB or SciPy saves them, and the masks' file."""
    trees.jhmdb(root)
    path = root / "puppet_mask/jump/clip/puppet_mask.mat"
    masks = scipy.io.loadmat(path)["part_mask"]
    scipy.io.savemat(path, {"part_mask": masks}, do_compression=compressed)
    return open_dataset("jhmdb", root, "test"), path


def test_a_sentence_without_frames_skips_its_video(tmp_path: Path) -> None:
    trees.jhmdb(tmp_path)
    with (tmp_path / "jhmdb_annotation.txt").open("a") as file:
        file.write("gone,a man\n")
    reader = open_dataset("jhmdb", tmp_path, "test")
    assert list(reader.video_ids()) == ["clip", "gone"]
    with pytest.raises(InputError, match="no such folder"):
        reader.video("gone")


def test_another_split_or_a_short_row_is_refused(tmp_path: Path) -> None:
    trees.jhmdb(tmp_path)
    with pytest.raises(InputError, match="the only one"):
        open_dataset("jhmdb", tmp_path, "train")
    (tmp_path / "jhmdb_annotation.txt").write_text("video_id,query\nclip\n")
    with pytest.raises(InputError, match="row 2"):
        open_dataset("jhmdb", tmp_path, "test")


def test_an_action_that_cannot_be_read_sets_its_videos_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trees.jhmdb(tmp_path)
    trees.write_frame(tmp_path / "Rename_Images/walk/other/00001.png", 0)
    with (tmp_path / "jhmdb_annotation.txt").open("a") as file:
        file.write("other,a man walking\n")
    closed = tmp_path / "Rename_Images/walk"
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        trees.refuse(patch, closed, errno.EACCES)
        reader = open_dataset("jhmdb", tmp_path, "test")
        assert f"{closed}: not readable (Permission denied)" in caplog.text
        assert list(reader.video_ids()) == ["clip", "other"]
        assert len(reader.video("clip")) == 3
        with pytest.raises(InputError, match="expected the videos of action walk") as caught:
            reader.video("other")
        assert caught.value.path == str(closed)
    assert len(reader.video("other")) == 1


def test_frames_that_are_no_folder_or_closed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trees.jhmdb(tmp_path) / "Rename_Images"
    with monkeypatch.context() as patch:
        trees.refuse(patch, folder, errno.EACCES)
        with pytest.raises(InputError, match=r"Rename_Images: not readable \(Permission denied"):
            open_dataset("jhmdb", tmp_path, "test")
    trees.a_file_instead(folder)
    with pytest.raises(InputError, match="Rename_Images: not a folder; expected frames by action"):
        open_dataset("jhmdb", tmp_path, "test")


def test_masks_in_a_closed_folder_are_no_missing_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_dataset("jhmdb", trees.jhmdb(tmp_path), "test")
    video, (sentence,) = reader.video("clip"), reader.expressions("clip")
    trees.refuse(monkeypatch, tmp_path / "puppet_mask/jump/clip", errno.EACCES)
    with pytest.raises(InputError, match=r"puppet_mask\.mat: not readable \(Permission denied"):
        reader.truth(video, sentence, FrameIndex(0))
