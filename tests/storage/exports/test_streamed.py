"""Masks that go out as they are made: what an error in the middle of a video leaves."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from storage.exports.streamed import MaskSink, open_sink
from storage.files.images import png_of, read_mask, read_scores

MASK = np.eye(4, 6, dtype=np.bool_)


def write(sink: MaskSink, video: str, frames: int, fails: bool = False) -> None:
    with sink.video(video) as add:
        for frame in range(frames):
            add("0", f"{frame:05d}", MASK if frame else np.zeros_like(MASK))
        if fails:
            raise InputError(video, "a broken frame", "a frame", "restore it")


def files_of(out: Path) -> dict[str, bytes]:
    if out.suffix == ".zip":
        with zipfile.ZipFile(out) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_video_counts_when_its_block_ends_without_an_error(tmp_path: Path, name: str) -> None:
    with open_sink(tmp_path / name, "refytvos") as sink:
        write(sink, "a", 2)
        with pytest.raises(InputError):
            write(sink, "b", 2, fails=True)
        write(sink, "c", 1)
    assert files_of(tmp_path / name) == {
        "Annotations/a/0/00000.png": png_of(np.zeros_like(MASK)),
        "Annotations/a/0/00001.png": png_of(MASK),
        "Annotations/c/0/00000.png": png_of(np.zeros_like(MASK)),
    }


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize("ids", [("..", "0", "f"), ("a", "../../x", "f"), ("a", "0", "/f")])
def test_a_name_that_climbs_out_is_refused(
    tmp_path: Path, name: str, ids: tuple[str, str, str]
) -> None:
    video, expression, frame = ids
    with open_sink(tmp_path / name, "mevis") as sink:  # noqa: SIM117
        with pytest.raises(InputError, match="plain name"), sink.video(video) as add:
            add(expression, frame, MASK)
    assert files_of(tmp_path / name) == {}


def test_scores_lie_beside_the_masks_and_a_video_has_both_or_neither(tmp_path: Path) -> None:
    mask = np.array([[True, False]])
    scores = np.array([[65535, 3]], np.uint16)
    with open_sink(tmp_path, "refytvos", scores=True) as sink:
        with pytest.raises(KeyboardInterrupt), sink.video("cut") as add:
            add("0", "00000", mask, scores)
            raise KeyboardInterrupt
        with sink.video("a") as add:
            add("0", "00000", mask, scores)
        assert (sink.has("a"), sink.has("cut")) == (True, False)
        shutil.rmtree(tmp_path / "Scores/a")
        assert not sink.has("a")
        with sink.video("a") as add:
            add("0", "00000", mask, scores)
    found = read_scores(tmp_path / "Scores/a/0/00000.png")
    assert found.tolist() == [[1, pytest.approx(3 / 65535)]]
    assert read_mask(tmp_path / "Annotations/a/0/00000.png").tolist() == [[255, 0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Annotations", "Scores"]
