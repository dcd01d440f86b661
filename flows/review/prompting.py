"""Masks of what people click on, and where the run's tracker finds the same object.

Letters: H W pixels, h w cells of a low-resolution mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from flows.context import RunContext
from pipeline.drawn import Drawn
from pipeline.geometry import masks_to_boxes
from pipeline.ports import Image, Prompt
from pipeline.types import VideoRef

_HELD = 4
"""Frames whose embeddings are kept for further clicks."""

_SIDE = 1024
"""Pixels of the side of Segment Anything's input."""

VISIBLE = 0.5
"""An object is in a frame if the tracker is surer of it than this."""


@dataclass(frozen=True)
class Relative:
    """Clicks and a box in shares of the frame's width and height.

    Attributes:
        points: (x, y, whether the object is there).
        box: (x0, y0, x1, y1); None for none.
    """

    points: Sequence[tuple[float, float, bool]] = ()
    box: tuple[float, float, float, float] | None = None

    def in_pixels(self, size: tuple[int, int]) -> Prompt:
        """Returns it in the pixels of a frame of (H, W)."""
        height, width = size
        places = np.array([point[:2] for point in self.points], np.float32).reshape(-1, 2)
        # A click on the right edge is on the last pixel.
        places = (places * (width, height)).clip(0, (width - 0.5, height - 0.5))
        inside = np.array([point[2] for point in self.points], np.bool_)
        if self.box is None:
            return Prompt(places.astype(np.float32), inside)
        x0, y0, x1, y1 = self.box
        box = [min(x0, x1) * width, min(y0, y1) * height, max(x0, x1) * width, max(y0, y1) * height]
        return Prompt(places.astype(np.float32), inside, np.array(box, np.float32))


class Prompting:
    """Asks the run's segmenter and tracker. Models are loaded when they are first asked.

    Its methods may be called by several threads; one at a time computes.

    Args:
        context: of the run.
        frame: reads a frame.
    """

    def __init__(self, context: RunContext, frame: Callable[[VideoRef, int], Image]) -> None:
        self._context, self._frame, self._lock = context, frame, Lock()
        self._embeddings: LRUCache[tuple[str, int], Any] = LRUCache(_HELD)

    def mask(self, video: VideoRef, frame: int, prompt: Prompt) -> NDArray[np.bool_]:
        """Returns the mask [H, W] of what a prompt shows in a frame.

        Raises:
            ValueError: it shows nothing.
            PseudoLabelError: the model does not load, or the frame cannot be read.
        """
        with self._lock:
            segmenter, key = self._context.segmenter(), (video.id, frame)
            if key not in self._embeddings:
                self._embeddings[key] = segmenter.embed([self._frame(video, frame)])
            return segmenter.prompted(self._embeddings[key], prompt)

    def followed(
        self, video: VideoRef, drawn: Drawn, first: int, last: int, cells: tuple[int, int]
    ) -> list[Drawn]:
        """Returns the masks of the frames around a drawn one, by the run's tracker.

        The tracker starts from the mask's box. A frame in which it does not see the object gets an
        empty mask. Without ``track.source = "model"``, and for an empty mask, there are none.

        Args:
            first, last: frames to follow the object to, both included.
            cells: (h, w) of the tracker's masks.
        """
        mask = drawn.mask
        if self._context.config.track.source != "model" or not mask.any():
            return []
        box = masks_to_boxes(mask[None])[0]
        if min(cells) < 2:
            # The run found nothing in this video, whose store then has no cells.
            from stages.common.mask_resolution import low_resolution_size

            cells = low_resolution_size(video.height, video.width, _SIDE)
        with self._lock:
            # Only one model is held; the segmenter's embeddings go with it.
            self._embeddings.clear()
            found = []
            for step, end in ((-1, first), (1, last)):
                order = range(drawn.frame, end + step, step)
                found += list(self._pass(video, order, box, cells))[1:]
        return sorted(found, key=lambda item: item.frame)

    def _pass(
        self,
        video: VideoRef,
        order: Sequence[int],
        box: NDArray[np.float32],
        cells: tuple[int, int],
    ) -> Iterator[Drawn]:
        from stages.common.mask_resolution import mask_above

        frames = (self._frame(video, at) for at in order)
        seen = self._context.tracker().follow(frames, {0: {0: box}}, cells)
        for at, item in zip(order, seen, strict=True):
            mask = np.zeros((video.height, video.width), np.bool_)
            if len(item.visible) and item.visible[0] > VISIBLE:
                import torch

                logits = torch.from_numpy(item.logits[0]).float()
                mask = mask_above(logits, video.height, video.width, 0.0).numpy()
            yield Drawn.of(at, mask)
