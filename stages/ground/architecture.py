"""Builds groundingdino's ``GroundingDINO`` and runs it in parts.

The package's ``forward`` runs backbone, text encoder and transformer together. Here they are called
separately, so that a frame's features are used for every sentence, and a sentence's for every
frame. The package's ``BertModelWarper`` does not work with transformers 5. :class:`TextEncoder`
replaces it under the same parameter names, so that published checkpoints load.

Letters: B frames, P pairs of frame and sentence, L tokens, Q queries, C channels (256).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from groundingdino.models.GroundingDINO import groundingdino as package
from groundingdino.models.GroundingDINO.backbone.backbone import Joiner, build_backbone
from groundingdino.models.GroundingDINO.backbone.position_encoding import build_position_encoding
from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer
from groundingdino.models.GroundingDINO.bertwarper import (
    generate_masks_with_special_tokens_and_transfer_map,
)
from groundingdino.models.GroundingDINO.transformer import build_transformer
from groundingdino.util.misc import NestedTensor, inverse_sigmoid
from groundingdino.util.slconfig import SLConfig
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_COMMON: dict[str, Any] = {
    "position_embedding": "sine",
    "pe_temperatureH": 20,
    "pe_temperatureW": 20,
    "backbone_freeze_keywords": None,
    "pre_norm": False,
    "hidden_dim": 256,
    "dropout": 0.0,
    "nheads": 8,
    "query_dim": 4,
    "num_patterns": 0,
    "enc_n_points": 4,
    "dec_n_points": 4,
    "two_stage_type": "standard",
    "two_stage_bbox_embed_share": False,
    "two_stage_class_embed_share": False,
    "transformer_activation": "relu",
    "dec_pred_bbox_embed_share": True,
    "embed_init_tgt": True,
    "max_text_len": 256,
    "use_text_enhancer": True,
    "use_fusion_layer": True,
    "use_checkpoint": False,
    "use_transformer_ckpt": False,
    "use_text_cross_attention": True,
    "text_dropout": 0.0,
    "fusion_dropout": 0.0,
    "fusion_droppath": 0.1,
    "sub_sentence_present": True,
}
"""What the published configurations of groundingdino agree on."""

_PUBLISHED: dict[str, Any] = {
    "enc_layers": 6,
    "dec_layers": 6,
    "dim_feedforward": 2048,
    "num_queries": 900,
    "num_feature_levels": 4,
    "return_interm_indices": [1, 2, 3],
}
_DEMO: dict[str, Any] = {
    "enc_layers": 1,
    "dec_layers": 2,
    "dim_feedforward": 512,
    "num_queries": 12,
    "num_feature_levels": 2,
    "fusion_droppath": 0.0,
}
DEMO_BERT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class FrameFeatures:
    """Projected backbone features of B frames of one size. They do not depend on any text.

    Attributes:
        maps: [B, C, h, w] per feature level.
        masks: bool [B, h, w] per level, True for padding.
        positions: [B, C, h, w] per level.
    """

    maps: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    positions: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.maps[0])

    def take(self, rows: Tensor) -> FrameFeatures:
        """Returns these rows. A row may be repeated."""
        return FrameFeatures(
            tuple(item[rows] for item in self.maps),
            tuple(item[rows] for item in self.masks),
            tuple(item[rows] for item in self.positions),
        )


def join_frames(parts: Sequence[FrameFeatures]) -> FrameFeatures:
    """Concatenates features of frames of one size."""
    if len(parts) == 1:
        return parts[0]
    return FrameFeatures(
        tuple(torch.cat(level) for level in zip(*(part.maps for part in parts), strict=True)),
        tuple(torch.cat(level) for level in zip(*(part.masks for part in parts), strict=True)),
        tuple(torch.cat(level) for level in zip(*(part.positions for part in parts), strict=True)),
    )


@dataclass(frozen=True)
class TextFeatures:
    """Encoded captions. They do not depend on any image.

    Attributes:
        encoded: [P, L, C].
        used: bool [P, L], False for padding.
        attends: bool [P, L, L], which tokens attend to each other: those of one sub-sentence.
        positions: int64 [P, L], position within the sub-sentence.
        content: bool [P, L], whether a token is a word: no special token, no full stop.
        ids: int64 [P, L], the tokens.
    """

    encoded: Tensor
    used: Tensor
    attends: Tensor
    positions: Tensor
    content: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.encoded)

    def take(self, rows: Tensor, length: int | None = None) -> TextFeatures:
        """Returns these rows, cut to their longest caption.

        Args:
            length: of the longest caption; None reads it from the device, which waits.
        """
        used = self.used[rows]
        length = int(used.sum(1).max()) if length is None else length
        return TextFeatures(
            self.encoded[rows, :length],
            used[:, :length],
            self.attends[rows, :length, :length],
            self.positions[rows, :length],
            self.content[rows, :length],
            self.ids[rows, :length],
        )


@dataclass(frozen=True)
class Predictions:
    """Predictions for P pairs.

    Attributes:
        logits: [P, Q, L], similarity of a query to each token; -inf at padding.
        boxes: [P, Q, 4], centre x, centre y, width, height in [0, 1] of the frame.
        hidden: [P, Q, C], what both were computed from.
    """

    logits: Tensor
    boxes: Tensor
    hidden: Tensor


class TextEncoder(nn.Module):
    """BERT with the parameter names of groundingdino's checkpoints (``bert.embeddings.*`` ...).

    The attention mask is [B, L, L]: a token attends only to its own sub-sentence.
    """

    def __init__(self, bert_model: BertModel) -> None:
        super().__init__()
        self.config = bert_model.config
        self.embeddings = bert_model.embeddings
        self.encoder = bert_model.encoder
        self.pooler = bert_model.pooler
        object.__setattr__(self, "_bert", bert_model)  # not a submodule: its keys would double

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **_: Tensor
    ) -> dict[str, Tensor]:
        output = cast(BertModel, self._bert)(
            input_ids=input_ids,
            attention_mask=attention_mask[:, None].bool(),
            position_ids=position_ids,
        )
        return {"last_hidden_state": output.last_hidden_state}


def build_demo(tokenizer: PreTrainedTokenizerBase) -> package.GroundingDINO:
    """Returns the demo model: the published classes in a small size, about 4 million parameters."""
    args = SLConfig(_COMMON | _DEMO)
    swin = build_demo_swin(out_indices=(1, 2))
    joiner = Joiner(swin, build_position_encoding(args))
    joiner.num_channels = swin.num_features[1:]
    bert = BertConfig(vocab_size=len(tokenizer), **DEMO_BERT)
    return _assemble(args, joiner, tokenizer, bert)


def build_demo_swin(out_indices: tuple[int, ...]) -> SwinTransformer:
    """Returns the demo model's backbone, with these of its maps at strides 4, 8 and 16."""
    return SwinTransformer(
        embed_dim=32,
        depths=[1, 2, 2],
        num_heads=[2, 4, 8],
        window_size=6,
        drop_path_rate=0.0,
        out_indices=out_indices,
    )


