from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from storage.arrays.chosen_masks import ChosenMasks
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from tests.fakes.dataset import write_dataset
from tests.fakes.truth import store_truth


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    reader = open_dataset("refytvos", write_dataset(tmp_path / "data", 3), "train")
    store_truth(reader, tmp_path / "masks.zarr", 1.0)
    return MaskStore(tmp_path / "masks.zarr")


def test_the_chosen_samples_are_shown_and_no_others(store: MaskStore) -> None:
    chosen = ChosenMasks(
        store, [("clip00", "1"), ("clip02", "0"), ("clip02", "1"), ("clip09", "0")]
    )
    for masks in (chosen, pickle.loads(pickle.dumps(chosen))):
        assert masks.videos() == ["clip00", "clip02"]
        assert list(masks.samples()) == [("clip00", "1"), ("clip02", "0"), ("clip02", "1")]
        assert masks.texts("clip00") == ("the blue square moving left",)
        assert len(masks.fingerprints("clip00")) == 1
        assert [name in masks for name in ("clip00", "clip01", "clip09")] == [True, False, False]
        for mine, theirs in zip(masks.read("clip00", "1"), store.read("clip00", "1"), strict=True):
            assert np.array_equal(mine, theirs)


def test_a_video_none_of_whose_samples_is_there_is_not_shown(store: MaskStore) -> None:
    assert ChosenMasks(store, [("clip00", "7")]).videos() == []
