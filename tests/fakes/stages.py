"""Small stand-ins for the stages: they find the squares of ``tests.fakes.dataset`` by colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.context import Parts
from pipeline.calibration import Calibration
from pipeline.config import RunConfig
from pipeline.packed_masks import PackedMasks
from pipeline.ports import Prompt
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    CandidateScores,
    FrameQuality,
    Hypotheses,
    PseudoMask,
    Status,
    Tracks,
    VideoRef,
)
from tests.fakes.dataset import COLOURS


def box_of(image: NDArray[np.uint8], colour: str) -> tuple[float, float, float, float] | None:
    rows, columns = np.nonzero(np.abs(image.astype(int) - COLOURS[colour]).sum(-1) < 90)
    if rows.size < 4:
        return None
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


class FakeGrounder:
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> object:
        return list(images)

    def ground(self, embedding: Any, texts: Sequence[str]) -> list[Boxes]:
        return [self._frame(image, texts) for image in embedding]

    def _frame(self, image: NDArray[np.uint8], texts: Sequence[str]) -> Boxes:
        found = []
        for row, text in enumerate(texts):
            colour = next((c for c in COLOURS if c in text), None)
            box = None if colour is None else box_of(image, colour)
            if box is not None:
                found.append((box, row))
        return Boxes(
            np.array([box for box, _ in found], np.float32).reshape(-1, 4),
            np.full(len(found), 0.8, np.float32),
            np.array([row for _, row in found], np.int32),
            np.zeros(len(found), np.int32),
        )


class FakeSegmenter:
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> object:
        return [image.shape[:2] for image in images]

    def decode(self, embedding: Any, boxes: Sequence[NDArray[np.float32]]) -> list[Candidates]:
        return [self._frame(size, asked) for size, asked in zip(embedding, boxes, strict=True)]

    def prompted(self, embedding: Any, prompt: Prompt) -> NDArray[np.bool_]:
        """The box, or a square of 12 x 12 pixels around the last point inside."""
        mask = np.zeros(embedding[0], np.bool_)
        if prompt.box is None:
            if not prompt.inside.any():
                raise ValueError("neither a box nor a point inside; expected one")
            x, y = prompt.points[prompt.inside][-1]
            corners = [x - 6, y - 6, x + 6, y + 6]
        else:
            corners = prompt.box.tolist()
        x0, y0, x1, y1 = (max(round(float(value)), 0) for value in corners)
        mask[y0:y1, x0:x1] = True
        for x, y in prompt.points[~prompt.inside].astype(int):
            mask[y, x] = False
        return mask

    def _frame(self, size: tuple[int, int], boxes: NDArray[np.float32]) -> Candidates:
        height, width = size
        logits = np.full((len(boxes), height // 2, width // 2), -4, np.float16)
        for row, (x0, y0, x1, y1) in enumerate(boxes / 2):
            logits[row, round(y0) : round(y1), round(x0) : round(x1)] = 4
        return Candidates(
            logits,
            np.full(len(boxes), 0.9, np.float32),
            np.full(len(boxes), 0.95, np.float32),
            np.arange(len(boxes), dtype=np.int32),
        )


def fake_track(
    sentences: int,
    boxes: Sequence[Boxes],
    candidates: Sequence[Candidates],
    config: RunConfig,
    cuts: Sequence[int],
) -> Tracks:
    """Every candidate is a track that has the number of its row."""
    return Tracks(tuple(np.arange(len(item), dtype=np.int32) for item in candidates))


def fake_fuse(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: RunConfig,
    ruling: object = None,
) -> Hypotheses:
    assert [len(item) for item in tracks.of_candidate] == [len(c.predicted_iou) for c in candidates]
    row = list(texts).index(augmentation.original)
    frames = len(boxes)
    candidate = np.full((frames, 1, 1), -1, np.int32)
    count = np.zeros(frames, np.int32)
    box = np.zeros((frames, 1, 4), np.float32)
    for t, (found, decoded) in enumerate(zip(boxes, candidates, strict=True)):
        best = np.flatnonzero(found.text == row)
        if best.size:
            count[t] = 1
            candidate[t, 0, 0] = decoded.box_row[best[0]]
            box[t, 0] = found.xyxy[best[0]]
    ones = np.where(count, 0.8, 0)[:, None].astype(np.float32)
    return Hypotheses(
        key=augmentation.key,
        candidate=candidate,
        share=(candidate >= 0).astype(np.float32),
        count=count,
        together=np.ones_like(count),
        box=box,
        score=ones,
        box_score=ones,
        agreement=ones,
        negative_margin=ones,
        predicted_iou=ones,
        stability=ones,
        status=np.where(count, Status.PRESENT, Status.ABSENT).astype(np.uint8),
        reason=tuple("" if n else "no box claims it" for n in count),
    )


def fake_rank(
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    video: VideoRef,
    config: RunConfig,
    fingerprint: str,
    calibration: Calibration | None,
    trust: float = 1.0,
) -> tuple[PseudoMask, list[FrameQuality]]:
    mask = np.zeros((len(candidates), video.height, video.width), np.bool_)
    for t, row in enumerate(hypotheses.candidate[:, 0, 0]):
        if row >= 0:
            low = candidates[t].logits[row] > 0
            mask[t] = low.repeat(video.height // low.shape[0], 0).repeat(
                video.width // low.shape[1], 1
            )
    status = hypotheses.status.copy()
    weight = np.where(status == Status.UNKNOWN, 0, 0.8).astype(np.float32)
    rows = [
        FrameQuality(
            video=hypotheses.key.video,
            expression=hypotheses.key.expression,
            frame=t,
            frame_name=video.frames[t],
            box_score=float(hypotheses.box_score[t, 0]),
            predicted_iou=float(hypotheses.predicted_iou[t, 0]),
            stability=float(hypotheses.stability[t, 0]),
            agreement=float(hypotheses.agreement[t, 0]),
            temporal_iou=0.7,
            negative_margin=float(hypotheses.negative_margin[t, 0]),
            weight=float(weight[t]),
            status=int(status[t]),
            reason=hypotheses.reason[t],
        )
        for t in range(len(status))
    ]
    return PseudoMask(hypotheses.key, PackedMasks.of(mask), weight, status, fingerprint), rows


@dataclass
class Loaded:
    """How often each model was loaded."""

    names: list[str] = field(default_factory=list)


def fake_parts(weights: Path, loaded: Loaded | None = None, **changes: Any) -> Parts:
    """Parts with the stand-ins; ``weights`` is a file whose digest stands for every checkpoint."""
    seen = loaded or Loaded()

    def grounder(config: RunConfig, device: Any) -> FakeGrounder:
        seen.names.append("ground")
        return FakeGrounder()

    def segmenter(config: RunConfig, device: Any) -> FakeSegmenter:
        seen.names.append("segment")
        return FakeSegmenter()

    values: dict[str, Any] = {
        "grounder": grounder,
        "segmenter": segmenter,
        "track": fake_track,
        "fuse": fake_fuse,
        "rank": fake_rank,
        "checkpoint_files": lambda checkpoint: [weights],
        "device": lambda name: None,
    }
    return Parts(**(values | changes))