def build_published(
    backbone: str, tokenizer: PreTrainedTokenizerBase, bert: BertConfig
) -> package.GroundingDINO:
    """Returns a model for published weights.

    Args:
        backbone: ``swin_T_224_1k`` or ``swin_B_384_22k``.
        tokenizer: tokenizer of bert-base-uncased.
        bert: configuration of bert-base-uncased.
    """
    args = SLConfig(_COMMON | _PUBLISHED | {"backbone": backbone})
    return _assemble(args, build_backbone(args), tokenizer, bert)


def _assemble(
    args: Any, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase, bert: BertConfig
) -> package.GroundingDINO:
    with _text_encoder_in_place(tokenizer, bert):
        return package.GroundingDINO(
            backbone,
            build_transformer(args),
            num_queries=args.num_queries,
            aux_loss=True,
            iter_update=True,
            query_dim=args.query_dim,
            num_feature_levels=args.num_feature_levels,
            nheads=args.nheads,
            dec_pred_bbox_embed_share=args.dec_pred_bbox_embed_share,
            two_stage_type=args.two_stage_type,
            two_stage_bbox_embed_share=args.two_stage_bbox_embed_share,
            two_stage_class_embed_share=args.two_stage_class_embed_share,
            dn_number=0,
            text_encoder_type="given",
            sub_sentence_present=args.sub_sentence_present,
            max_text_len=args.max_text_len,
        )


@contextlib.contextmanager
def _text_encoder_in_place(tokenizer: PreTrainedTokenizerBase, bert: BertConfig) -> Iterator[None]:
    """Makes the constructor use this tokenizer and our encoder; it would load its own by name."""

    class Given:
        get_tokenlizer = staticmethod(lambda _: tokenizer)
        get_pretrained_language_model = staticmethod(lambda _: BertModel(bert))

    kept = package.get_tokenlizer, package.BertModelWarper
    package.get_tokenlizer, package.BertModelWarper = Given, TextEncoder
    try:
        yield
    finally:
        package.get_tokenlizer, package.BertModelWarper = kept


