"""ReferFormer (arXiv 2201.00487): the sentence is the query of a deformable transformer.

Every frame has the same Q queries. A query is the same object in all frames of a clip, so choosing
a query chooses a track. The transformer's layers are those of ``transformers``.

Letters: N frames (of several clips, one sentence each), L words, C channels, Q queries, Y layers of
the decoder, n numbers of a query's dynamic filters, h w cells of the finest map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import MLP
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr import modeling_deformable_detr

from pipeline.config import ReferformerConfig
from stages.student.referformer.fusion import CrossModalPyramid, Fusion
from stages.student.simrvos.model import (
    ImageEncoder,
    TextEncoder,
    feature_maps,
    positions,
    read_sentences,
)
from stages.student.weak.blcl import ContrastiveFeatures
from stages.student.weak.filters import DynamicFilters, with_coordinates
from stages.student.weak.segmented import Segmented

_PRIOR = 0.01
"""First score of every query, so that the many that are not the target cost little."""
_FILTER_LAYERS = 3


@dataclass(frozen=True)
class Decoded:
    """The queries of N frames, after each layer of the decoder.

    Attributes:
        scores: logits [Y, N, Q], whether a query is the sentence's target.
        boxes: [Y, N, Q, 4], centre x, centre y, width, height in [0, 1] of the frame.
        centres: [Y, N, Q, 2], origin of the coordinates of a query's filters.
        theta: [Y, N, Q, n], a query's dynamic filters.
        features: [N, C, h, w], which the filters are applied to.
        sentence: [N, C].
        contrast: [N, C, h, w], H of BLCL; None without it.
        filters: the shape of theta.
    """

    scores: Tensor
    boxes: Tensor
    centres: Tensor
    theta: Tensor
    features: Tensor
    sentence: Tensor
    contrast: Tensor | None
    filters: DynamicFilters

    def segmented(self, layer: int, query: Tensor) -> Segmented:
        """Returns the masks of one query of each frame, int64 [N], after a layer."""
        rows = torch.arange(len(query), device=query.device)
        theta = self.theta[layer][rows, query]
        cells = with_coordinates(self.features, self.centres[layer][rows, query])
        logits = self.filters.masks(cells, theta)
        return Segmented(logits, cells, theta, self.filters, self.sentence, self.contrast)


class ReferFormerNetwork(nn.Module):
    """Computes queries with scores, boxes and masks from frames and sentences.

    Args:
        image_encoder: returns at least two maps.
        text_encoder: frozen; its weights are not parameters of this module.
        config: sizes of the transformer, and whether it has the layers of BLCL.
        channels: C.
    """

    _text_encoder: TextEncoder

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        config: ReferformerConfig,
        channels: int,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        object.__setattr__(self, "_text_encoder", text_encoder)
        counts = list(image_encoder.channels)
        # The transformer has all maps but the finest, and one that is coarser than all.
        self.visual_in = nn.ModuleList(_projection(count, channels, 1) for count in counts[1:])
        self.coarser_in = _projection(counts[-1], channels, 3)
        levels = len(counts)
        self.text_in = nn.Sequential(
            nn.Linear(text_encoder.channels, channels), nn.LayerNorm(channels)
        )
        self.fusion = Fusion(channels, config.heads)
        self.level = nn.Parameter(torch.randn(levels, channels))
        shape = _shape_of(config, channels, levels)
        layers: Any = modeling_deformable_detr
        self.encoder: Any = layers.DeformableDetrEncoder(shape)
        self.decoder: Any = layers.DeformableDetrDecoder(shape)
        self.queries = nn.Parameter(torch.randn(config.queries, channels))
        self.reference = nn.Linear(channels, 2)
        self.score = nn.ModuleList(nn.Linear(channels, 1) for _ in range(config.decoder_layers))
        # The decoder refines boxes with these, layer by layer.
        self.decoder.bbox_embed = nn.ModuleList(
            MLP(channels, [channels, channels, 4]) for _ in range(config.decoder_layers)
        )
        self.pyramid = CrossModalPyramid(
            counts[0], levels - 1, channels, config.heads, config.feedforward
        )
        self.filters = DynamicFilters(channels + 2, _FILTER_LAYERS)
        self.controller = MLP(channels, [channels, channels, self.filters.count])
        self._initialise()
        # Made last: what comes before starts from the same weights with it and without.
        self.contrastive = ContrastiveFeatures(channels) if config.blcl else None

    @torch.no_grad()
    def _initialise(self) -> None:
        for score in self.score:
            assert isinstance(score, nn.Linear)
            nn.init.constant_(score.bias, -math.log((1 - _PRIOR) / _PRIOR))
        for number, boxes in enumerate(self.decoder.bbox_embed):
            last = [layer for layer in boxes if isinstance(layer, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if number == 0:
                last.bias[2:] = -2.0  # boxes start at an eighth of the frame's sides

    def look(
        self,
        images: Tensor,
        texts: Sequence[str],
        rows: Sequence[int],
        frames: Sequence[int],
        clips: Sequence[int],
    ) -> Decoded:
        """Returns the queries of N frames with a sentence each.

        Args:
            images: [M, 3, H, W], normalised. Each is encoded once, for all of its sentences.
            texts: N sentences.
            rows: row of each sentence's image.
            frames: lengths of the images' clips, as in ``feature_maps``; their sum is M.
            clips: lengths of the clips with one sentence; their sum is N.
        """
        words, usable, sentence = read_sentences(
            self._text_encoder, self.text_in, texts, images.device
        )
        picked = torch.tensor(rows, device=images.device)
        maps = [level[picked] for level in feature_maps(self.image_encoder, images, frames)]
        levels = [layer(level) for layer, level in zip(self.visual_in, maps[1:], strict=True)]
        levels.append(self.coarser_in(maps[-1]))
        memory, states, references = self._transform(levels, words, usable, sentence)
        finer = [maps[0], *memory[: len(maps) - 1]]
        features, contrast = self.pyramid(finer, words, usable, clips), None
        if self.contrastive is not None:
            contrast, features = self.contrastive(features)
        scores = torch.stack(
            [layer(state)[..., 0] for layer, state in zip(self.score, states, strict=True)]
        )
        boxes, centres = self._boxes(states, references)
        theta = self.controller(states)
        return Decoded(scores, boxes, centres, theta, features, sentence, contrast, self.filters)

    def _transform(
        self, levels: Sequence[Tensor], words: Tensor, usable: Tensor, sentence: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Returns the encoder's maps, the queries [Y, N, Q, C] after each layer, and the reference
        points [Y + 1, N, Q, 2 or 4] before the first and after each."""
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        cells = [self.fusion(level.flatten(2).transpose(1, 2), words, usable) for level in levels]
        places = [
            positions(*size, level.shape[1], level) + own
            for size, level, own in zip(sizes, levels, self.level, strict=True)
        ]
        frames, device = len(sentence), sentence.device
        lengths = [height * width for height, width in sizes]
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        about: dict[str, Any] = {
            "spatial_shapes": torch.tensor(sizes, device=device),
            "spatial_shapes_list": sizes,
            "level_start_index": torch.tensor(starts, device=device),
            "valid_ratios": sentence.new_ones(frames, len(sizes), 2),
        }
        memory: Tensor = self.encoder(
            inputs_embeds=torch.cat(cells, 1),
            spatial_position_embeddings=torch.cat(places, 1).expand(frames, -1, -1),
            **about,
        ).last_hidden_state
        first = self.reference(self.queries).sigmoid().expand(frames, -1, -1)
        found = self.decoder(
            inputs_embeds=sentence[:, None].expand(-1, len(self.queries), -1),
            encoder_hidden_states=memory,
            object_queries_position_embeddings=self.queries.expand(frames, -1, -1),
            reference_points=first,
            **about,
        )
        maps = [
            part.transpose(1, 2).unflatten(2, size)
            for part, size in zip(memory.split(lengths, 1), sizes, strict=True)
        ]
        states = found.intermediate_hidden_states.transpose(0, 1)
        later = found.intermediate_reference_points.transpose(0, 1)
        centre = first.new_zeros(1, *later.shape[1:])
        centre[0, ..., :2] = first
        return maps, states, torch.cat([centre, later])

    def _boxes(self, states: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes [Y, N, Q, 4] and the origins of the filters' coordinates [Y, N, Q, 2]."""
        found = []
        for number, (layer, state) in enumerate(zip(self.decoder.bbox_embed, states, strict=True)):
            moved = layer(state)
            # Before the first layer, a reference is a point, which says nothing of a box's sides.
            known = torch.logit(references[number], eps=1e-5)
            if number == 0:
                known = torch.cat([known[..., :2], torch.zeros_like(known[..., 2:])], -1)
            found.append((moved + known).sigmoid())
        return torch.stack(found), references[1:, ..., :2]


def _projection(given: int, channels: int, kernel: int) -> nn.Sequential:
    """A 1 x 1 convolution, or one of 3 x 3 that halves the sides."""
    stride = 1 if kernel == 1 else 2
    return nn.Sequential(
        nn.Conv2d(given, channels, kernel, stride, kernel // 2), nn.GroupNorm(8, channels)
    )


def _shape_of(config: ReferformerConfig, channels: int, levels: int) -> DeformableDetrConfig:
    """Without dropout, so that a resumed training on several processes stays exact."""
    return DeformableDetrConfig(
        d_model=channels,
        num_feature_levels=levels,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads,
        encoder_n_points=config.points,
        decoder_n_points=config.points,
        encoder_ffn_dim=config.feedforward,
        decoder_ffn_dim=config.feedforward,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
