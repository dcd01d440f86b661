from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from storage.datasets import open_dataset
from storage.datasets.parts import part_of
from tests.fakes.dataset import write_dataset
from tests.storage.datasets import trees


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", videos=12)


def opened(root: Path, split: str) -> DatasetReader:
    return open_dataset("refytvos", root, split)


@pytest.mark.parametrize("suffix", ["", "-5", "-5-7", "-11-3"])
def test_the_two_parts_make_up_the_split(root: Path, suffix: str) -> None:
    train = opened(root, f"train_train{suffix}").video_ids()
    measured = opened(root, f"train_val{suffix}").video_ids()
    assert sorted([*train, *measured]) == list(opened(root, "train").video_ids())
    assert len(measured) == int(suffix.split("-")[1] if suffix else 1)
    assert list(train) == sorted(train)


def test_the_seed_draws_the_part(root: Path) -> None:
    drawn = {opened(root, f"train_val-5-{seed}").video_ids() for seed in range(6)}
    assert len(drawn) > 1
    assert opened(root, "train_val-5").video_ids() == opened(root, "train_val-5-0").video_ids()


def test_a_part_is_a_split_of_its_own_name(root: Path) -> None:
    reader = opened(root, "train_val-2")
    assert reader.split == "train_val-2"
    video_id = reader.video_ids()[0]
    assert reader.expressions(video_id)[0].key.split == "train_val-2"
    assert len(reader.video(video_id)) == 5
    assert reader.sources(video_id).truth[0] == root / "train/Annotations" / video_id


@pytest.mark.parametrize("split", ["train_val-0", "train_train-12", "train_val-999"])
def test_a_part_without_videos_is_refused(root: Path, split: str) -> None:
    with pytest.raises(InputError, match=r"of 12 videos for train_val; expected a number from 1"):
        opened(root, split)


def test_one_video_has_no_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of 1 videos"):
        open_dataset("mevis", trees.mevis(tmp_path), "train_train")


@pytest.mark.parametrize("split", ["train", "valid_u", "train_vals", "train_val-", "valid_train"])
def test_other_names_are_splits_of_the_data_set(split: str) -> None:
    assert part_of(split) is None
