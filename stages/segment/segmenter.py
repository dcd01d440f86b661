"""Stage ``segment``: masks for boxes.

Every distinct box of a frame is decoded once, with boxes of many frames in one pass.

Letters: B frames, Q distinct boxes of a frame, n boxes asked for, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from pipeline.config import SegmentConfig
from pipeline.errors import ConfigError
from pipeline.geometry import box_iou
from pipeline.ports import Image, Prompt
from pipeline.types import Candidates
from stages.common.compilation import compile_in_place, compiled, padded
from stages.common.fitting_batches import FittingBatches
from stages.common.mask_resolution import low_resolution_size
from stages.common.preprocessing import to_device, wait_for
from stages.common.weights import check_digest, fill_model, resolve_checkpoint
from stages.segment.architecture import build_demo, build_published
from stages.segment.attention import fuse_attention
from stages.segment.box_model import BoxModel, PackageSam
from stages.segment.prompted import check, decode_prompt, mask_by_boxes

STABILITY_OFFSET = 1.0
"""Stability is the IoU of the masks of logits above +1 and above -1, as in segment-anything."""


class SamSegmenter:
    """A :class:`pipeline.ports.Segmenter` over a ``Sam``, or another model of its kind."""

    def __init__(self, sam: Sam | BoxModel, config: SegmentConfig) -> None:
        self._model: BoxModel = PackageSam(sam) if isinstance(sam, Sam) else sam
        self._config = config
        self._device = self._model.device
        remedy = "take a smaller segment.model, or a device with more memory"
        self._frames = FittingBatches(
            config.batch_frames, "frame", "segment.batch_frames", remedy, whole=config.compile
        )
        self._pairs = FittingBatches(config.batch_pairs, "box", "segment.batch_pairs", remedy)

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[Tensor, tuple[int, int]]:
        """Returns the embeddings of B frames uint8 [H, W, 3] of one size, and (H, W)."""

        def encode(part: Sequence[Image]) -> list[Tensor]:
            if not self._config.compile:
                return [self._model.encode(to_device(part, self._device))]
            same_size = padded(part, self._frames.size)
            with compiled("segment.compile"):
                found = self._model.encode(to_device(same_size, self._device))
            return [found[: len(part)]]

        height, width = images[0].shape[:2]
        return torch.cat(list(self._frames.over(images, encode))), (height, width)

    @torch.inference_mode()
    def decode(self, embedding: object, boxes: Sequence[NDArray[np.float32]]) -> list[Candidates]:
        """Returns, for each of the B frames, the masks of its boxes.

        Args:
            boxes: float32 [n, 4] per frame, xyxy in pixels; n may be 0.
        """
        embeddings, (height, width) = cast(tuple[Tensor, tuple[int, int]], embedding)
        merged = [merge_boxes(frame, self._config.merge_iou) for frame in boxes]
        distinct = [frame[kept] for frame, (kept, _) in zip(boxes, merged, strict=True)]
        counts = [len(frame) for frame in distinct]
        owner = np.repeat(np.arange(len(counts)), counts)
        flat = np.concatenate([np.zeros((0, 4), np.float32), *distinct])
        flat *= self._model.side / max(height, width)
        logits, quality, stability = self._decode_all(embeddings, owner, flat, height, width)
        found, start = [], 0
        for count, (_, box_row) in zip(counts, merged, strict=True):
            part = slice(start, start + count)
            found.append(Candidates(logits[part], quality[part], stability[part], box_row))
            start += count
        return found

    @torch.inference_mode()
    def prompted(self, embedding: object, prompt: Prompt) -> NDArray[np.bool_]:
        """Returns the mask [H, W] of what a person shows in the one frame of an embedding.

        The demo model was trained with boxes alone, and models of transformers are asked with boxes
        alone; see :func:`mask_by_boxes`.
        """
        check(prompt)
        features, size = cast(tuple[Tensor, tuple[int, int]], embedding)
        if self._config.model != "demo" and isinstance(self._model, PackageSam):
            return decode_prompt(self._model.sam, features, size, prompt)
        return mask_by_boxes(lambda boxes: self.decode(embedding, [boxes])[0], size, prompt)

    def _decode_all(
        self,
        embeddings: Tensor,
        frame: NDArray[np.intp],
        boxes: NDArray[np.float32],
        height: int,
        width: int,
    ) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [n, h, w], predicted IoU [n] and stability [n] of n boxes.

        The results of a batch are copied to the host while the next batch is decoded.

        Args:
            frame: [n], the frame of each box.
            boxes: [n, 4], xyxy in pixels of the resized frame.
        """
        count, pinned = len(boxes), self._device.type == "cuda"
        cells = low_resolution_size(height, width, self._model.side)
        logits = torch.zeros(count, *cells, dtype=torch.float16, pin_memory=pinned)
        scores = torch.zeros(count, 2, pin_memory=pinned)
        frames = torch.from_numpy(frame).to(self._device)
        asked = torch.from_numpy(boxes).to(self._device)

        def decode(part: Sequence[int]) -> list[tuple[slice, Tensor, Tensor]]:
            rows = slice(part[0], part[-1] + 1)
            low, quality = self._model.decode(
                embeddings, frames[rows], asked[rows], (height, width)
            )
            kept = low.float().clamp(-32, 32).to(torch.float16)
            return [(rows, kept, torch.stack([quality.float().clamp(0, 1), _stability(kept)], 1))]

        for rows, kept, score in self._pairs.over(range(count), decode):
            logits[rows].copy_(kept, non_blocking=True)
            scores[rows].copy_(score, non_blocking=True)
        wait_for(self._device)
        quality, stability = np.ascontiguousarray(scores.numpy().T)
        return logits.numpy(), quality, stability


