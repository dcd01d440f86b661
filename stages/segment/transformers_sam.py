"""Segment Anything models of transformers, from a folder: SAM and HQ-SAM.

Letters: B frames, C channels, s the side of the embedding, n boxes, h w low-resolution cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForMaskGeneration

from pipeline.config import SegmentConfig
from pipeline.errors import CheckpointError
from stages.common.checkpoints import resolve_checkpoint
from stages.common.compilation import compile_in_place
from stages.common.mask_resolution import input_size, low_resolution_size
from stages.common.model_folders import load_folder, model_type
from stages.common.preprocessing import resize

MODEL_TYPES = ("sam", "sam_hq")
"""By ``model_type`` in their ``config.json``. Others have masks of another resolution."""


class TransformersSam:
    """A :class:`stages.segment.box_model.BoxModel` over ``SamModel`` or ``SamHQModel``.

    An image is encoded once. The boxes of a frame share a pass of the decoder, because HQ-SAM adds
    features of the frame, which it computes once in a pass.

    Args:
        model: on its device.
        mean, deviation: of the channels of pixels in [0, 1], which the model was trained with.
    """

    def __init__(self, model: Any, mean: list[float], deviation: list[float]) -> None:
        self._model = model.eval()
        self._refines = model.config.model_type == "sam_hq"
        device = model.device
        self._mean, self._deviation = (
            torch.tensor(values, device=device)[:, None, None] * 255 for values in (mean, deviation)
        )

    @property
    def side(self) -> int:
        return int(self._model.config.vision_config.image_size)

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    def encode(self, images: Tensor) -> Tensor:
        """Returns embeddings [B, C, s, s]. Of HQ-SAM, the channels of an early layer follow."""
        size = input_size(images.shape[1], images.shape[2], self.side)
        scaled = (resize(images, size).float() - self._mean) / self._deviation
        padded = F.pad(scaled, (0, self.side - size[1], 0, self.side - size[0]))
        encoder = self._model.vision_encoder
        found = encoder(padded.to(encoder.patch_embed.projection.weight.dtype))
        last: Tensor = found[0]
        if not self._refines:
            return last
        return torch.cat([last, found.intermediate_embeddings[0].permute(0, 3, 1, 2)], 1)

    def decode(
        self, embeddings: Tensor, frames: Tensor, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        rows, columns = low_resolution_size(*size, self.side)
        of_frame, counts = frames.unique_consecutive(return_counts=True)
        masks, quality = [], []
        for frame, mine in zip(of_frame.tolist(), boxes.split(counts.tolist()), strict=True):
            logits, score = self._decode_frame(embeddings[frame : frame + 1], mine)
            masks.append(logits[:, :rows, :columns])
            quality.append(score)
        return torch.cat(masks), torch.cat(quality)

    def _decode_frame(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits [n, 4s, 4s] and predicted IoU [n] of boxes of one frame."""
        model, dtype = self._model, embedding.dtype
        sparse, dense = model.prompt_encoder(
            input_points=None, input_labels=None, input_boxes=boxes[None], input_masks=None
        )
        last, early = embedding.split([dense.shape[1], embedding.shape[1] - dense.shape[1]], dim=1)
        more = {}
        if self._refines:
            more = {
                "hq_token_only": False,
                "intermediate_embeddings": [early.permute(0, 2, 3, 1)],
            }
        masks, quality = model.mask_decoder(
            image_embeddings=last,
            image_positional_embeddings=model.get_image_wide_positional_embeddings().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=False,
            **more,
        )[:2]
        return masks[0, :, 0], quality[0, :, 0]


def load_transformers_sam(config: SegmentConfig, device: torch.device) -> TransformersSam:
    """Returns the model in the folder that the configuration names.

    Raises:
        CheckpointError: the folder is missing or incomplete, or of a model of another kind.
    """
    folder = resolve_checkpoint(config.checkpoint)
    expected = f"a folder of transformers with a model of type {' or '.join(MODEL_TYPES)}"
    kind = model_type(folder)
    if kind is not None and kind not in MODEL_TYPES:
        remedy = "give the folder of SAM or HQ-SAM; SAM 2 and SAM 3 follow objects in stage track"
        raise CheckpointError(folder, f"a model of type {kind}", expected, remedy)
    attention = {"sdpa": "sdpa", "explicit": "eager"}[config.attention]
    model, processor = load_folder(
        AutoModelForMaskGeneration,
        folder,
        torch.float32,
        expected,
        "segment.checkpoint",
        attn_implementation=attention,
    )
    model.to(device)
    if config.dtype != "float32":
        # The prompts stay in float32, as with segment-anything's models.
        model.vision_encoder.to(getattr(torch, config.dtype))
        model.mask_decoder.to(getattr(torch, config.dtype))
    if config.compile:
        compile_in_place(model.vision_encoder)
    images = getattr(processor, "image_processor", processor)
    return TransformersSam(model, list(images.image_mean), list(images.image_std))
