"""Measures the demo models on videos of ``shapes`` that they were not trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from segment_anything.modeling import Sam

from pipeline.config import AugmentConfig, GroundConfig
from pipeline.geometry import box_iou, mask_iou, masks_to_boxes
from pipeline.ports import CaptionRequest, Tracker
from pipeline.shapes.language import KINDS, sentences, view
from pipeline.shapes.render import render
from pipeline.shapes.scene import (
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    sample_hard_scene,
    sample_scene,
)
from pipeline.types import Expression, SampleKey, VideoRef
from stages.augment.captioner import ModelCaptioner
from stages.common.mask_resolution import enlarge, low_resolution_size
from stages.demo.clips import LEAST_PIXELS
from stages.demo.lessons import draw_lessons
from stages.demo.phrases import visible_objects
from stages.demo.segment import draw_prompts, predict
from stages.ground.grounder import GroundingDinoGrounder

UNSEEN_SEED = 990_000
"""Seed of the videos that figures are taken on; training draws from others."""


def ground_figures(model: Any, frames: int = 300) -> dict[str, Any]:
    """Share of visible objects whose top-1 box exceeds IoU 0.5, by kind of sentence.

    One frame of each of ``frames`` new videos; an object is visible if it shows 24 pixels and a
    fifth of itself.
    """
    rng = np.random.default_rng(UNSEEN_SEED)
    grounder = GroundingDinoGrounder(model, GroundConfig(runner_ups=0))
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for _ in range(frames):
        image, asked = _sentences_of_a_frame(rng)
        if not asked:
            continue
        found = grounder.ground(grounder.embed([image]), [text for _, text, _ in asked])[0]
        for row, (kind, _, box) in enumerate(asked):
            best = found.xyxy[(found.text == row) & (found.rank == 0)]
            hits[kind].append(bool(len(best)) and bool(box_iou(best, box[None])[0, 0] > 0.5))
    return {
        "measure": "share of sentences about a visible object whose top-1 box has IoU > 0.5",
        "videos": frames,
        "by_kind": {kind: _share(values) for kind, values in hits.items()},
        "sentences": {kind: len(values) for kind, values in hits.items()},
    }


def segment_figures(sam: Sam, frames: int = 300) -> dict[str, Any]:
    """Mean mask IoU from the true box, and from one shaken by 7%."""
    sam.eval()
    result: dict[str, Any] = {"measure": "mean mask IoU of visible objects", "videos": frames}
    for name, shake in (("true_box", 0.0), ("shaken_box", 0.07)):
        rng = np.random.default_rng(UNSEEN_SEED)
        overlaps: list[float] = []
        with torch.inference_mode():
            for _ in range(frames):
                image, boxes, masks = draw_prompts(rng, shake)
                rows = torch.zeros(len(boxes), dtype=torch.long)
                device = sam.pixel_mean.device
                logits, _ = predict(
                    sam,
                    torch.from_numpy(image[None]).to(device),
                    torch.from_numpy(boxes).to(device),
                    rows.to(device),
                )
                overlaps += mask_iou(logits.cpu().numpy() > 0, masks).tolist()
        result[name] = round(float(np.mean(overlaps)), 4)
    return result


AFTER_FRAMES = (1, 8, 24)
"""Frames after the box for which the figures of the tracker are given."""


def track_figures(tracker: Tracker, videos: int = 40) -> dict[str, Any]:
    """Mean J some frames after the only box, the true one of the first frame.

    Half of the videos are of hard scenes. Of every object that is visible in the first frame, J is
    taken in those of the later frames in which it shows 24 pixels; an object that is not found
    counts as 0. An absent frame is one in which an object shows nothing.
    """
    rng = np.random.default_rng(UNSEEN_SEED)
    result: dict[str, Any] = {
        "measure": "mean J so many frames after the only box, the true one of the first frame",
        "videos": 2 * (videos // 2),
    }
    for name, draw in (("shapes", sample_scene), ("hard_shapes", sample_hard_scene)):
        overlaps: dict[int, list[float]] = {after: [] for after in AFTER_FRAMES}
        absent: list[bool] = []
        for _ in range(videos // 2):
            scene = draw(rng)
            while scene.frames <= max(AFTER_FRAMES):
                scene = draw(rng)
            _follow_scene(tracker, scene, overlaps, absent)
        result[name] = {
            "J": {str(after): round(float(np.mean(row)), 4) for after, row in overlaps.items()},
            "absent_frames_found": _share(absent),
            "absent_frames": len(absent),
        }
    return result


def _follow_scene(
    tracker: Tracker, scene: Scene, overlaps: dict[int, list[float]], absent: list[bool]
) -> None:
    """Adds what the tracker finds in the first frames of a scene."""
    drawn = [render(scene, frame) for frame in range(max(AFTER_FRAMES) + 1)]
    visible = sorted(visible_objects(drawn[0].masks.sum((1, 2)), drawn[0].whole))
    if not visible:
        return
    boxes = dict(zip(visible, masks_to_boxes(drawn[0].masks[visible]), strict=True))
    height, width = drawn[0].image.shape[:2]
    cells = low_resolution_size(height, width, 4 * max(height, width))
    images = (item.image for item in drawn)
    for frame, seen in enumerate(tracker.follow(images, {0: boxes}, cells)):
        logits = enlarge(torch.from_numpy(seen.logits).float(), height, width).numpy()
        found = (logits > 0) & (seen.visible > 0.5)[:, None, None]
        truth = drawn[frame].masks[seen.objects]
        pixels = truth.sum((1, 2))
        absent += (~found[pixels == 0].any(axis=(1, 2))).tolist()
        if frame in overlaps:
            shown = pixels >= LEAST_PIXELS
            overlaps[frame] += mask_iou(found[shown], truth[shown]).tolist()


def captioner_figures(
    captioner: ModelCaptioner, videos: int = 80, batch: int = 8
) -> dict[str, Any]:
    """Share of the positives that it keeps whose size, colour and shape, where said, are right."""
    rng = np.random.default_rng(UNSEEN_SEED)
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    kept = 0
    requests: list[CaptionRequest] = []
    truth: list[tuple[str, tuple[str, str, str]]] = []
    for number in range(videos):
        for row, lesson in enumerate(draw_lessons(rng)):
            key = SampleKey("shapes", "unseen", str(number), str(row))
            video = VideoRef(str(number), (), (), *lesson.images[0].shape[:2])
            expression = Expression(key, lesson.expression)
            requests.append(CaptionRequest(video, lesson.images, expression))
            truth.append((lesson.kind, lesson.names))
    for start in range(0, len(requests), batch):
        for offset, found in enumerate(captioner.augment(requests[start : start + batch])):
            kind, names = truth[start + offset]
            for positive in found.augmentation.positives[1:]:
                kept += 1
                right[kind].append(attributes_right(positive.text, names))
    return {
        "measure": "share of the positives kept whose size, colour and shape, where said, are"
        " right",
        "videos": videos,
        "minimum_similarity": default_captioner_config().minimum_similarity,
        "overall": _share([value for values in right.values() for value in values]),
        "by_kind_of_original": {kind: _share(values) for kind, values in right.items()},
        "positives_an_expression": round(kept / max(1, len(requests)), 2),
    }


def attributes_right(text: str, names: Sequence[str]) -> bool:
    """Whether no word of size, colour or shape in a sentence's subject is another's than the
    target's (size, colour, shape)."""
    subject = re.split(r" (?:to the )?(?:left|right) of | above | below | \w+er than ", text)[0]
    words = set(subject.split())
    groups = (set(SIZES), set(COLOURS), set(SHAPES))
    return all(words & group <= {name} for group, name in zip(groups, names, strict=True))


def default_captioner_config(batch: int = 8) -> AugmentConfig:
    """All that the demo captioner writes, five positives beside the original and eight negatives,
    of which those positives are kept that it is sure of, as ``configs/captioner.toml`` asks.
    """
    return AugmentConfig(
        source="model", batch_texts=batch, positives=6, negatives=8, minimum_similarity=0.98
    )


def _sentences_of_a_frame(rng: Generator) -> tuple[Any, list[tuple[str, str, Any]]]:
    """A frame and (kind, sentence, true box [4]) of its visible objects, true over the video."""
    scene = sample_scene(rng)
    moment = int(rng.integers(scene.frames))
    drawn = render(scene, moment)
    boxes = masks_to_boxes(drawn.masks)
    seen = view(scene)
    asked = []
    for target in sorted(visible_objects(drawn.masks.sum((1, 2)), drawn.whole)):
        if not seen.seen(target):
            continue
        for kind, said in sentences(seen, target, rng).items():
            if said:
                text = said[int(rng.integers(len(said)))].text
                asked.append((kind, text, boxes[target]))
    return drawn.image, asked


def _share(values: Sequence[bool]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
