"""The demo tracker's training follows objects as the model does at work, and changes all of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.geometry import masks_to_boxes
from pipeline.shapes.scene import HEIGHT, WIDTH
from stages.demo.clips import LEAST_PIXELS, draw_clip
from stages.demo.track import build_processor, build_tracker
from stages.demo.track_training import clip_loss, follow_clips, train_tracker
from stages.track.video_model import VideoModelTracker, to_cells

CPU = torch.device("cpu")
CELLS = (36, 64)


@pytest.fixture(scope="module")
def untrained() -> Any:
    """All objects are in all frames."""
    torch.manual_seed(0)
    model = build_tracker().eval()
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(5)
    return model


def test_training_follows_objects_as_the_model_itself_does(untrained: Any) -> None:
    rng = np.random.default_rng(3)
    clips = [draw_clip(rng, 4, 2, asked=(0, 2)) for _ in range(2)]
    processor = build_processor()
    with torch.inference_mode():
        seen = follow_clips(untrained, processor, clips, CPU)
    at_work = VideoModelTracker(untrained, processor, CPU)
    first = 0
    for clip in clips:
        prompts = {at: dict(enumerate(boxes)) for at, boxes in clip.boxes.items()}
        last = first + len(clip.masks)
        for mine, other in zip(seen, at_work.follow(clip.images, prompts, CELLS), strict=True):
            logits = to_cells(mine.logits[first:last], HEIGHT, WIDTH, CELLS).numpy()
            np.testing.assert_allclose(logits, other.logits, atol=0.02)
            np.testing.assert_allclose(
                mine.presence[first:last].sigmoid(), other.visible, atol=1e-3
            )
        first = last


@pytest.mark.parametrize("frames", [1, 5])
def test_objects_of_a_clip_are_visible_where_they_have_boxes(frames: int) -> None:
    asked = (0, frames - 1) if frames > 1 else (0,)
    for seed in range(8):
        clip = draw_clip(np.random.default_rng(seed), frames, 3, asked)
        assert clip.images.shape == (frames, HEIGHT, WIDTH, 3)
        assert 1 <= len(clip.masks) <= 3 and clip.masks.shape[1] == frames
        assert tuple(clip.boxes) == asked
        for at, boxes in clip.boxes.items():
            assert (clip.masks[:, at].sum((1, 2)) >= LEAST_PIXELS).all()
            extent = np.tile(np.ptp(boxes.reshape(-1, 2, 2), axis=1), 2)
            assert (abs(boxes - masks_to_boxes(clip.masks[:, at])) < 0.6 * extent).all()


def test_a_step_of_both_parts_changes_every_part_that_is_used(untrained: Any) -> None:
    model = copy.deepcopy(untrained)
    steps = {"frame_steps": 1, "clip_steps": 1, "long_clip_steps": 1}
    train_tracker(model, build_processor(), **steps, seed=0, device=CPU)
    before = untrained.state_dict()
    changed = {
        name.split(".")[0] for name, v in model.state_dict().items() if (v != before[name]).any()
    }
    assert changed >= {
        "vision_encoder",
        "prompt_encoder",
        "mask_decoder",
        "memory_attention",
        "memory_encoder",
        "object_pointer_proj",
    }


def test_a_frame_without_the_object_teaches_its_absence_alone(untrained: Any) -> None:
    clip = draw_clip(np.random.default_rng(1), 2, 1)
    clip.masks[:, 1] = False
    with torch.inference_mode():
        _, figures = clip_loss(untrained, build_processor(), [clip], CPU)
        clip.masks[:, 1, :4, :4] = True  # too few pixels to say anything
        _, unsaid = clip_loss(untrained, build_processor(), [clip], CPU)
    assert figures["masks"] == pytest.approx(unsaid["masks"])
    assert figures["presence"] > 10 * unsaid["presence"]
