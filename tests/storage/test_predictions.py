from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from storage.predictions import PredictionTree
from tests.storage.datasets.trees import write_mask

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
FRAMES = ("00000", "00001")


def write(root: Path, top: str = "") -> Path:
    for frame in FRAMES:
        write_mask(root / top / "clip" / f"{frame}.png", IDS)
    return root


def packed(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(root))
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("top", ["", "Annotations", "Annotations/480p", "result/Annotations"])
def test_videos_are_found_under_any_top_folder(tmp_path: Path, top: str, zipped: bool) -> None:
    root = write(tmp_path / "out", top)
    tree = PredictionTree(packed(root) if zipped else root, ["clip"])
    ids, there = tree.clip(["clip"], FRAMES, (3, 4))
    assert np.array_equal(ids, np.stack([IDS, IDS]))
    assert there.all()
    assert len(tree.problems) == ("result" in top)


@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_missing_misplaced_or_broken_is_named(tmp_path: Path, zipped: bool) -> None:
    root = write(tmp_path / "out")
    write_mask(root / "clip" / "00009.png", IDS)
    write_mask(root / "clip" / "00002.png", IDS[:2])
    (root / "clip" / "00003.png").write_bytes(b"nonsense")
    write_mask(root / "stray" / "00000.png", IDS)
    tree = PredictionTree(packed(root) if zipped else root, ["clip", "none"])
    frames = (*FRAMES, "00002", "00003", "00004")
    ids, there = tree.clip(["clip"], frames, (3, 4))
    assert there.tolist() == [True, True, False, False, False]
    assert not ids[2:].any()
    tree.clip(["none"], frames, (3, 4))
    shown = "\n".join(tree.problems)
    for part in (
        "stray: not a video",
        "00009.png; left out",
        "clip/00002: a mask of 2 x 4",
        "clip/00003: not readable",
        "clip/00004: missing",
        "none: missing, all 5 frames",
    ):
        assert part in shown
    assert len(tree.problems) == 6


def test_a_broken_mask_is_not_missing_whatever_its_folder_is_called(tmp_path: Path) -> None:
    root = write(tmp_path / "not in the archive")
    (root / "clip" / "00000.png").write_bytes(b"nonsense")
    tree = PredictionTree(root, ["clip"])
    assert tree.mask(["clip", "00000"], (3, 4)) is None
    assert tree.mask(["clip", "00007"], (3, 4)) is None
    broken, missing = tree.problems
    assert broken.startswith("clip/00000: not readable as an image")
    assert missing == "clip/00007: missing"


def test_no_root_or_no_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        PredictionTree(tmp_path / "none", ["clip"])
    (tmp_path / "x.zip").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="zip"):
        PredictionTree(tmp_path / "x.zip", ["clip"])


@pytest.mark.parametrize("zipped", [False, True])
def test_files_under_other_names_are_told_of(tmp_path: Path, zipped: bool) -> None:
    for name in ("0.png", "1.png"):
        write_mask(tmp_path / "out/clip" / name, IDS)
    tree = PredictionTree(packed(tmp_path / "out") if zipped else tmp_path / "out", ["clip"])
    tree.clip(["clip"], FRAMES, (3, 4))
    assert tree.problems == [
        "clip: missing, all 2 frames: what is there (2) has other names, such as 0.png; expected"
        " such as 00000.png"
    ]


def test_suffixes_in_upper_case_are_told_of(tmp_path: Path) -> None:
    write(tmp_path / "out")
    for path in (tmp_path / "out/clip").iterdir():
        path.rename(path.with_suffix(".PNG"))
    tree = PredictionTree(tmp_path / "out", ["clip"])
    tree.clip(["clip"], FRAMES, (3, 4))
    assert "such as 00000.PNG" in tree.problems[0]


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_where_no_video_is_the_top_is_shown(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(separator.join(["a", "b", "c", "clip", "00000.png"]), b"x")
    (problem, *_) = PredictionTree(path, ["clip"]).problems
    top = "a" if separator == "/" else "a\\b\\c\\clip\\00000.png"
    assert problem.endswith(f"none of the 1 videos is there, such as clip; at the top is {top}")


@pytest.mark.parametrize("zipped", [False, True])
def test_letters_and_accents_may_be_apart(tmp_path: Path, zipped: bool) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for frame in FRAMES:
        write_mask(tmp_path / "out" / apart / composed / f"{frame}.png", IDS)
    root = packed(tmp_path / "out") if zipped else tmp_path / "out"
    tree = PredictionTree(root, [composed])
    _, there = tree.clip([composed, apart], FRAMES, (3, 4))
    assert there.all()
    assert tree.names(composed) == {composed}
    assert not tree.problems


@pytest.mark.parametrize("zipped", [False, True])
def test_what_a_system_left_is_no_prediction(tmp_path: Path, zipped: bool) -> None:
    root = write(tmp_path / "out")
    for name in ("clip/._00000.png", "__MACOSX/clip/._00000.png", "._clip.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\5\x16\7")
    tree = PredictionTree(packed(root) if zipped else root, ["clip"])
    assert tree.clip(["clip"], FRAMES, (3, 4))[1].all()
    assert not tree.problems


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    root = write(tmp_path / "out")
    (root / "clip/00001.png").unlink()
    os.mkfifo(root / "clip/00001.png")
    tree = PredictionTree(root, ["clip"])
    assert tree.clip(["clip"], FRAMES, (3, 4))[1].tolist() == [True, False]
    assert "a named pipe" in tree.problems[0]
