"""How models of transformers score boxes for sentences (stages/ground/transformers_grounder.py).

Letters: B frames, K texts, P pairs of a frame and a caption, S sentences of a caption, Q queries, L
tokens, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torchvision.ops import box_convert

from pipeline.config import GroundConfig
from pipeline.ports import Image
from stages.ground.ranked import in_captions
from stages.ground.sentences import as_caption, sentence_scores

logger = logging.getLogger(__name__)


class FramesOnce(nn.Module):
    """The image backbone of a Grounding DINO, which gives back features that it computed before.

    Args:
        backbone: of the model.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.features: Sequence[Tensor] | None = None

    @property
    def position_embedding(self) -> Any:
        return self.backbone.position_embedding

    def forward(
        self, pixels: Tensor, mask: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """Returns the maps with their masks, and their position embeddings, as the
        backbone does."""
        if self.features is None:
            found: tuple[list[tuple[Tensor, Tensor]], list[Tensor]] = self.backbone(pixels, mask)
            return found
        third = len(self.features) // 3
        maps, masks, places = (
            list(self.features[start : start + third]) for start in (0, third, 2 * third)
        )
        return list(zip(maps, masks, strict=True)), places


class DinoDetector:
    """Grounding DINO and MM Grounding DINO.

    Args:
        model: on its device.
        processor: of that model.
        config: sizes of frames, score of sentences, sentences in one pass, number type.
    """

    def __init__(self, model: Any, processor: Any, config: GroundConfig) -> None:
        self._model, self._processor, self._config = model.eval(), processor, config
        self._once = FramesOnce(model.model.backbone)
        model.model.backbone = self._once
        self._longest = int(model.config.max_text_len)
        self._special = model.model.special_tokens
        self._stop = int(processor.tokenizer.convert_tokens_to_ids("."))

    def encode(self, images: Sequence[Image]) -> Sequence[Tensor]:
        size = {
            "shortest_edge": self._config.short_side,
            "longest_edge": self._config.long_side,
        }
        pictures = [Pillow.fromarray(image) for image in images]
        found = self._processor.image_processor(images=pictures, size=size, return_tensors="pt")
        pixels = found["pixel_values"].to(self._model.device)
        self._once.features = None
        with self._precision():
            maps, places = self._once(pixels, torch.ones_like(pixels[:, 0], dtype=torch.long))
        # The model asks for the size of its input, of which no more is read.
        shape = pixels.new_zeros(len(pixels), 1, 1).expand(-1, *pixels.shape[2:])
        return [*(item for item, _ in maps), *(mask for _, mask in maps), *places, shape]

    def captions(self, texts: Sequence[str]) -> list[list[int]]:
        captions = [as_caption(text) for text in texts]
        ids = self._processor.tokenizer(captions, verbose=False)["input_ids"] if texts else []
        lengths = [len(each) - 2 for each in ids]
        say_what_is_cut(texts, lengths, self._longest - 2)
        return in_captions(lengths, self._longest - 2, self._config.joint)

    def match(
        self, features: Sequence[Tensor], size: tuple[int, int], groups: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        captions = [" ".join(as_caption(text) for text in group) for group in groups]
        words = self._processor.tokenizer(captions, padding=True, return_tensors="pt")
        words = {
            name: words[name][:, : self._longest].to(self._model.device)
            for name in ("input_ids", "attention_mask")
        }
        *self._once.features, shape = features
        with self._precision():
            out = self._model(pixel_values=shape[:, None].expand(-1, 3, -1, -1), **words)
        owner = sentence_of_token(words["input_ids"], self._special, self._stop)
        logits = out.logits[..., : owner.shape[1]].float()
        scores = sentence_scores(logits, owner, max(map(len, groups)), self._config)
        return _corners(out.pred_boxes, size[1], size[0]), scores

    def _precision(self) -> torch.autocast:
        """Returns the autocast of ``ground.dtype``. Weights stay float32."""
        dtype = getattr(torch, self._config.dtype)
        return torch.autocast(self._model.device.type, dtype, enabled=dtype != torch.float32)


def sentence_of_token(ids: Tensor, special: Tensor, stop: int) -> Tensor:
    """Returns the sentence that each token is a word of, -1 for none: int64 [P, L].

    Args:
        ids: [P, L], captions whose sentences end in a full stop each, and padding.
        special: ids of tokens that are no word; the full stop is one.
        stop: id of the full stop.
    """
    stops = ids == stop
    number = stops.cumsum(1)
    # After the last full stop there is no word.
    word = ~torch.isin(ids, special.to(ids.device)) & (number < stops.sum(1, keepdim=True))
    return torch.where(word, number, -1)


class OwlDetector:
    """OWLv2, which scores each sentence as a whole, so that sentences never share a pass.

    Args:
        model: on its device.
        processor: of that model. It pads frames to squares, at the right and at the bottom.
        config: number type.
    """

    def __init__(self, model: Any, processor: Any, config: GroundConfig) -> None:
        self._model, self._processor = model.eval(), processor
        self._dtype = getattr(torch, config.dtype)
        self._longest = int(model.config.text_config.max_position_embeddings)
        self._known: tuple[tuple[str, ...], Tensor] | None = None

    def encode(self, images: Sequence[Image]) -> Sequence[Tensor]:
        pictures = [Pillow.fromarray(image) for image in images]
        found = self._processor.image_processor(images=pictures, return_tensors="pt")
        with self._precision():
            return [self._model.image_embedder(found["pixel_values"].to(self._model.device))[0]]

    def captions(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(range(len(texts)))] if texts else []

    def match(
        self, features: Sequence[Tensor], size: tuple[int, int], groups: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        [grid] = features
        cells = grid.flatten(1, 2)
        with self._precision():
            sentences = self._sentences(tuple(groups[0])).expand(len(grid), -1, -1)
            logits, _ = self._model.class_predictor(cells, sentences)
            boxes = self._model.box_predictor(cells, grid)
        side = max(size)
        corners = _corners(boxes, side, side)
        corners[..., 0::2].clamp_(max=size[1])
        corners[..., 1::2].clamp_(max=size[0])
        return corners, logits.float().sigmoid().transpose(1, 2)

    def _sentences(self, texts: tuple[str, ...]) -> Tensor:
        """Returns the features of sentences [1, K, C], kept for the next frames."""
        if self._known is None or self._known[0] != texts:
            said = [as_caption(text).removesuffix(".") for text in texts]
            lengths = self._processor.tokenizer(said, verbose=False)["input_ids"]
            say_what_is_cut(texts, [len(ids) for ids in lengths], self._longest)
            words = self._processor.tokenizer(
                said,
                padding="max_length",
                max_length=self._longest,
                truncation=True,
                return_tensors="pt",
            ).to(self._model.device)
            found = self._model.owlv2.get_text_features(
                words["input_ids"], attention_mask=words["attention_mask"]
            )
            features = found if isinstance(found, Tensor) else found.pooler_output
            self._known = texts, features[None]
        return self._known[1]

    def _precision(self) -> torch.autocast:
        enabled = self._dtype != torch.float32
        return torch.autocast(self._model.device.type, self._dtype, enabled=enabled)


def say_what_is_cut(texts: Sequence[str], lengths: Sequence[int], longest: int) -> None:
    """Warns of sentences with more tokens than a model reads."""
    for text, length in zip(texts, lengths, strict=True):
        if length > longest:
            logger.warning(
                "the grounder reads %d of the %d tokens of %r; what is behind them does not count;"
                " shorten the sentence",
                longest,
                length,
                text[:80],
            )


def _corners(boxes: Tensor, width: int, height: int) -> Tensor:
    """Returns boxes of centre and size in [0, 1] as corners in pixels."""
    corners: Tensor = box_convert(boxes.float(), "cxcywh", "xyxy").clamp(0, 1)
    return corners * corners.new_tensor([width, height, width, height])
