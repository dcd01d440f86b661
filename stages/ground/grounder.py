"""Boxes for sentences: the best and its runner-ups, by similarity to the whole sentence.

Letters: B frames, K texts, P pairs of frame and text, Q queries, R ranked boxes of a text, L
tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from torch import Tensor
from torchvision.ops import box_convert, nms
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerBase

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError
from pipeline.ports import Image
from pipeline.types import Boxes
from stages.ground.architecture import (
    FrameFeatures,
    TextFeatures,
    build_demo,
    build_published,
    encode_frames,
    encode_texts,
    run_transformer,
)
from stages.frames import normalise_frames
from stages.weights import check_digest, fill_model, resolve_checkpoint

SAME_BOX_IOU = 0.7
"""Of a text's boxes that overlap more, only the best is kept: runner-ups are other instances."""

_CACHED_TEXTS = 4096


class GroundingDinoGrounder:
    """A :class:`pipeline.ports.Grounder` over a ``GroundingDINO``.

    Frames are encoded once; every text is encoded once and kept over videos; the transformer runs
    over (frame, text) pairs, ``batch_pairs`` at a time.
    """

    def __init__(self, model: GroundingDINO, config: GroundConfig) -> None:
        self._model = model.eval()
        self._config = config
        self._device = model.feat_map.weight.device
        self._texts: dict[str, TextFeatures] = {}

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[FrameFeatures, tuple[int, int]]:
        """Features of B frames uint8 [H, W, 3] of one size, with that size."""
        stacked = torch.from_numpy(np.stack(images)).to(self._device)
        prepared = normalise_frames(stacked, self._config.short_side, self._config.long_side)
        dtype = self._model.feat_map.weight.dtype
        return encode_frames(self._model, prepared.to(dtype)), stacked.shape[1:3]

    @torch.inference_mode()
    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        """For each of the B frames, the R best boxes of each of the K texts, text by text.

        Returns:
            B times :class:`Boxes`, at most K * R rows each, ordered by text, then rank.
        """
        frames, size = cast(tuple[FrameFeatures, tuple[int, int]], embedding)
        found: list[list[tuple[Tensor, Tensor, int]]] = [[] for _ in range(len(frames))]
        pairs = [(frame, text) for text in range(len(texts)) for frame in range(len(frames))]
        for start in range(0, len(pairs), self._config.batch_pairs):
            part = pairs[start : start + self._config.batch_pairs]
            chosen = torch.tensor([frame for frame, _ in part], device=self._device)
            encoded = self._encoded([texts[text] for _, text in part])
            last = run_transformer(self._model, frames.take(chosen), encoded)[-1]
            scores = sentence_scores(last.logits.float(), encoded.content, self._config.score)
            corners = box_convert(last.boxes.float(), "cxcywh", "xyxy").clamp(0, 1)
            scale = torch.tensor([size[1], size[0]] * 2, device=self._device)
            for (frame, text), box, score in zip(part, corners * scale, scores, strict=True):
                kept = nms(box, score, SAME_BOX_IOU)[: self._config.runner_ups + 1]
                found[frame].append((box[kept].cpu(), score[kept].cpu(), text))
        return [_boxes(rows) for rows in found]

    def _encoded(self, texts: Sequence[str]) -> TextFeatures:
        missing = sorted({text for text in texts if text not in self._texts})
        if missing:
            if len(self._texts) + len(missing) > _CACHED_TEXTS:
                self._texts.clear()
                missing = sorted(set(texts))
            captions = [as_caption(text) for text in missing]
            together = encode_texts(self._model, captions)
            for row, text in enumerate(missing):
                self._texts[text] = together.take(torch.tensor([row], device=self._device))
        return _pad([self._texts[text] for text in texts])


def as_caption(text: str) -> str:
    """A sentence as one sub-sentence: lower case, no inner full stop or question mark, one at the
    end, as Grounding DINO was trained on."""
    words = re.sub(r"[.?]+(\s|$)", " ", text.lower()).split()
    return " ".join(words) + "."


