from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from storage.datasets.a2d import A2DSentences, read_instances, read_queries
from storage.datasets.video_files import ClipCache
from tests.storage.datasets import trees


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.a2d(tmp_path / "root")


def test_expressions_are_those_of_the_instances(root: Path) -> None:
    reader = open_dataset("a2d", root, "train")
    got = [(item.key.expression, item.text) for item in reader.expressions("clip")]
    assert got == [("0", "a red box, moving"), ("1", "blue box")]
    assert list(open_dataset("a2d", root, "test").video_ids()) == ["other"]


def test_the_real_text_has_its_published_count(real_data: Path) -> None:
    queries = read_queries(real_data / "text" / "a2d_annotation.txt")
    assert len(queries) == 6655 - 1
    assert len({(query.video, query.instance) for query in queries}) == len(queries)


def test_only_annotated_frames_have_truth(root: Path) -> None:
    (root / "text_annotations/a2d_annotation_with_instances/clip/00002.h5").unlink()
    reader = open_dataset("a2d", root, "train")
    assert isinstance(reader, A2DSentences)
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    assert video.frames == ("00001", "00002", "00003")
    assert [path.stem for path in reader.annotation_files(video.id)] == ["00001", "00003"]
    assert reader.truth(video, first, FrameIndex(1)) is None
    assert reader.boxes(video, first, FrameIndex(1)) is None


def test_missed_videos_are_left_out(root: Path) -> None:
    (root / "text_annotations/a2d_missed_videos.txt").write_text("clip\n")
    assert list(open_dataset("a2d", root, "train").video_ids()) == []


def test_a_single_mask_is_stored_without_its_first_axis(tmp_path: Path) -> None:
    mask = trees.object_mask(1, 0)
    trees.write_instances(tmp_path / "1.h5", [4], mask[None])
    with h5py.File(tmp_path / "1.h5") as file:
        assert file["reMask"].shape == (trees.WIDTH, trees.HEIGHT)
    assert np.array_equal(read_instances(tmp_path / "1.h5")[4], mask)


def test_of_an_instance_listed_twice_the_first_counts(tmp_path: Path) -> None:
    masks = np.stack([trees.object_mask(1, frame) for frame in range(3)])
    trees.write_instances(tmp_path / "1.h5", [0, 1, 1], masks)
    got = read_instances(tmp_path / "1.h5")
    assert set(got) == {0, 1}
    assert np.array_equal(got[1], masks[1])


def test_masks_past_the_instances_belong_to_none(tmp_path: Path) -> None:
    masks = np.stack([trees.object_mask(1, frame) for frame in range(3)])
    trees.write_instances(tmp_path / "1.h5", [7, 3], masks)
    got = read_instances(tmp_path / "1.h5")
    assert set(got) == {3, 7}
    assert np.array_equal(got[3], masks[1])


@pytest.mark.parametrize(
    ("instances", "masks", "words"),
    [([0, 1], np.ones((1, 4, 5)), "2 instances"), ([0], np.ones((1, 4, 5, 2)), "masks")],
)
def test_a_misshapen_annotation_is_refused(
    tmp_path: Path, instances: list[int], masks: np.ndarray, words: str
) -> None:
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["instance"], file["reMask"] = np.array(instances), masks
    with pytest.raises(InputError, match=words):
        read_instances(tmp_path / "1.h5")


@pytest.mark.parametrize("content", [b"", b"not HDF5"])
def test_a_broken_annotation_is_refused(root: Path, content: bytes) -> None:
    path = root / "text_annotations/a2d_annotation_with_instances/clip/00001.h5"
    path.write_bytes(content)
    reader = open_dataset("a2d", root, "train")
    with pytest.raises(InputError, match=r"00001\.h5: not readable"):
        reader.truth(reader.video("clip"), reader.expressions("clip")[0], FrameIndex(0))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text_annotations/a2d_annotation.txt", "a,b,c\n", "another header"),
        ("text_annotations/a2d_annotation.txt", "video_id,instance_id,query\nv,x,q\n", "row 2"),
        ("text_annotations/a2d_annotation.txt", "video_id,instance_id,query\nv\n", "row 2"),
        (
            "text_annotations/a2d_annotation.txt",
            f"video_id,instance_id,query\nv,{'1' * 5000},q\n",
            "row 2",
        ),
        ("Release/videoset.csv", "clip,11\n", "2 columns in row 1"),
    ],
)
def test_a_malformed_text_file_is_named(root: Path, name: str, content: str, words: str) -> None:
    (root / name).write_text(content)
    with pytest.raises(InputError, match=words):
        open_dataset("a2d", root, "train")


