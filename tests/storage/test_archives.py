"""Products written by released versions are still read (docs/format.md).

``archives/v<FORMAT_VERSION>`` is frozen: it is written once, when a version is released, by running
this file as a script with the folder, and never again.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.packed_masks import PackedMasks
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    FrameQuality,
    Hypotheses,
    Negative,
    Positive,
    Provenance,
    PseudoMask,
    Receipt,
    SampleKey,
    VideoRef,
)
from storage.arrays.candidates import CandidateWriter, read_candidates
from storage.arrays.hypotheses import HypothesisWriter, StoredHypotheses
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import (
    GroundWriter,
    iter_quality,
    read_augmentations,
    read_ground,
    write_augmentations,
    write_quality,
)

ARCHIVES = Path(__file__).parent / "archives"
KEY = SampleKey("shapes", "train", "clip", "0")
TEXTS = ("a red star", "a blue star")
MASK = np.arange(2 * 6 * 8).reshape(2, 6, 8) % 5 == 0
LOGITS = np.linspace(-4, 7.5, 2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
"""Whole steps of what is stored."""
MEMBERS = np.array([[[0, 1]], [[1, -1]]], np.int32)
QUALITY = FrameQuality("clip", "0", 1, "00005", 0.5, 0.75, 0.25, 1, math.inf, -0.5, 0.125, 1, "why")
AUGMENTATION = Augmentation(
    KEY,
    (Positive(TEXTS[0], 1.0),),
    (Negative(TEXTS[1], "attribute"),),
    Provenance("model", "revision", "1", 7),
)
RECEIPT = Receipt("fuse", "00000", "f", ("clip", "bad"), {"bad": "why"}, {"frames": 2.0}, 0.5)


def _halves(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def write_archive(folder: Path) -> None:
    write_augmentations(folder / "augment.parquet", [AUGMENTATION])
    rows = np.array([0, 1], np.int32)
    boxes = Boxes(np.array([[1, 2, 3, 4], [0, 0, 8, 6]], np.float32), _halves(2), rows, 0 * rows)
    none = Boxes(np.zeros((0, 4), np.float32), _halves(0), rows[:0], rows[:0])
    with GroundWriter(folder / "ground.parquet") as ground:
        ground.write_video("clip", TEXTS, [boxes, none])
    write_quality(folder / "quality.parquet", [QUALITY])
    with CandidateWriter(folder / "segment.zarr", "f") as segment:
        candidates = Candidates(LOGITS, _halves(2), _halves(2), np.array([1, 0], np.int32))
        segment.write_video("clip", [candidates])
    floats, box = [_halves(2, 1) for _ in range(6)], _halves(2, 1, 4)
    with HypothesisWriter(folder / "fuse.zarr", "f") as fuse:
        status = np.array([1, 0], np.uint8)
        fuse.write_video(
            "clip",
            [
                Hypotheses(
                    KEY,
                    MEMBERS,
                    _halves(2, 1, 2),
                    rows,
                    np.ones(2, np.int32),
                    box,
                    *floats,
                    status,
                    ("", "why"),
                )
            ],
        )
    video = VideoRef("clip", ("00000", "00005"), (Path("a"), Path("b")), 6, 8)
    mask = PseudoMask(KEY, PackedMasks.of(MASK), _halves(2), np.array([1, 2], np.uint8), "f")
    MaskStore(folder / "pseudomasks.zarr").write_video(video, [TEXTS[0]], [mask])
    Ledger(folder).commit(RECEIPT)


@pytest.mark.parametrize("folder", sorted(ARCHIVES.iterdir()), ids=lambda folder: folder.name)
def test_every_released_version_is_read(folder: Path) -> None:
    assert read_augmentations(folder / "augment.parquet") == {"clip": [AUGMENTATION]}
    texts, (first, second) = read_ground(folder / "ground.parquet", "clip")
    assert texts == TEXTS
    assert first.xyxy.tolist() == [[1, 2, 3, 4], [0, 0, 8, 6]]
    assert (first.text.tolist(), first.rank.tolist()) == ([0, 1], [0, 0])
    assert len(second) == 0
    assert list(iter_quality(folder / "quality.parquet")) == [QUALITY]
    (candidates,) = read_candidates(folder / "segment.zarr", "clip")
    assert np.array_equal(candidates.logits, LOGITS)
    assert candidates.box_row.tolist() == [1, 0]
    (hypotheses,) = StoredHypotheses(folder / "fuse.zarr", "clip")
    assert (hypotheses.key, hypotheses.reason) == (KEY, ("", "why"))
    assert np.array_equal(hypotheses.candidate, MEMBERS)
    assert hypotheses.share.tolist() == [[[0.5, 0.5]], [[0.5, 0.5]]]
    assert hypotheses.count.tolist() == [0, 1]
    store = MaskStore(folder / "pseudomasks.zarr")
    assert list(store.samples()) == [("clip", "0")]
    assert store.frames("clip") == ("00000", "00005")
    mask, weight, status = store.read("clip", "0")
    assert np.array_equal(mask, MASK)
    assert (weight.tolist(), status.tolist()) == ([0.5, 0.5], [1, 2])
    assert Ledger(folder).receipts("fuse") == [RECEIPT]


def test_what_is_written_today_is_read(tmp_path: Path) -> None:
    write_archive(tmp_path)
    test_every_released_version_is_read(tmp_path)


if __name__ == "__main__":
    write_archive(Path(sys.argv[1]))
