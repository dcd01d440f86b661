from __future__ import annotations

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
