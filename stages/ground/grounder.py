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
from stages.batches import FittingBatches
from stages.compiled import compile_in_place, compiled, padded
from stages.frames import normalise_frames, to_device
from stages.ground.architecture import (
    FrameFeatures,
    TextFeatures,
    build_demo,
    build_published,
    decoder_of,
    encode_frames,
    encode_texts,
    join_frames,
    run_transformer,
)
from stages.ground.deformable import fuse_deformable
from stages.weights import check_digest, fill_model, resolve_checkpoint

SAME_BOX_IOU = 0.7
"""Of a text's boxes that overlap more, only the best is kept: runner-ups are other instances."""

_CACHED_TEXTS = 1024


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
        remedy = "lower ground.short_side and ground.long_side, or take a device with more memory"
        self._frames = FittingBatches(config.batch_frames, "frame", "ground.batch_frames", remedy)
        self._pairs = FittingBatches(
            config.batch_pairs, "pair of frame and caption", "ground.batch_pairs", remedy
        )

    def _precision(self) -> torch.autocast:
        """Half precision where it is asked for; the weights stay single."""
        dtype = getattr(torch, self._config.dtype)
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[FrameFeatures, tuple[int, int]]:
        """Features of B frames uint8 [H, W, 3] of one size, with that size."""

        def encode(part: Sequence[Image]) -> list[FrameFeatures]:
            same_size = padded(part, self._frames.size) if self._config.compile else part
            stacked = to_device(same_size, self._device)
            prepared = normalise_frames(stacked, self._config.short_side, self._config.long_side)
            with self._precision():
                if not self._config.compile:
                    return [encode_frames(self._model, prepared)]
                with compiled("ground.compile"):
                    found = encode_frames(self._model, prepared)
            return [found.take(torch.arange(len(part), device=self._device))]

        height, width = images[0].shape[:2]
        return join_frames(list(self._frames.over(images, encode))), (height, width)

    @torch.inference_mode()
    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        """For each of the B frames, the R best boxes of each of the K texts, text by text.

        Returns:
            B times :class:`Boxes`, at most K * R rows each, ordered by text, then rank.
        """
        frames, size = cast(tuple[FrameFeatures, tuple[int, int]], embedding)
        groups = self._captions(texts)
        found: list[list[tuple[Tensor, Tensor, int]]] = [[] for _ in range(len(frames))]
        pairs = [(frame, group) for group in range(len(groups)) for frame in range(len(frames))]
        scale = torch.tensor([size[1], size[0]] * 2, device=self._device)

        def match(part: Sequence[tuple[int, int]]) -> list[tuple[int, int, Tensor, Tensor]]:
            chosen = torch.tensor([frame for frame, _ in part], device=self._device)
            encoded, owner = join_captions(
                [[self._texts[texts[row]] for row in groups[group]] for _, group in part]
            )
            with self._precision():
                last = run_transformer(self._model, frames.take(chosen), encoded)[-1]
            most = max(len(groups[group]) for _, group in part)
            scores = sentence_scores(last.logits.float(), owner, most, self._config.score)
            corners = box_convert(last.boxes.float(), "cxcywh", "xyxy").clamp(0, 1) * scale
            return [
                (frame, group, boxes, score)
                for (frame, group), boxes, score in zip(part, corners, scores, strict=True)
            ]

        for frame, group, boxes, score in self._pairs.over(pairs, match):
            for place, text in enumerate(groups[group]):
                kept = nms(boxes, score[place], SAME_BOX_IOU)[: self._config.runner_ups + 1]
                found[frame].append((boxes[kept].cpu(), score[place, kept].cpu(), text))
        return [_boxes(rows) for rows in found]

    def _captions(self, texts: Sequence[str]) -> list[list[int]]:
        """Rows of the texts that share a caption, after each text is encoded and kept."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._texts))
        if len(self._texts) + len(missing) > _CACHED_TEXTS:
            self._texts.clear()
            missing = list(dict.fromkeys(texts))

        def encode(part: Sequence[str]) -> list[TextFeatures]:
            with self._precision():
                together = encode_texts(self._model, [as_caption(text) for text in part])
            rows = torch.arange(len(part), device=self._device)
            return [together.take(row[None]) for row in rows]

        self._texts.update(zip(missing, self._pairs.over(missing, encode), strict=True))
        groups: list[list[int]] = []
        length = 0
        for row, text in enumerate(texts):
            own = self._texts[text].encoded.shape[1] - 2
            full = groups and len(groups[-1]) == self._config.joint
            if not groups or full or length + own > self._model.max_text_len - 2:
                groups.append([])
                length = 0
            groups[-1].append(row)
            length += own
        return groups


def as_caption(text: str) -> str:
    """A sentence as one sub-sentence: lower case, no inner full stop or question mark, one at the
    end, as Grounding DINO was trained on."""
    words = re.sub(r"[.?]+(\s|$)", " ", text.lower()).split()
    return " ".join(words) + "."


def join_captions(groups: Sequence[Sequence[TextFeatures]]) -> tuple[TextFeatures, Tensor]:
    """Puts sentences that were encoded alone into one caption a group.

    A sentence sees no other, so its features are those it has alone, and the caption is the one
    that the package would make of "first. second. third.": one [CLS] before, one [SEP] after.

    Returns:
        The captions, padded to the longest, and int64 [P, L], the sentence of each word in its
        group, -1 for what is no word.
    """
    parts = [[item.encoded.shape[1] - 2 for item in group] for group in groups]
    length, first = 2 + max(map(sum, parts)), groups[0][0]
    size = (len(groups), length)
    encoded = first.encoded.new_zeros(*size, first.encoded.shape[2])
    used, positions = first.used.new_zeros(size), first.positions.new_zeros(size)
    attends = torch.eye(length, dtype=torch.bool, device=used.device).repeat(len(groups), 1, 1)
    owner = torch.full(size, -1, device=used.device)
    for row, group in enumerate(groups):
        start = 0
        for place, item in enumerate(group):
            body = slice(int(place > 0), item.encoded.shape[1] - int(place < len(group) - 1))
            own = slice(start, start + body.stop - body.start)
            encoded[row, own], used[row, own] = item.encoded[0, body], item.used[0, body]
            attends[row, own, own] = item.attends[0, body, body]
            positions[row, own] = item.positions[0, body]
            owner[row, own] = torch.where(item.content[0, body], place, -1)
            start = own.stop
    return TextFeatures(encoded, used, attends, positions, owner >= 0), owner


def sentence_scores(logits: Tensor, owner: Tensor, sentences: int, how: str) -> Tensor:
    """Similarity of each box to each whole sentence.

    Args:
        logits: [P, Q, L].
        owner: int64 [P, L], the sentence of each word, -1 for what is no word.
        sentences: S, the most that a caption holds.
        how: ``mean`` or ``max`` over a sentence's words.

    Returns:
        [P, S, Q] in [0, 1]; 0 for a sentence without words.
    """
    words = owner[:, None] == torch.arange(sentences, device=owner.device)[:, None]
    chance = logits.sigmoid().nan_to_num()
    if how == "max":
        return (chance[:, None] * words[:, :, None]).amax(-1)
    total = torch.einsum("pql,psl->psq", chance, words.to(chance.dtype))
    return total / words.sum(-1).clamp(min=1)[..., None]


def load_grounder(config: GroundConfig, device: torch.device) -> GroundingDinoGrounder:
    """The grounder that the configuration names. Raises CheckpointError as ``load_model`` does."""
    model = load_model(config, device)
    if config.attention == "fused":
        fuse_deformable(model)
    if config.compile:
        compile_in_place(model.backbone[0])
    return GroundingDinoGrounder(model, config)


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
    if config.adapter is not None:
        fill_model(decoder_of(model), config.adapter, prefix="decoder.")
    return model.to(device).eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A BERT tokenizer, refused where it takes words for unknown.

    transformers 5 ignores a ``vocab.txt`` that it is handed by file name and then reads every word
    as ``[UNK]``; a model so fed finds objects and never learns which.
    """
    expected = "a folder with config.json and tokenizer.json of BERT's kind"
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
