"""The frozen grounder for a student that chooses among its instances.

Letters: T frames, S sentences that share a pass, Q queries, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import GroundConfig
from stages.common.instances import Instances
from stages.common.preprocessing import normalise_frames
from stages.common.text_cache import KnownTexts
from stages.ground.architecture import (
    FrameFeatures,
    TextFeatures,
    encode_frames,
    encode_texts,
    run_transformer,
)
from stages.ground.grounder import join_captions
from stages.ground.sentences import as_caption, sentence_scores

_CACHED_TEXTS = 4096


class QueryProposer:
    """A :class:`stages.common.instances.InstanceProposer`: the queries of a grounder's decoder.

    The sentences of a pass share its queries, so a frame goes through the transformer once for all
    of them.

    Args:
        model: on its device, frozen here.
        config: sizes of frames, score of sentences, sentences and pairs in one pass.
        kept: Q; of the model's queries, those that fit any of the sentences best.
    """

    def __init__(self, model: GroundingDINO, config: GroundConfig, kept: int) -> None:
        self._model = model.eval().requires_grad_(False)
        self._config, self._kept = config, kept
        self._known: KnownTexts[TextFeatures] = KnownTexts(_CACHED_TEXTS)
        self.channels: int = model.hidden_dim
        self.embedding: int = model.bert.embeddings.word_embeddings.embedding_dim
        self.levels: int = model.num_feature_levels
        self.together: int = config.joint

    @torch.no_grad()
    def look(
        self, images: Tensor, groups: Sequence[Sequence[str]]
    ) -> tuple[Sequence[Tensor], list[Instances]]:
        """Returns the projected maps of frames uint8 [T, H, W, 3], and each group's instances."""
        device = self._model.feat_map.weight.device
        shown = normalise_frames(images.to(device), self._config.short_side, self._config.long_side)
        frames = encode_frames(self._model, shown)
        return frames.maps, [self._instances(frames, texts) for texts in groups]

    def _instances(self, frames: FrameFeatures, texts: Sequence[str]) -> Instances:
        """Returns the Q queries of each frame that fit any of S sentences best."""
        said = self._known.of(texts, self._encode)
        joined, owner = join_captions([said])
        features, boxes, scores = [], [], []
        for start in range(0, len(frames), self._config.batch_pairs):
            part = torch.arange(start, min(start + self._config.batch_pairs, len(frames)))
            row = torch.zeros(len(part), dtype=torch.long, device=owner.device)
            captions = joined.take(row, length=owner.shape[1])
            last = run_transformer(self._model, frames.take(part.to(owner.device)), captions)[-1]
            fit = sentence_scores(last.logits.float(), owner[row], len(texts), self._config)
            kept = fit.amax(1).topk(min(self._kept, fit.shape[-1])).indices
            features.append(_rows(last.hidden.float(), kept))
            boxes.append(_rows(last.boxes.float(), kept))
            scores.append(fit.gather(2, kept[:, None].expand(-1, len(texts), -1)))
        return Instances(
            torch.cat(features),
            torch.cat(boxes),
            torch.cat(scores).transpose(0, 1),
            torch.stack([_mean(item.encoded[0], item.content[0]) for item in said]),
            torch.stack([self._words(item) for item in said]),
        )

    def _words(self, text: TextFeatures) -> Tensor:
        """Returns the sum of the embeddings [W] of one sentence's words, each of unit variance."""
        table = self._model.bert.embeddings.word_embeddings.weight
        words = F.normalize(table[text.ids[0, text.content[0]]], dim=-1).sum(0)
        return words * math.sqrt(self.embedding)

    def _encode(self, text: str) -> TextFeatures:
        return encode_texts(self._model, [as_caption(text)])


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """Returns values [P, Q, C] at rows [P, q]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def _mean(features: Tensor, used: Tensor) -> Tensor:
    """Returns the mean [C] of features [L, C] where ``used`` [L] is True; 0 if it never is."""
    mean: Tensor = features[used].sum(0) / used.sum().clamp(min=1)
    return mean
