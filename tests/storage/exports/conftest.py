"""Masks of a small video in the Ref-YouTube-VOS layout, and their quality."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.packed_masks import PackedMasks
from pipeline.types import FrameQuality, PseudoMask, SampleKey, Status
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.exports.source import ExportSource
from storage.tables import write_quality
from tests.storage.datasets import trees

U, P, A = Status.UNKNOWN, Status.PRESENT, Status.ABSENT


def pseudo_mask(expression: str, mask: np.ndarray, status: list[int], weight: float) -> PseudoMask:
    weights = np.array([weight if state else 0 for state in status], np.float32)
    key = SampleKey("refytvos", "train", "clip", expression)
    kept = PackedMasks.of(mask & (np.array(status) == P)[:, None, None])
    return PseudoMask(key, kept, weights, np.array(status, np.uint8), f"f{expression}")


def truth(number: int) -> np.ndarray:
    return np.stack([trees.object_mask(number, frame) for frame in range(3)])


def quality_of(items: list[PseudoMask]) -> list[FrameQuality]:
    return [
        FrameQuality(
            "clip", item.key.expression, frame, trees.FRAMES[frame], 0.5, 0.75, 0.25, 1.0,
            math.nan, 0.125, float(item.weight[frame]), int(item.status[frame]),
            "" if item.status[frame] else "no box",
        )
        for item in items
        for frame in range(3)
    ]  # fmt: skip


def make_source(folder: Path, items: list[PseudoMask], texts: list[str]) -> ExportSource:
    reader = open_dataset("refytvos", trees.refytvos(folder / "data"), "train")
    store = MaskStore(folder / "pseudomasks.zarr")
    store.write_video(reader.video("clip"), texts, items)
    write_quality(folder / "quality.parquet", quality_of(items))
    return ExportSource(store, reader, folder / "quality.parquet")


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    """Expression 0 is all known; 1 is unknown at first and absent at last."""
    items = [
        pseudo_mask("0", truth(1), [P, P, P], 0.9),
        pseudo_mask("1", truth(2), [U, P, A], 0.5),
    ]
    return make_source(tmp_path, items, ["a red box", "a blue box"])
