"""The figures of a student against the ground truth, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from flows.papers.figures import METRICS, PARAMETERS, check_truth, figures_of
from pipeline.errors import ConfigError
from stages.student.contract import Student
from tests.fakes.student import Partly, Videos, two_scenes

CPU = torch.device("cpu")


class Drawn(Student):
    """Predicts the truth, without its left part."""

    def __init__(self, videos: Videos, cut: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1500))
        self._videos, self._cut = videos, cut

    def forward(self, *_: object) -> dict[str, Tensor]:
        raise AssertionError("it is not trained")

    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        found = []
        for image in images.numpy():
            [masks] = [
                frame.masks
                for frames in self._videos.drawn.values()
                for frame in frames
                if np.array_equal(frame.image, image)
            ]
            found.append(masks)
        logits = 20 * torch.from_numpy(np.stack(found, 1)).float() - 10
        logits[..., : self._cut] = -10
        return logits


def test_a_student_that_is_right_has_all() -> None:
    videos = Videos(two_scenes())
    figures = figures_of(Drawn(videos, 0), videos, CPU)
    assert figures.pop(PARAMETERS) == 0.0015
    assert set(figures) == set(METRICS)
    assert all(value == pytest.approx(100, abs=0.01) for value in figures.values())


def test_overlaps_are_over_annotated_frames_and_boxes_where_the_target_shows() -> None:
    cut, videos = 80, Videos(two_scenes())
    figures = figures_of(Drawn(videos, cut), videos, CPU)
    shared = joined = 0
    ious, boxes = [], []
    for video, frames in videos.drawn.items():
        for row in range(len(videos.expressions(video))):
            for frame in frames:
                truth = frame.masks[row]
                mask = truth.copy()
                mask[:, :cut] = False
                inter, union = (mask & truth).sum(), (mask | truth).sum()
                shared, joined = shared + inter, joined + union
                ious.append((inter + 1e-6) / (union + 1e-6))
                if truth.any():
                    columns = [np.flatnonzero(item.any(0)) for item in (mask, truth)]
                    rows = [np.flatnonzero(item.any(1)) for item in (mask, truth)]
                    if not mask.any():
                        boxes.append(0.0)
                        continue
                    inner, outer = (
                        (c[-1] - c[0] + 1) * (r[-1] - r[0] + 1)
                        for c, r in zip(columns, rows, strict=True)
                    )
                    boxes.append(inner / outer)
    assert figures["overall IoU"] == pytest.approx(100 * shared / joined)
    assert figures["mean IoU"] == pytest.approx(100 * np.mean(ious))
    assert figures["box IoU"] == pytest.approx(100 * np.mean(boxes))


def test_a_split_without_ground_truth_is_refused() -> None:
    bare = Partly(two_scenes(), set(), set())
    with pytest.raises(ConfigError, match=r"no frame has ground truth; .*--of"):
        check_truth(bare)
    check_truth(Videos(two_scenes()))
