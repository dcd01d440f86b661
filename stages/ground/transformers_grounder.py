"""Grounders of transformers, from a folder: Grounding DINO, MM Grounding DINO and OWLv2.

Letters: B frames, K texts, P pairs of a frame and a caption, S sentences of a caption, Q queries, R
ranked boxes of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForZeroShotObjectDetection

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError
from pipeline.ports import Image
from pipeline.types import Boxes
from stages.common.checkpoints import check_digest, resolve_checkpoint
from stages.common.fitting_batches import FittingBatches
from stages.common.model_folders import load_folder, model_type
from stages.common.tokenizers import knows_plain_words
from stages.ground.detectors import DinoDetector, OwlDetector
from stages.ground.ranked import best_boxes, boxes_of_frames

MODEL_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2")
"""By ``model_type`` in their ``config.json``."""


class Detector(Protocol):
    """A model that scores boxes for sentences."""

    def encode(self, images: Sequence[Image]) -> Sequence[Tensor]:
        """Returns features of B frames of one size; the first dimension of each tensor is B."""
        ...

    def captions(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the rows of the texts that share a pass, for each caption."""
        ...

    def match(
        self, features: Sequence[Tensor], size: tuple[int, int], groups: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """Returns the boxes and scores of P pairs.

        Args:
            features: of the frame of each pair.
            size: height and width of the frames.
            groups: the S sentences of each pair's caption; some may have fewer.

        Returns:
            Corners in pixels [P, Q, 4], and the score of each sentence for each box [P, S, Q] in
            [0, 1].
        """
        ...


class TransformersGrounder:
    """A :class:`pipeline.ports.Grounder` over a model of transformers.

    A frame is encoded once for all texts.
    """

    def __init__(self, detector: Detector, config: GroundConfig) -> None:
        self._detector, self._config = detector, config
        remedy = "lower ground.short_side and ground.long_side, or take a device with more memory"
        self._frames = FittingBatches(config.batch_frames, "frame", "ground.batch_frames", remedy)
        self._pairs = FittingBatches(
            config.batch_pairs, "pair of frame and caption", "ground.batch_pairs", remedy
        )

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[Sequence[Tensor], tuple[int, int]]:
        """Returns the features of B frames uint8 [H, W, 3] of one size, and (H, W)."""
        height, width = images[0].shape[:2]
        parts = self._frames.over(images, lambda part: [self._detector.encode(part)])
        return [torch.cat(each) for each in zip(*parts, strict=True)], (height, width)

    @torch.inference_mode()
    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        """Returns, for each of the B frames, the R best boxes of each of the K texts, ordered by
        text, then by rank."""
        features, size = cast(tuple[Sequence[Tensor], tuple[int, int]], embedding)
        frames = len(features[0])
        groups = self._detector.captions(texts)
        most = max(map(len, groups), default=0)
        # Pairs are numbered: all frames with the first caption, then all with the second.
        pairs = range(len(groups) * frames)

        def match(part: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
            of = torch.tensor([pair % frames for pair in part], device=features[0].device)
            said = [[texts[row] for row in groups[pair // frames]] for pair in part]
            corners, scores = self._detector.match([each[of] for each in features], size, said)
            missing = most - scores.shape[1]
            scores = F.pad(scores.float(), (0, 0, 0, missing))
            best = best_boxes(corners.float(), scores, self._config.runner_ups + 1)
            return list(zip(*best, strict=True))

        found = list(self._pairs.over(pairs, match))
        return boxes_of_frames(found, frames, [len(rows) for rows in groups], self._config)


def load_transformers_grounder(config: GroundConfig, device: torch.device) -> TransformersGrounder:
    """Returns the grounder in the folder that the configuration names.

    Raises:
        CheckpointError: the folder is missing or incomplete, of a model of another kind, or its
            tokenizer knows no words.
    """
    folder = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    expected = f"a folder of transformers with a model of type {', '.join(MODEL_TYPES)}"
    kind = model_type(folder)
    if kind is not None and kind not in MODEL_TYPES:
        remedy = "give the folder of Grounding DINO, MM Grounding DINO or OWLv2"
        raise CheckpointError(folder, f"a model of type {kind}", expected, remedy)
    model, processor = load_folder(
        AutoModelForZeroShotObjectDetection, folder, torch.float32, expected, "ground.checkpoint"
    )
    if not knows_plain_words(processor.tokenizer):
        found = "its tokenizer reads plain words as unknown"
        remedy = "save the tokenizer again as tokenizer.json"
        raise CheckpointError(folder, found, "a tokenizer that knows its vocabulary", remedy)
    kinds = {"owlv2": OwlDetector}
    detector = kinds.get(str(kind), DinoDetector)(model.to(device), processor, config)
    return TransformersGrounder(detector, config)
