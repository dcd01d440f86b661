"""A folder of finished masks over the tiny data set, written without a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.planning.run_config import write_run_config
from flows.planning.run_paths import RunPaths
from pipeline.config import load_config
from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, Status
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from tests.fakes.dataset import write_dataset


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Two videos. In the first frame of each the target is absent, the last is unknown, and all
    others have a mask of the pixels [2:5, 3:7] with weight 0.5."""
    root = write_dataset(tmp_path / "data", 2)
    config = load_config(
        None, ["dataset.name=refytvos", f'dataset.root="{root}"', f'out="{tmp_path / "runs"}"']
    )
    paths = RunPaths(config.run_folder)
    paths.folder.mkdir(parents=True)
    write_run_config(paths.config, config)
    reader = open_dataset("refytvos", root, "train")
    store = MaskStore(paths.masks)
    for name in reader.video_ids():
        video = reader.video(name)
        expressions = reader.expressions(name)
        status = np.full(len(video), Status.PRESENT, np.uint8)
        status[0], status[-1] = Status.ABSENT, Status.UNKNOWN
        mask = np.zeros((len(video), video.height, video.width), np.bool_)
        mask[status == Status.PRESENT, 2:5, 3:7] = True
        weight = np.where(status == Status.UNKNOWN, 0, 0.5).astype(np.float32)
        masks = [
            PseudoMask(item.key, PackedMasks.of(mask), weight, status, "f") for item in expressions
        ]
        store.write_video(video, [item.text for item in expressions], masks)
    return paths.folder