def sentence_scores(logits: Tensor, content: Tensor, how: str) -> Tensor:
    """Similarity of each box to the whole sentence.

    Args:
        logits: [P, Q, L].
        content: bool [P, L], the tokens that are words.
        how: ``mean`` or ``max`` over the words.

    Returns:
        [P, Q] in [0, 1]; 0 for a sentence without words.
    """
    chance = logits.sigmoid().masked_fill(~content[:, None], 0)
    if how == "max":
        return chance.amax(-1)
    return chance.sum(-1) / content.sum(-1).clamp(min=1)[:, None]


def load_grounder(config: GroundConfig, device: torch.device) -> GroundingDinoGrounder:
    """The grounder that the configuration names. Raises CheckpointError as ``load_model`` does."""
    return GroundingDinoGrounder(load_model(config, device), config)


def load_model(config: GroundConfig, device: torch.device) -> GroundingDINO:
    """Builds the model that the configuration names and fills it.

    Raises:
        CheckpointError: weights or tokenizer are missing, damaged or of another model.
    """
    path = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    if config.backbone == "demo":
        tokenizer = load_tokenizer(path)
        model, weights = build_demo(tokenizer), path / "model.safetensors"
    else:
        if config.text_encoder is None:
            raise CheckpointError(
                path,
                "ground.text_encoder is not set",
                "the folder of bert-base-uncased (config.json and tokenizer files)",
                "set ground.text_encoder in the configuration",
            )
        tokenizer = load_tokenizer(config.text_encoder)
        bert = BertConfig.from_pretrained(config.text_encoder, local_files_only=True)
        model, weights = build_published(config.backbone, tokenizer, bert), path
    fill_model(model, weights, ignore=("bert.embeddings.position_ids", "label_enc.weight"))
    model.to(device=device, dtype=getattr(torch, config.dtype))
    return model.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A BERT tokenizer, refused where it takes words for unknown.

    transformers 5 ignores a ``vocab.txt`` that it is handed by file name and then reads every word
    as ``[UNK]``; a model so fed finds objects and never learns which.
    """
    expected = "a folder with tokenizer.json, or vocab.txt, of BERT's kind"
    remedy = "check ground.text_encoder; `pseudolabels doctor` says where it comes from"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(folder, f"no tokenizer loads ({reason})", expected, remedy) from error
    ids = tokenizer("the red circle", add_special_tokens=False)["input_ids"]
    if tokenizer.unk_token_id in ids or len(ids) < 3:
        raise CheckpointError(
            folder, "its tokenizer reads plain words as unknown", expected, remedy
        )
    return cast(PreTrainedTokenizerBase, tokenizer)


def _pad(rows: Sequence[TextFeatures]) -> TextFeatures:
    """Puts single captions into one batch, padded to the longest."""
    length = max(row.encoded.shape[1] for row in rows)
    first = rows[0]
    encoded = first.encoded.new_zeros(len(rows), length, first.encoded.shape[2])
    used = first.used.new_zeros(len(rows), length)
    attends = torch.eye(length, dtype=torch.bool, device=used.device).repeat(len(rows), 1, 1)
    positions = first.positions.new_zeros(len(rows), length)
    content = first.content.new_zeros(len(rows), length)
    for index, row in enumerate(rows):
        own = row.encoded.shape[1]
        encoded[index, :own] = row.encoded[0]
        used[index, :own] = row.used[0]
        attends[index, :own, :own] = row.attends[0]
        positions[index, :own] = row.positions[0]
        content[index, :own] = row.content[0]
    return TextFeatures(encoded, used, attends, positions, content)


def _boxes(rows: Sequence[tuple[Tensor, Tensor, int]]) -> Boxes:
    if not rows:
        return Boxes(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            np.zeros(0, np.int32),
        )
    counts = [len(score) for _, score, _ in rows]
    return Boxes(
        torch.cat([box for box, _, _ in rows]).numpy().astype(np.float32),
        torch.cat([score for _, score, _ in rows]).numpy().astype(np.float32),
        np.repeat(np.array([text for _, _, text in rows], np.int32), counts),
        np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
    )
