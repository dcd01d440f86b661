"""Augments clips for a student: mirrored, enlarged and cut, in other light.

One view is drawn per clip and applied to its frames, their supervision and its sentence. Letters: T
frames, H W pixels, n boxes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as light

from pipeline.config import ViewsConfig
from pipeline.ports import Image
from stages.student.data.supervision import (
    FrameSupervision,
    of_boxes,
    of_flow,
    of_mask,
    of_points,
)

_MIRRORED = {"left": "right", "right": "left"}
_SIDES = re.compile(
    r"\b(left|right)(?=(?:-?most|wards?|hand(?:ed)?|side)?\b)|\b((?:anti|counter)-?)?clockwise\b",
    re.IGNORECASE,
)
"""What changes in a mirror: the sides, alone or as the beginning of a word, and turns."""
_PLACE = re.compile(
    r"\b(?:on|at|in) the (?:\w+ )??(?:left|right|top|bottom|middle|cent(?:er|re)|corner|edge)\b"
    r"(?! of)"
    r"|\b(?:left|right)(?:[ -]hand)? (?:side|corner)\b"
    r"|\b(?:left|right|top|bottom)-?most\b|\b(?:upper|lower|lowest|highest)\b",
    re.IGNORECASE,
)
Pixel = TypeVar("Pixel", np.uint8, np.float32)

_GREY = (124, 116, 104)
"""What ImageNet's mean is in 8 bits."""


@dataclass(frozen=True)
class View:
    """One augmentation of a clip.

    Attributes:
        mirrored: whether left and right are swapped, before the rest.
        zoom: factor by which a frame is enlarged.
        corner: x and y, in pixels, of the point that becomes the upper left corner.
        brightness, contrast, saturation: factors; 1 changes nothing.
        hue: share of the circle that hues are turned by; 0 changes nothing.
    """

    mirrored: bool = False
    zoom: float = 1.0
    corner: tuple[float, float] = (0.0, 0.0)
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def of_image(self, image: Image) -> Image:
        """Returns the view of an image uint8 [H, W, 3], in the same shape."""
        if self.mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
        if self.zoom != 1:
            image = self._warp(image, cv2.INTER_LINEAR, _GREY)
        if (self.brightness, self.contrast, self.saturation, self.hue) == (1, 1, 1, 0):
            return image
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        tensor = light.adjust_brightness(tensor, self.brightness)
        tensor = light.adjust_contrast(tensor, self.contrast)
        tensor = light.adjust_saturation(tensor, self.saturation)
        if self.hue:  # the way to hues and back rounds
            tensor = light.adjust_hue(tensor, self.hue)
        return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())

    def of_supervision(self, known: FrameSupervision, size: tuple[int, int]) -> FrameSupervision:
        """Returns the supervision of the view of a frame. A target that is cut off is absent.

        Args:
            size: H and W.
        """
        height, width = size
        if self.mirrored:
            known = known.mirrored(width)
        if self.zoom == 1:
            return known
        if known.mask is not None:
            mask = self._warp(known.mask.view(np.uint8), cv2.INTER_NEAREST, 0)
            return of_mask(mask.view(np.bool_), known.weight)
        if known.boxes is not None:
            shift = np.array(self.corner * 2, np.float32)
            moved = (known.boxes - shift) * np.float32(self.zoom)
            inside = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
            seen = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
            return of_boxes(inside[seen])
        if known.points is not None:
            moved = (known.points - np.array(self.corner, np.float32)) * np.float32(self.zoom)
            return of_points(moved[((moved >= 0) & (moved < [width, height])).all(1)])
        if known.flow is not None:
            moved = self._warp(known.flow, cv2.INTER_LINEAR, (np.nan, np.nan))
            return of_flow(moved * np.float32(self.zoom))
        return known

    def of_text(self, text: str) -> str:
        """Returns the sentence for the same target in the view."""
        return mirror_sentence(text) if self.mirrored else text

    def uncut(self) -> View:
        """Returns the same view without zoom, so that places in the frame stay."""
        return replace(self, zoom=1.0, corner=(0.0, 0.0))

    def _warp(
        self, image: NDArray[Pixel], how: int, border: float | tuple[float, ...]
    ) -> NDArray[Pixel]:
        height, width = image.shape[:2]
        # In pixels' centres: a pixel's own edge is half a pixel before it.
        x, y = (0.5 * (self.zoom - 1) - self.zoom * corner for corner in self.corner)
        matrix = np.array([[self.zoom, 0, x], [0, self.zoom, y]], np.float64)
        found = cv2.warpAffine(
            image,
            matrix,
            (width, height),
            flags=how,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        )
        return np.asarray(found, image.dtype)


def draw_view(config: ViewsConfig, size: tuple[int, int], rng: Generator) -> View:
    """Draws a random view. The same random numbers are used whatever is switched on.

    Args:
        size: H and W of the frames.
    """
    flip, scale, x, y, *shades, turn = rng.random(8)
    low, high = config.zoom
    zoom = float(low * (high / low) ** scale)
    height, width = size
    brightness, contrast, saturation = (
        float(1 + amount * (2 * share - 1))
        for amount, share in zip(
            (config.brightness, config.contrast, config.saturation), shades, strict=True
        )
    )
    return View(
        mirrored=config.mirror and bool(flip < 0.5),
        zoom=zoom,
        corner=(float(x * width * (1 - 1 / zoom)), float(y * height * (1 - 1 / zoom))),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=float(config.hue * (2 * turn - 1)),
    )


def between(first: View, last: View, count: int) -> list[View]:
    """Returns views that lead from one to another, as the movement of a camera does.

    Zoom and corner change evenly; everything else is as in the first view.

    Args:
        count: number of views, at least 2; the first one is ``first``, the last one ends at the
            place of ``last``.
    """
    shares = [place / (count - 1) for place in range(count)]
    return [
        replace(
            first,
            zoom=(1 - share) * first.zoom + share * last.zoom,
            corner=(
                (1 - share) * first.corner[0] + share * last.corner[0],
                (1 - share) * first.corner[1] + share * last.corner[1],
            ),
        )
        for share in shares
    ]


def names_a_place(text: str) -> bool:
    """Whether a sentence names a place in the frame.

    Places change if a frame is enlarged and cut. Relations of objects, and motion, do not.
    """
    return _PLACE.search(text) is not None


def mirror_sentence(text: str) -> str:
    """Returns the sentence for the mirrored frame.

    Left and right are swapped, and so are the two directions of turning.
    """

    def other(match: re.Match[str]) -> str:
        word = match.group()
        if match[1] is not None:
            swapped = _MIRRORED[word.lower()]
        else:
            swapped = "counterclockwise" if match[2] is None else "clockwise"
        if word.isupper():
            return swapped.upper()
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDES.sub(other, text)