def encode_frames(model: package.GroundingDINO, images: Tensor) -> FrameFeatures:
    """Runs backbone and projection on B normalised frames of one size, [B, 3, H, W]."""
    padded = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool, device=images.device)
    features, positions = model.backbone(NestedTensor(images, padded))
    maps = [
        project(item.tensors) for project, item in zip(model.input_proj, features, strict=False)
    ]
    masks = [item.mask for item in features]
    for level in range(len(maps), model.num_feature_levels):
        source = features[-1].tensors if level == len(features) else maps[-1]
        extra = model.input_proj[level](source)
        mask = torch.zeros(extra.shape[0], *extra.shape[2:], dtype=torch.bool, device=extra.device)
        positions.append(model.backbone[1](NestedTensor(extra, mask)).to(extra.dtype))
        maps.append(extra)
        masks.append(mask)
    return FrameFeatures(tuple(maps), tuple(masks), tuple(positions))


def encode_texts(model: package.GroundingDINO, captions: Sequence[str]) -> TextFeatures:
    """Tokenises and encodes captions, each of which ends in a full stop.

    A caption longer than the model's limit of 256 tokens is cut, with a warning. Words of a
    sentence past the text encoder's last position (63 in the demo model) share that position.
    """
    # The package's function looks at every token by itself, which is slow across to a GPU.
    tokenized = model.tokenizer(
        list(captions), padding="longest", return_tensors="pt", verbose=False
    )
    attends, positions, _ = generate_masks_with_special_tokens_and_transfer_map(
        tokenized, model.specical_tokens, model.tokenizer
    )
    limit = model.max_text_len
    for caption, length in zip(captions, tokenized["attention_mask"].sum(1).tolist(), strict=True):
        if length > limit:
            logger.warning(
                "the grounder reads %d of the %d tokens of %r; what is behind them does not count;"
                " shorten the sentence",
                limit,
                length,
                caption[:80],
            )
    ids = tokenized["input_ids"][:, :limit]
    attends, positions = attends[:, :limit, :limit], positions[:, :limit]
    positions = positions.clamp(max=model.bert.config.max_position_embeddings - 1)
    used = tokenized["attention_mask"][:, :limit].bool()
    content = used & ~torch.isin(ids, torch.tensor(model.specical_tokens))
    device = model.feat_map.weight.device
    ids, attends, positions, used, content = (
        each.to(device) for each in (ids, attends, positions, used, content)
    )
    hidden = model.bert(input_ids=ids, attention_mask=attends, position_ids=positions)
    encoded = model.feat_map(hidden["last_hidden_state"])
    return TextFeatures(encoded, used, attends, positions, content, ids)


def _masks_by_head(model: package.GroundingDINO, attends: Tensor) -> Tensor:
    """Returns self-attention masks in PyTorch's order, caption by caption: [P * heads, L, L].

    The package repeats [P, L, L] in the wrong order, so that captions of a batch would get each
    other's masks. It does not change masks that are already repeated.
    """
    return attends.repeat_interleave(model.nheads // 2, dim=0)


def run_transformer(
    model: package.GroundingDINO, frames: FrameFeatures, texts: TextFeatures
) -> list[Predictions]:
    """Runs the transformer on P pairs: row p of the frames with row p of the texts.

    Returns:
        The encoder's proposals, then each decoder layer's predictions; the last is the model's.
    """
    text = {
        "encoded_text": texts.encoded,
        "text_token_mask": texts.used,
        "position_ids": texts.positions,
        "text_self_attention_masks": _masks_by_head(model, texts.attends),
    }
    hidden, references, proposal_hidden, proposal_boxes, _ = model.transformer(
        list(frames.maps), list(frames.masks), None, list(frames.positions), None, None, text
    )
    length = texts.encoded.shape[1]
    first = model.transformer.enc_out_class_embed(proposal_hidden[-1], text)[..., :length]
    found = [Predictions(first, proposal_boxes[-1], proposal_hidden[-1])]
    for reference, box_head, class_head, layer in zip(
        references[:-1], model.bbox_embed, model.class_embed, hidden, strict=True
    ):
        boxes = (box_head(layer) + inverse_sigmoid(reference)).sigmoid()
        found.append(Predictions(class_head(layer, text)[..., :length], boxes, layer))
    return found


def decoder_of(model: package.GroundingDINO) -> nn.ModuleDict:
    """Returns the cross-modality decoder of a model, as a module of the model's own modules.

    It holds the layers, the norm, the head that turns references into query positions, and the box
    head that all layers share.
    """
    decoder = model.transformer.decoder
    return nn.ModuleDict(
        {
            "layers": decoder.layers,
            "norm": decoder.norm,
            "references": decoder.ref_point_head,
            "boxes": model.bbox_embed[0],
        }
    )
