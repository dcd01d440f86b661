"""Boxes for sentences: the best and its runner-ups, by similarity to the whole sentence.

Letters: B frames, K texts, P pairs of frame and text, Q queries, R ranked boxes of a text, L
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from torch import Tensor
from torchvision.ops import box_convert
from transformers import BertConfig

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError, ConfigError
from pipeline.ports import Grounder, Image
from pipeline.types import Boxes
from stages.common.compilation import compile_in_place, compiled, padded
from stages.common.fitting_batches import FittingBatches
from stages.common.preprocessing import normalise_frames, to_device
from stages.common.tokenizers import load_tokenizer
from stages.common.weights import check_digest, fill_model, resolve_checkpoint
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
from stages.ground.fusion import fold_fusion
from stages.ground.ranked import best_boxes, boxes_of_frames, in_captions
from stages.ground.sentences import as_caption, sentence_scores

_TOKENIZER = "a folder with config.json and tokenizer.json of BERT's kind"
_TOKENIZER_REMEDY = "check ground.text_encoder; `pseudolabels doctor` says where it comes from"


class GroundingDinoGrounder:
    """A :class:`pipeline.ports.Grounder` over a ``GroundingDINO``.

    Every frame and every text is encoded once. The features of texts are kept for the next frames
    of the same texts. The transformer runs over pairs of a frame and a caption, ``batch_pairs`` at
    a time.
    """

    def __init__(self, model: GroundingDINO, config: GroundConfig) -> None:
        self._model = model.eval()
        self._config = config
        self._device = model.feat_map.weight.device
        self._texts: tuple[tuple[str, ...], list[TextFeatures]] = (), []
        remedy = "lower ground.short_side and ground.long_side, or take a device with more memory"
        self._frames = FittingBatches(
            config.batch_frames, "frame", "ground.batch_frames", remedy, whole=config.compile
        )
        self._pairs = FittingBatches(
            config.batch_pairs, "pair of frame and caption", "ground.batch_pairs", remedy
        )

    def _precision(self) -> torch.autocast:
        """Returns the autocast of ``ground.dtype``. Weights stay float32."""
        dtype = getattr(torch, self._config.dtype)
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> tuple[FrameFeatures, tuple[int, int]]:
        """Returns the features of B frames uint8 [H, W, 3] of one size, and (H, W)."""

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
        """Returns, for each of the B frames, the R best boxes of each of the K texts.

        Returns:
            B :class:`Boxes` of at most K * R rows, ordered by text, then by rank.

        Raises:
            ConfigError: the model computed NaN, as float16 does when it overflows.
        """
        frames, (height, width) = cast(tuple[FrameFeatures, tuple[int, int]], embedding)
        encoded = self._encode_texts(texts)
        lengths = [text.encoded.shape[1] - 2 for text in encoded]
        groups = in_captions(lengths, self._model.max_text_len - 2, self._config.joint)
        if not groups:
            return boxes_of_frames((), len(frames), (), self._config)
        captions = [[encoded[row] for row in rows] for rows in groups]
        # Pairs are numbered: all frames with the first caption, then all with the second.
        pair = torch.arange(len(groups) * len(frames), device=self._device)
        frame_of, group_of = pair % len(frames), pair // len(frames)
        most = max(map(len, groups))

        def match(part: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
            mine = slice(part[0], part[-1] + 1)
            first, end = part[0] // len(frames), part[-1] // len(frames) + 1
            joined, owner = join_captions(captions[first:end])
            of = group_of[mine] - first
            asked = joined.take(of, length=owner.shape[1])
            with self._precision():
                last = run_transformer(self._model, frames.take(frame_of[mine]), asked)[-1]
            scores = sentence_scores(last.logits.float(), owner[of], most, self._config)
            corners = box_convert(last.boxes.float(), "cxcywh", "xyxy").clamp(0, 1)
            corners[..., 0::2] *= width
            corners[..., 1::2] *= height
            best = best_boxes(corners, scores, self._config.runner_ups + 1)
            return list(zip(*best, strict=True))

        # The host waits for the device only after the last pass was started.
        found = list(self._pairs.over(range(len(pair)), match))
        return boxes_of_frames(found, len(frames), [len(rows) for rows in groups], self._config)

    def _encode_texts(self, texts: Sequence[str]) -> list[TextFeatures]:
        """Returns the features of each text, which are kept for the next frames of the same texts.

        Texts that were encoded before are encoded again with the new ones. The texts of a batch
        change how the last bits of a feature are rounded, so a resumed run would otherwise end with
        other masks than one that was never interrupted.
        """
        if self._texts[0] == tuple(texts):
            return self._texts[1]

        def encode(part: Sequence[str]) -> list[TextFeatures]:
            with self._precision():
                together = encode_texts(self._model, [as_caption(text) for text in part])
            rows = torch.arange(len(part), device=self._device)
            lengths = together.used.sum(1).tolist()
            return [
                together.take(row[None], length=length)
                for row, length in zip(rows, lengths, strict=True)
            ]

        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, self._pairs.over(distinct, encode), strict=True))
        self._texts = tuple(texts), [known[text] for text in texts]
        return self._texts[1]


def join_captions(groups: Sequence[Sequence[TextFeatures]]) -> tuple[TextFeatures, Tensor]:
    """Joins the sentences of each group, which were encoded alone, into one caption.

    A sentence attends to no other, so its features are those it has alone. The caption is the one
    that groundingdino makes of "first. second. third.": one [CLS] before, one [SEP] after.

    Returns:
        The P captions, padded to the longest, and int64 [P, L], for each token the number of its
        sentence in the group; -1 for a token that is not a word.
    """
    parts = [[item.encoded.shape[1] - 2 for item in group] for group in groups]
    length, first = 2 + max(map(sum, parts)), groups[0][0]
    size = (len(groups), length)
    encoded = first.encoded.new_zeros(*size, first.encoded.shape[2])
    used, positions = first.used.new_zeros(size), first.positions.new_zeros(size)
    ids = first.ids.new_zeros(size)
    attends = torch.eye(length, dtype=torch.bool, device=used.device).repeat(len(groups), 1, 1)
    owner = torch.full(size, -1, device=used.device)
    for row, group in enumerate(groups):
        start = 0
        for place, item in enumerate(group):
            body = slice(int(place > 0), item.encoded.shape[1] - int(place < len(group) - 1))
            own = slice(start, start + body.stop - body.start)
            encoded[row, own], used[row, own] = item.encoded[0, body], item.used[0, body]
            attends[row, own, own] = item.attends[0, body, body]
            positions[row, own], ids[row, own] = item.positions[0, body], item.ids[0, body]
            owner[row, own] = torch.where(item.content[0, body], place, -1)
            start = own.stop
    return TextFeatures(encoded, used, attends, positions, owner >= 0, ids), owner


def load_grounder(config: GroundConfig, device: torch.device) -> Grounder:
    """Returns the grounder that the configuration names.

    Raises:
        CheckpointError: as :func:`load_model`.
    """
    if config.source == "mllm":
        from stages.ground.mllm import load_mllm_grounder

        return load_mllm_grounder(config, device)
    if config.backbone == "transformers":
        from stages.ground.transformers_grounder import load_transformers_grounder

        return load_transformers_grounder(config, device)
    return GroundingDinoGrounder(prepare(load_model(config, device), config), config)


def prepare(model: GroundingDINO, config: GroundConfig) -> GroundingDINO:
    """Changes a model in place to the attention of a configuration.

    If the configuration says so, the image backbone is compiled when it is first used.

    Returns:
        The same model.
    """
    if config.attention == "fused":
        fuse_deformable(model)
        fold_fusion(model)
    if config.compile:
        compile_in_place(model.backbone[0])
    return model


def load_model(config: GroundConfig, device: torch.device) -> GroundingDINO:
    """Builds the model that the configuration names and loads its weights.

    Raises:
        CheckpointError: weights or tokenizer are missing, damaged or of another model.
        ConfigError: it is a model of transformers, or a multimodal language model.
    """
    if config.backbone == "transformers" or config.source == "mllm":
        raise ConfigError(
            f"ground.source={config.source!r}, ground.backbone={config.backbone!r}: the students"
            " grounded and groprompt need the model of groundingdino itself; set ground.backbone"
            " and ground.checkpoint to one, or take another student"
        )
    path = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    if config.backbone == "demo":
        if not path.is_dir():
            raise CheckpointError(
                path, "a file", "the folder that holds it and its tokenizer", f"give {path.parent}"
            )
        tokenizer = load_tokenizer(path, _TOKENIZER, _TOKENIZER_REMEDY)
        model, weights = build_demo(tokenizer), path / "model.safetensors"
    else:
        if config.text_encoder is None:
            raise CheckpointError(
                path,
                "ground.text_encoder is not set",
                "the folder of bert-base-uncased (config.json and tokenizer files)",
                "set ground.text_encoder in the configuration",
            )
        tokenizer = load_tokenizer(config.text_encoder, _TOKENIZER, _TOKENIZER_REMEDY)
        bert = BertConfig.from_pretrained(config.text_encoder, local_files_only=True)
        model, weights = build_published(config.backbone, tokenizer, bert), path
    fill_model(model, weights, ignore=("bert.embeddings.position_ids", "label_enc.weight"))
    if config.adapter is not None:
        fill_model(decoder_of(model), config.adapter, prefix="decoder.")
    return model.to(device).eval()
