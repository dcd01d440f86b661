"""Models that make masks of boxes: segment-anything's, behind what the segmenter asks of a model.

Letters: B frames, C channels, s the side of the embedding, n boxes, h w low-resolution cells.
"""

from __future__ import annotations

from typing import Protocol

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from stages.segment.architecture import encode_frames
from stages.segment.decoder import decode_boxes


class BoxModel(Protocol):
    """A model that a :class:`stages.segment.segmenter.SamSegmenter` runs."""

    @property
    def side(self) -> int:
        """Pixels of a side of the square input."""
        ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, images: Tensor) -> Tensor:
        """Returns embeddings [B, ...] of uint8 frames of one size, [B, H, W, 3]."""
        ...

    def decode(
        self, embeddings: Tensor, frames: Tensor, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Returns mask logits [n, h, w] and predicted IoU [n].

        Args:
            embeddings: of :meth:`encode`.
            frames: int64 [n], ascending: the frame of each box.
            boxes: float [n, 4], xyxy in pixels of the square input.
            size: height and width of the frames in pixels.
        """
        ...


class PackageSam:
    """segment-anything's ``Sam`` as a :class:`BoxModel`.

    Attributes:
        sam: the model.
    """

    def __init__(self, sam: Sam) -> None:
        self.sam = sam.eval()

    @property
    def side(self) -> int:
        return int(self.sam.image_encoder.img_size)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.sam.pixel_mean.device
        return device

    def encode(self, images: Tensor) -> Tensor:
        return encode_frames(self.sam, images)

    def decode(
        self, embeddings: Tensor, frames: Tensor, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        return decode_boxes(self.sam, embeddings, frames, boxes, size)
