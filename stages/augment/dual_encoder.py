"""How well sentences fit frames, by an image-text or video-text encoder of transformers.

Letters: F frames, n sentences, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from pipeline.config import AugmentConfig
from pipeline.errors import CheckpointError
from pipeline.ports import Image
from pipeline.sampling import pick_frames
from stages.common.checkpoints import resolve_checkpoint
from stages.common.model_folders import load_folder, model_type

logger = logging.getLogger(__name__)

MODEL_TYPES = ("clip", "siglip", "siglip2", "xclip")
"""By ``model_type`` in their ``config.json``. The weights called SigLIP 2 are of either kind."""


class DualEncoder:
    """A model with an encoder of frames and one of sentences.

    CLIP and SigLIP encode each frame alone; the frames' mean stands for the video. X-CLIP encodes
    the frames together.

    Args:
        model: on its device, in evaluation mode.
        processor: with an image processor and a tokenizer.
        batch: sentences in one pass.
    """

    def __init__(self, model: Any, processor: Any, batch: int) -> None:
        self._model, self._processor, self._batch = model.eval(), processor, batch
        self._of_videos = model.config.model_type == "xclip"
        self._longest = int(model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def cosines(self, images: Sequence[Image], texts: Sequence[str]) -> NDArray[np.float64]:
        """Returns the cosine of each of n sentences with F frames: float64 [n] in [-1, 1]."""
        pictures = self._pictures(images)
        video = None if self._of_videos else self._mean_of_frames(pictures)
        found = []
        for start in range(0, len(texts), self._batch):
            words = self._words(texts[start : start + self._batch])
            if video is None:
                out = self._model(**words, **pictures)
                found.append((out.text_embeds * out.video_embeds[:, None]).sum(-1).flatten())
            else:
                sentences = _features(self._model.get_text_features(**words))
                found.append(F.normalize(sentences, dim=-1) @ video)
        return torch.cat(found).double().cpu().numpy()

    def _mean_of_frames(self, pictures: dict[str, Tensor]) -> Tensor:
        frames = F.normalize(_features(self._model.get_image_features(**pictures)), dim=-1)
        return F.normalize(frames.mean(0), dim=-1)

    def _pictures(self, images: Sequence[Image]) -> dict[str, Tensor]:
        pictures = [Pillow.fromarray(image) for image in images]
        if self._of_videos:
            count = int(self._model.config.vision_config.num_frames)
            # A video with fewer frames than the model sees repeats some.
            places = np.linspace(0, len(pictures) - 1, count).round().astype(int)
            if len(pictures) > count:
                places = np.array(pick_frames(len(pictures), count))
            pictures = [pictures[place] for place in places]
        found = self._processor.image_processor(images=pictures, return_tensors="pt")
        made = {name: value.to(self._model.device) for name, value in found.items()}
        if self._of_videos and made["pixel_values"].ndim == 4:
            made["pixel_values"] = made["pixel_values"][None]
        made["pixel_values"] = made["pixel_values"].to(self._model.dtype)
        return made

    def _words(self, texts: Sequence[str]) -> dict[str, Tensor]:
        tokenizer = self._processor.tokenizer
        lengths = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
        if too_long := sum(length > self._longest for length in lengths):
            logger.warning(
                "%d sentences are longer than the %d tokens that the similarity model reads, and"
                " were cut",
                too_long,
                self._longest,
            )
        # SigLIP was trained with padding to its full length, which it does not mask.
        whole = self._model.config.model_type.startswith("siglip")
        found = tokenizer(
            list(texts),
            padding="max_length" if whole else True,
            max_length=self._longest,
            truncation=True,
            return_tensors="pt",
        )
        names = ("input_ids",) if whole else ("input_ids", "attention_mask")
        return {name: found[name].to(self._model.device) for name in names}


def load_dual_encoder(config: AugmentConfig, device: torch.device) -> DualEncoder:
    """Returns the encoder that ``augment.similarity_checkpoint`` names.

    Raises:
        CheckpointError: the folder is missing or incomplete, or of a model of another kind.
    """
    assert config.similarity_checkpoint is not None, "the configuration is checked"
    folder: Path = resolve_checkpoint(config.similarity_checkpoint)
    expected = f"a folder of transformers with a model of type {', '.join(MODEL_TYPES)}"
    kind = model_type(folder)
    if kind is not None and kind not in MODEL_TYPES:
        remedy = "give the folder of CLIP, SigLIP, SigLIP 2 or X-CLIP"
        raise CheckpointError(folder, f"a model of type {kind}", expected, remedy)
    setting = "augment.similarity_checkpoint"
    model, processor = load_folder(AutoModel, folder, torch.float32, expected, setting)
    if getattr(processor, "image_processor", None) is None or (
        getattr(processor, "tokenizer", None) is None
    ):
        found = "its processor has no tokenizer, or none for images"
        raise CheckpointError(folder, found, expected, f"check {setting}")
    return DualEncoder(model.to(device), processor, config.batch_texts)


def _features(found: Any) -> Tensor:
    """Returns the projected features of an encoder's output."""
    features: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return features
