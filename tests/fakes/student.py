"""A student small enough for tests, and drawn videos with their truth in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.geometry import masks_to_boxes
from pipeline.shapes.render import render
from pipeline.shapes.scene import Scene, sample_scene
from pipeline.types import Expression, FrameIndex, SampleKey, Status, VideoRef
from stages.student.simrvos.model import SimRVOS

CHANNELS = 32


class TinyImages(nn.Module):
    """Maps at strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = (24, 40)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 24, 3, 2, 1), nn.ReLU()
        )
        self.deep = nn.Sequential(
            nn.Conv2d(24, 40, 3, 2, 1), nn.ReLU(), nn.Conv2d(40, 40, 3, 1, 1), nn.ReLU()
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.stem(images)
        return [fine, self.deep(fine)]


class TinyWords:
    """A fixed random vector a word."""

    channels = 16

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.asked.extend(texts)
        length = max(len(text.split()) for text in texts)
        words, usable = torch.zeros(len(texts), length, 16), torch.zeros(len(texts), length) > 0
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                seed = torch.Generator().manual_seed(sum(map(ord, word)))
                words[row, place] = torch.randn(16, generator=seed)
                usable[row, place] = True
        return words, usable


def tiny_model(seed: int = 0) -> SimRVOS:
    torch.manual_seed(seed)
    return SimRVOS(TinyImages(), TinyWords(), CHANNELS)


class Videos:
    """A reader and mask source in memory, over drawn scenes; one expression an object."""

    name, split, in_order = "shapes", "train", False

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = {f"v{number}": scene for number, scene in enumerate(scenes)}
        self.drawn = {
            video: [render(scene, time) for time in range(scene.frames)]
            for video, scene in self.scenes.items()
        }
        self.weights: dict[tuple[str, str], NDArray[np.float32]] = {
            (video, str(row)): np.ones(scene.frames, np.float32)
            for video, scene in self.scenes.items()
            for row in range(len(scene.objects))
        }

    def video_ids(self) -> list[str]:
        return sorted(self.scenes)

    def video(self, video_id: str) -> VideoRef:
        names = tuple(f"{time:05d}" for time in range(self.scenes[video_id].frames))
        height, width = self.drawn[video_id][0].image.shape[:2]
        return VideoRef(video_id, names, tuple(Path(name) for name in names), height, width)

    def expressions(self, video_id: str) -> list[Expression]:
        return [
            Expression(
                SampleKey("shapes", "train", video_id, str(row)), f"the {item.name} on the left"
            )
            for row, item in enumerate(self.scenes[video_id].objects)
        ]

    def frame(self, video: VideoRef, index: FrameIndex) -> NDArray[np.uint8]:
        return self.drawn[video.id][index].image

    def truth(self, video: VideoRef, expression: Expression, index: FrameIndex) -> Any:
        return self.drawn[video.id][index].masks[int(expression.key.expression)]

    def void(self, *_: object) -> None:
        return None

    def boxes(self, *_: object) -> None:
        return None

    def samples(self) -> Iterator[tuple[str, str]]:
        yield from sorted(self.weights)

    def read(self, video_id: str, expression_id: str, frames: Sequence[int]) -> Any:
        masks = [self.drawn[video_id][t].masks[int(expression_id)] for t in frames]
        weight = self.weights[video_id, expression_id][list(frames)]
        status = np.where(weight > 0, Status.PRESENT, Status.UNKNOWN).astype(np.uint8)
        return np.stack(masks), weight, status

    def quality(self, video_id: str, expression_id: str) -> Any:
        weight = self.weights[video_id, expression_id]
        return weight, np.where(weight > 0, Status.PRESENT, Status.UNKNOWN).astype(np.uint8)


def two_scenes() -> list[Scene]:
    """Two short videos of different objects."""
    found = []
    for number in range(400):
        scene = sample_scene(np.random.default_rng((31, number)))
        if scene.frames <= 12 and len(scene.objects) == 2:
            found.append(scene)
    return found[:2]


class Partly(Videos):
    """Masks in some frames, boxes in some, and nothing of the others."""

    def __init__(self, scenes: Sequence[Scene], masks: set[int], boxes: set[int]) -> None:
        super().__init__(scenes)
        self._masks, self._boxes = masks, boxes

    def truth(self, video: VideoRef, expression: Expression, index: FrameIndex) -> Any:
        return super().truth(video, expression, index) if index in self._masks else None

    def boxes(self, *asked: Any) -> Any:
        if asked[2] not in self._boxes:
            return None
        mask = super().truth(*asked)
        return masks_to_boxes(mask[None])[: int(mask.any())]
