from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from tests.storage.datasets import trees


def test_ids_are_four_times_the_rank_and_the_annotation_set(tmp_path: Path) -> None:
    reader = open_dataset("refdavis", trees.refdavis(tmp_path), "train")
    got = {item.key.expression: item.text for item in reader.expressions("clip")}
    words = ("caf\u00e9", "moving", "caf\u00e9", "still")
    expected = [f"a {colour} {word} box" for colour in ("red", "blue") for word in words]
    assert got == {str(number): text for number, text in enumerate(expected)}


def test_objects_are_ranked_as_text(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path)
    path = root / "davis_text_annotations/Davis17_annot1.txt"
    path.write_text('clip 2 "two"\nclip 10 "ten"\nclip 1 "one"\n')
    expressions = open_dataset("refdavis", root, "train").expressions("clip")
    first_set = [item for item in expressions if int(item.key.expression) % 4 == 0]
    assert [item.text for item in first_set] == ["one", "ten", "two"]
    assert [item.object_ids for item in first_set] == [("1",), ("10",), ("2",)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("clasic-car", "classic-car"), ("dog-scale", "dogs-scale"), ("motor-bike", "motorbike")],
)
def test_misspelt_names_are_mended(tmp_path: Path, written: str, meant: str) -> None:
    root = trees.refdavis(tmp_path, video=meant)
    for path in (root / "davis_text_annotations").iterdir():
        path.write_bytes(path.read_bytes().replace(meant.encode(), written.encode()))
    reader = open_dataset("refdavis", root, "train")
    assert list(reader.video_ids()) == [meant]
    assert len(reader.video(meant)) == 3


def test_splits_without_image_sets(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path, video="blackswan")
    (root / "DAVIS/ImageSets/2017/train.txt").unlink()
    assert list(open_dataset("refdavis", root, "valid").video_ids()) == ["blackswan"]
    assert list(open_dataset("refdavis", root, "train").video_ids()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"clip one\n", "line 1 is 'clip one'"),
        (b'clip 1 "a"\n\n../x 1 "a"\n', "path separator"),
        (b'clip 1 "caf\xe9"\n', "not readable .*utf-8"),
        (None, "no such file"),
    ],
)
def test_a_bad_text_file_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = trees.refdavis(tmp_path) / "davis_text_annotations/Davis17_annot1.txt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        open_dataset("refdavis", tmp_path, "train")


def test_an_empty_sentence_skips_its_video(tmp_path: Path) -> None:
    path = trees.refdavis(tmp_path) / "davis_text_annotations/Davis17_annot2.txt"
    path.write_text('clip 1 " "\n')
    reader = open_dataset("refdavis", tmp_path, "train")
    with pytest.raises(InputError, match=r"annot2\.txt: object 1 of video clip is empty"):
        reader.expressions("clip")


def test_a_folder_of_neither_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        open_dataset("refdavis", tmp_path, "valid")


def test_four_real_sequences(real_data: Path) -> None:
    reader = open_dataset("refdavis", real_data / "ref-davis-dev", "valid")
    lengths = {video: len(reader.video(video)) for video in reader.video_ids()}
    assert lengths == {"blackswan": 50, "camel": 90, "car-shadow": 40, "dog": 60}
    video, (expression,) = reader.video("blackswan"), reader.expressions("blackswan")
    assert expression.text == "a black feathered swan"
    truth = reader.truth(video, expression, FrameIndex(0))
    assert truth is not None
    assert truth.shape == reader.frame(video, FrameIndex(0)).shape[:2] == (480, 854)
    assert truth.any()


def test_a_split_that_is_not_text_is_named(tmp_path: Path) -> None:
    trees.refdavis(tmp_path)
    (tmp_path / "DAVIS/ImageSets/2017/train.txt").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match=r"train\.txt: not readable"):
        open_dataset("refdavis", tmp_path, "train")


def test_what_lies_in_a_closed_folder_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.refdavis(tmp_path)
    with monkeypatch.context() as patch:
        trees.refuse(patch, tmp_path, errno.EACCES)
        with pytest.raises(InputError, match=r"davis_text_annotations: not readable"):
            open_dataset("refdavis", tmp_path, "train")
    trees.refuse(monkeypatch, tmp_path / "DAVIS", errno.EACCES)
    with pytest.raises(InputError, match=r"480p: not readable \(Permission denied"):
        open_dataset("refdavis", tmp_path, "train")


def test_byte_order_marks_are_no_part_of_texts_or_lists(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path)
    expected = [item.text for item in open_dataset("refdavis", root, "train").expressions("clip")]
    texts = sorted((root / "davis_text_annotations").iterdir())
    for path in (*texts, root / "DAVIS/ImageSets/2017/train.txt"):
        encoding = "latin-1" if "annot2" in path.name else "utf-8"
        path.write_bytes(path.read_bytes().decode(encoding).encode("utf-8-sig"))
    reader = open_dataset("refdavis", root, "train")
    assert list(reader.video_ids()) == ["clip"]
    assert [item.text for item in reader.expressions("clip")] == expected
