"""A frozen SAM for GroPrompt. Its prompts have a gradient for their boxes.

Letters: M frames, N boxes, C channels, s cells a side, S pixels of SAM's square input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torchvision.ops import box_convert

from pipeline.config import SegmentConfig
from stages.common.mask_resolution import enlarge
from stages.segment.architecture import encode_frames
from stages.segment.decoder import decode_boxes


class BoxPrompter:
    """Gives box prompts, frame features and masks of a frozen SAM.

    Args:
        sam: on its device.
        config: frames and boxes in one pass.

    Attributes:
        channels: C of features and prompts.
    """

    def __init__(self, sam: Sam, config: SegmentConfig) -> None:
        self._sam = sam.eval().requires_grad_(False)
        self._config = config
        self.channels: int = sam.prompt_encoder.embed_dim

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Returns features [M, C, s, s] of frames uint8 [M, H, W, 3] of one size."""
        device = self._sam.pixel_mean.device
        parts = images.split(self._config.batch_frames)
        return torch.cat([encode_frames(self._sam, part.to(device)) for part in parts])

    def prompts(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the prompts of boxes [N, 4], two corners each: [N, 2, C].

        Args:
            boxes: centre x, centre y, width, height in [0, 1] of the frame.
            size: H and W of the frame.
        """
        found: Tensor = self._sam.prompt_encoder(
            points=None, boxes=self._pixels(boxes, size), masks=None
        )[0]
        return found

    @torch.no_grad()
    def masks(
        self, features: Tensor, rows: Sequence[int], boxes: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Returns mask logits [N, H, W] of boxes, which are given as for :meth:`prompts`.

        Args:
            features: from :meth:`encode`.
            rows: the frame of each box.
        """
        frame, pixels = torch.tensor(rows, device=boxes.device), self._pixels(boxes, size)
        found = []
        for part in torch.arange(len(rows), device=boxes.device).split(self._config.batch_pairs):
            low, _ = decode_boxes(self._sam, features, frame[part], pixels[part], size)
            found.append(enlarge(low, *size))
        return torch.cat(found)

    def _pixels(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns corners in pixels of the square input."""
        height, width = size
        corners = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
        scale = self._sam.image_encoder.img_size / max(height, width)
        pixels: Tensor = corners * boxes.new_tensor([width, height] * 2) * scale
        return pixels