def merge_boxes(
    boxes: NDArray[np.float32], iou: float
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Picks the boxes to decode, so that every other box is near one of them.

    The box with the most boxes near it is picked first and stands for those, then the next of those
    that are left. Of two with equally many, the one with the smaller coordinates goes first. So the
    choice does not depend on the order of the boxes.

    Args:
        boxes: float32 [n, 4].
        iou: boxes are near each other if they have at least this IoU; 1 merges only equal boxes.

    Returns:
        Rows of the Q boxes to decode, ascending, and for each of the n boxes its row among those.
    """
    if not len(boxes):
        return np.zeros(0, np.intp), np.zeros(0, np.int32)
    equal = (boxes[:, None] == boxes[None]).all(-1)
    same = equal | (box_iou(boxes, boxes) >= iou) if iou < 1 else equal
    answer = np.full(len(boxes), -1, np.intp)
    for index in np.lexsort((*boxes.T[::-1], -same.sum(1))):
        if answer[index] < 0:
            answer[(answer < 0) & same[index]] = index
            answer[index] = index
    kept, row = np.unique(answer, return_inverse=True)
    return kept, row.astype(np.int32)


def load_segmenter(config: SegmentConfig, device: torch.device) -> SamSegmenter:
    """Returns the segmenter that the configuration names.

    Raises:
        CheckpointError: as :func:`load_sam`.
    """
    if config.model == "transformers":
        from stages.segment.transformers_sam import load_transformers_sam

        check_digest(config.checkpoint, config.sha256)
        return SamSegmenter(load_transformers_sam(config, device), config)
    return SamSegmenter(load_sam(config, device), config)


def load_sam(config: SegmentConfig, device: torch.device) -> Sam:
    """Builds the model that the configuration names and loads its weights.

    Raises:
        CheckpointError: weights are missing, damaged or of another model.
        ConfigError: it is a model of transformers.
    """
    if config.model == "transformers":
        raise ConfigError(
            "segment.model='transformers': GroPrompt's boxes need segment-anything's own model;"
            " expected demo, vit_b, vit_l or vit_h; change segment.model, or student.model"
        )
    path = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    demo = config.model == "demo"
    sam = build_demo() if demo else build_published(config.model)
    fill_model(sam, path / "model.safetensors" if path.is_dir() else path)
    return prepare(sam, config, device)


def prepare(sam: Sam, config: SegmentConfig, device: torch.device) -> Sam:
    """Changes a model in place to the attention, number type and device of a configuration.

    If the configuration says so, the image encoder is compiled when it is first used.

    Returns:
        The same model.
    """
    if config.attention == "sdpa":
        fuse_attention(sam)
    sam.to(device)
    if config.dtype != "float32":
        dtype = getattr(torch, config.dtype)
        sam.image_encoder.to(dtype)
        sam.mask_decoder.to(dtype)
    if config.compile:
        compile_in_place(sam.image_encoder)
    return sam


def _stability(logits: Tensor) -> Tensor:
    """Returns the stability of masks with logits [n, h, w]: float32 [n]."""
    inner = (logits > STABILITY_OFFSET).sum((1, 2)).float()
    outer = (logits > -STABILITY_OFFSET).sum((1, 2)).float()
    return inner / outer.clamp(min=1)