def test_an_unknown_split_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="train or test"):
        open_dataset("a2d", root, "valid")


def _left_edge(image: np.ndarray) -> int:
    """The first column of the red object."""
    red = image[5, :, 0].astype(int) - image[5, :, 2]
    return int(np.argmax(red > 70))


def test_clips_decode_by_index_in_any_order(tmp_path: Path) -> None:
    trees.write_clip(tmp_path / "c.mp4", frames=8)
    clips = ClipCache()
    assert clips.info(tmp_path / "c.mp4").frames == 8
    for index in [0, 1, 2, 7, 7, 3, 0, 5]:
        frame = clips.frame(tmp_path / "c.mp4", index)
        assert frame.shape == (trees.HEIGHT, trees.WIDTH, 3)
        assert abs(_left_edge(frame) - (1 + 3 * index)) <= 1, index


def test_a_clip_that_is_missing_broken_or_too_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ClipCache().info(tmp_path / "none.mp4")
    (tmp_path / "b.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match="not readable as a video"):
        ClipCache().info(tmp_path / "b.mp4")
    trees.write_clip(tmp_path / "c.mp4")
    with pytest.raises(InputError, match="so no frame 3"):
        ClipCache().frame(tmp_path / "c.mp4", 3)


def test_a_truncated_clip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.mp4"
    trees.write_clip(path, frames=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"c\.mp4"):
        ClipCache().frame(path, 29)


def test_the_cache_closes_what_is_old(tmp_path: Path) -> None:
    clips = ClipCache()
    paths = [tmp_path / f"{number}.mp4" for number in range(6)]
    for path in paths:
        trees.write_clip(path)
        clips.frame(path, 0)
    assert clips.frame(paths[0], 2).shape == (trees.HEIGHT, trees.WIDTH, 3)


INSTANCES = "text_annotations/a2d_annotation_with_instances/clip"


def test_annotations_that_cannot_be_listed_are_no_missing_truth(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_dataset("a2d", root, "train")
    assert isinstance(reader, A2DSentences)
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    with monkeypatch.context() as patch:
        trees.refuse(patch, root / INSTANCES, errno.EACCES)
        with pytest.raises(InputError, match=r"clip: not readable \(Permission denied"):
            reader.annotation_files(video.id)
        with pytest.raises(InputError, match=r"00001\.h5: not readable \(Permission denied"):
            reader.truth(video, first, FrameIndex(0))
    trees.a_file_instead(root / INSTANCES)
    with pytest.raises(InputError, match="clip: not a folder; expected the annotations of video"):
        reader.annotation_files(video.id)
    with pytest.raises(InputError, match="Not a directory"):
        reader.truth(video, first, FrameIndex(0))


def test_a_video_without_a_folder_of_annotations_has_no_truth(root: Path) -> None:
    shutil.rmtree(root / INSTANCES)
    reader = open_dataset("a2d", root, "train")
    assert isinstance(reader, A2DSentences)
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    assert reader.annotation_files(video.id) == []
    assert reader.truth(video, first, FrameIndex(0)) is None


def test_missed_videos_that_cannot_be_read_are_named(root: Path) -> None:
    (root / "text_annotations/a2d_missed_videos.txt").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match=r"a2d_missed_videos\.txt: not readable"):
        open_dataset("a2d", root, "train")


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.ETIMEDOUT, OSError), (errno.ESTALE, OSError), (errno.EIO, InputError)],
)
def test_an_error_that_may_pass_is_not_the_annotations_fault(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    def stalled(path: Path, mode: str) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(h5py, "File", stalled)
    with pytest.raises(raised):
        read_instances(root / INSTANCES / "00001.h5")


@pytest.mark.parametrize("name", ["__KkKB4wzrY", "-lead", "_dash-id"])
def test_published_ids_are_kept(tmp_path: Path, name: str) -> None:
    reader = open_dataset("a2d", trees.a2d(tmp_path, name), "train")
    assert list(reader.video_ids()) == [name]
    video, first = reader.video(name), reader.expressions(name)[0]
    assert video.id == first.key.video == name
    assert np.array_equal(reader.truth(video, first, FrameIndex(0)), trees.object_mask(1, 0))


def test_suffixes_may_be_in_upper_case(root: Path) -> None:
    for path in [*root.rglob("*.mp4"), *root.rglob("*.h5")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    reader = open_dataset("a2d", root, "train")
    assert isinstance(reader, A2DSentences)
    video, first = reader.video("clip"), reader.expressions("clip")[0]
    assert np.array_equal(reader.truth(video, first, FrameIndex(0)), trees.object_mask(1, 0))
    assert len(reader.annotation_files(video.id)) == 3


def test_what_macos_leaves_is_no_annotation(root: Path) -> None:
    folder = root / "text_annotations/a2d_annotation_with_instances/clip"
    (folder / "._00001.h5").write_bytes(b"\0\5\x16\7")
    reader = open_dataset("a2d", root, "train")
    assert isinstance(reader, A2DSentences)
    files = reader.annotation_files("clip")
    assert [path.name for path in files] == ["00001.h5", "00002.h5", "00003.h5"]


@pytest.mark.parametrize(
    "name",
    [
        "Release/clips320H/clip.mp4",
        "Release/videoset.csv",
        "text_annotations/a2d_annotation.txt",
        "text_annotations/a2d_annotation_with_instances/clip/00001.h5",
    ],
)
def test_links_are_followed_unless_they_must_stay_inside(
    root: Path, tmp_path: Path, name: str
) -> None:
    shutil.move(root / name, tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")

    def read(links: Links) -> None:
        reader = open_dataset("a2d", root, "train", links)
        video, first = reader.video("clip"), reader.expressions("clip")[0]
        reader.frame(video, FrameIndex(0))
        assert reader.truth(video, first, FrameIndex(0)) is not None

    read("follow")
    with pytest.raises(InputError, match="leads out of the data set"):
        read("inside")


def _secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(bytes(range(1, 7)) * 8)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("huge", "reMask has 1000000 x 1000000 values"),
        ("external", "reMask lies in another file"),
        ("external link", "reMask is a link"),
        ("soft link", "reMask is a link"),
        ("text", "reMask is no array of numbers"),
        ("group", "reMask is no array of numbers"),
        ("pipe", "a named pipe"),
    ],
)
def test_an_annotation_is_refused_before_it_is_read(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "1.h5"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        with h5py.File(path, "w") as file:
            file["instance"] = np.array([0.0])
            if kind == "huge":
                file.create_dataset("reMask", (10**6, 10**6), "u1", chunks=(1000, 1000))
            elif kind == "external":
                places = [(str(_secret(tmp_path)), 0, 48)]
                file.create_dataset("reMask", (6, 8), "u1", external=places)
            elif kind == "external link":
                with h5py.File(tmp_path / "other.h5", "w") as other:
                    other["reMask"] = np.ones((6, 8), np.uint8)
                file["reMask"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "reMask")
            elif kind == "soft link":
                file["reMask"] = h5py.SoftLink("/reMask")
            elif kind == "group":
                file.create_group("reMask")
            else:
                file["reMask"] = "a text"
    with pytest.raises(InputError, match=words) as caught:
        read_instances(path)
    assert caught.value.path == str(path)


def test_rows_that_repeat_another_are_one(root: Path) -> None:
    path = root / "text_annotations/a2d_annotation.txt"
    path.write_text(path.read_text() + 'clip,0,"a red  box, moving"\nclip,0,"a red box, moving"\n')
    found = open_dataset("a2d", root, "train").expressions("clip")
    assert [item.key.expression for item in found] == ["0", "1"]


def test_two_sentences_of_one_instance_are_named(root: Path) -> None:
    path = root / "text_annotations/a2d_annotation.txt"
    path.write_text(path.read_text() + "clip,00,a red thing\n")
    with pytest.raises(InputError, match="row 6 gives instance 00 of clip another sentence"):
        open_dataset("a2d", root, "train")
