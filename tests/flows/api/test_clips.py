"""Clips of a run for training loops."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import pseudolabels
from pipeline.errors import PseudoLabelError
from tests.fakes.dataset import FRAMES, HEIGHT, WIDTH


def test_a_clip(run_folder: Path) -> None:
    clip = pseudolabels.ClipDataset(run_folder, frames=FRAMES)[2]
    assert (clip.video, clip.expression, clip.text) == ("clip01", "0", "the red square")
    assert clip.frames.shape == (FRAMES, 3, HEIGHT, WIDTH)
    assert clip.frames.dtype == torch.uint8
    assert clip.positions.tolist() == list(range(FRAMES))
    assert clip.status.tolist() == [2, 1, 1, 1, 0]
    assert clip.weight.tolist() == [0.5, 0.5, 0.5, 0.5, 0]
    assert clip.masks.flatten(1).sum(1).tolist() == [0, 12, 12, 12, 0]
    red = clip.frames[0, :, 10, 6].tolist()
    assert red[0] > 180, "colour, row and column are in this order"


def test_frames_are_drawn_anew_in_every_epoch(run_folder: Path) -> None:
    clips = pseudolabels.ClipDataset(run_folder, frames=2, seed=3)
    drawn = set()
    for epoch in range(8):
        clips.set_epoch(epoch)
        first, second = clips[0].positions.tolist()
        assert 0 <= first < 2 <= second < FRAMES
        assert clips[0].positions.tolist() == clips[-4].positions.tolist()
        drawn.add((first, second))
    assert len(drawn) > 2


def test_a_short_video_is_filled_up_with_frames_that_teach_nothing(run_folder: Path) -> None:
    clip = pseudolabels.ClipDataset(run_folder, frames=FRAMES + 2)[0]
    assert clip.positions.tolist() == [0, 1, 2, 3, 4, 4, 4]
    assert clip.weight[FRAMES:].tolist() == [0, 0]
    assert clip.status[FRAMES:].tolist() == [0, 0]


def test_a_minimum_weight(run_folder: Path) -> None:
    with pytest.raises(PseudoLabelError, match=r"of known status and of weight 0\.6"):
        pseudolabels.ClipDataset(run_folder, minimum_weight=0.6)
    with pytest.raises(ValueError, match="frames=0"):
        pseudolabels.ClipDataset(run_folder, frames=0)


def test_a_batch_from_worker_processes(run_folder: Path) -> None:
    clips = pickle.loads(pickle.dumps(pseudolabels.ClipDataset(run_folder, frames=3)))
    loader = DataLoader(clips, batch_size=4, collate_fn=pseudolabels.collate_clips, num_workers=1)
    [batch] = loader
    assert batch.frames.shape == (4, 3, 3, HEIGHT, WIDTH)
    assert batch.texts[:2] == ("the red square", "the blue square moving left")
    assert batch.inside.all()


def test_clips_of_two_sizes_are_padded() -> None:
    def clip(height: int, width: int, frames: int = 2) -> pseudolabels.Clip:
        return pseudolabels.Clip(
            torch.full((frames, 3, height, width), 9, dtype=torch.uint8),
            torch.ones(frames, height, width, dtype=torch.bool),
            torch.ones(frames),
            torch.ones(frames, dtype=torch.uint8),
            "text",
            "video",
            "0",
            torch.arange(frames),
        )

    batch = pseudolabels.collate_clips([clip(4, 6), clip(5, 3)])
    assert batch.frames.shape == (2, 2, 3, 5, 6)
    assert batch.inside[0].sum() == 24
    assert batch.inside[1].sum() == 15
    assert (batch.frames[1, :, :, :, 3:] == 0).all()
    assert batch.masks[0].sum() == 2 * 24
    with pytest.raises(ValueError, match=r"clips of \[2, 3\] frames"):
        pseudolabels.collate_clips([clip(4, 6), clip(4, 6, 3)])
