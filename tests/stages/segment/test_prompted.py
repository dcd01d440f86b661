"""Masks by points and boxes: against segment-anything's predictor, and of the demo model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from pipeline.config import SegmentConfig
from pipeline.geometry import mask_iou, masks_to_boxes
from pipeline.ports import Prompt
from stages.demo.segment import draw_prompts
from stages.segment.prompted import decode_prompt
from stages.segment.segmenter import load_segmenter
from tests.stages.segment.test_segmenter import frames, segmenter


def prompt(*points: tuple[float, float, bool], box: Any = None) -> Prompt:
    places = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    corners = None if box is None else np.asarray(box, np.float32)
    return Prompt(places, np.array([point[2] for point in points], np.bool_), corners)


ONE = (40.0, 30.0, True)
PROMPTS = {
    "a point": prompt(ONE),
    "points": prompt(ONE, (90.0, 50.0, False), (20.0, 20.0, True)),
    "a box": prompt(box=[10, 12, 80, 60]),
    "a box and points": prompt((90.0, 50.0, False), box=[10, 12, 80, 60]),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_points_and_boxes_are_decoded_as_by_the_package(small_sam: Any, name: str) -> None:
    asked = PROMPTS[name]
    [image] = frames(1, 72, 128)
    predictor = SamPredictor(small_sam)
    predictor.set_image(image)
    masks, quality, _ = predictor.predict(
        point_coords=asked.points if len(asked.points) else None,
        point_labels=asked.inside.astype(int) if len(asked.points) else None,
        box=asked.box,
        multimask_output=name == "a point",
    )
    embedding, size = segmenter(small_sam).embed([image])
    with torch.inference_mode():
        found = decode_prompt(small_sam, embedding, size, asked)
    assert found.shape == (72, 128)
    assert mask_iou(found, masks[int(quality.argmax())]) > 0.97


def test_the_demo_model_finds_what_is_clicked_on() -> None:
    demo = load_segmenter(SegmentConfig(), torch.device("cpu"))
    rng, overlaps = np.random.default_rng(3), []
    for _ in range(6):
        image, _, masks = draw_prompts(rng, 0.0)
        truth = masks[masks.sum((1, 2)).argmax()]
        rows, columns = np.nonzero(truth)
        middle = len(rows) // 2
        click = (columns[middle] + 0.5, rows[middle] + 0.5, True)
        embedding = demo.embed([image])
        overlaps.append(float(mask_iou(demo.prompted(embedding, prompt(click)), truth)))
        # A point outside is left out, if a mask can be found without it.
        outside = demo.prompted(embedding, prompt(click, (0.5, 0.5, False)))
        assert not outside[0, 0]
        box = masks_to_boxes(truth[None])[0]
        assert mask_iou(demo.prompted(embedding, prompt(box=box)), truth) > 0.7
    assert np.median(overlaps) > 0.8


def test_a_prompt_that_shows_nothing_is_refused(small_sam: Any) -> None:
    embedding = segmenter(small_sam).embed(frames(1, 72, 128))
    for asked in (prompt(), prompt((1.0, 1.0, False))):
        with pytest.raises(ValueError, match="neither a box nor a point inside"):
            segmenter(small_sam).prompted(embedding, asked)
