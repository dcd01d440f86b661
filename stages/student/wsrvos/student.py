"""WSRVOS as a :class:`~stages.student.contract.Student`: its loss and its masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import WsrvosConfig
from stages.common.losses import mask_losses
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, distinct_frames, prepare_frames
from stages.student.simrvos.model import ImageEncoder, TextEncoder
from stages.student.wsrvos.classification import (
    Role,
    classification_loss,
    expression_scores,
)
from stages.student.wsrvos.fusion import fuse_positives, pseudo_masks
from stages.student.wsrvos.model import Response, WsrvosNetwork
from stages.student.wsrvos.ranking import ranking_loss


class Wsrvos(WsrvosNetwork, Student):
    """A student that learns from text, and optionally from masks.

    The loss of a clip is L_cls + 2 (L_focal + L_dice) + L_tmp, with the weights of the
    configuration.

    Args:
        image_encoder: returns at least two maps.
        text_encoder: frozen; its weights are not parameters of this module.
        config: which parts are on, and weights of the loss.
        channels: C, a multiple of 8.
        short_side: pixels that a frame's short side is resized to.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        config: WsrvosConfig,
        *,
        channels: int,
        short_side: int,
    ) -> None:
        super().__init__(image_encoder, text_encoder, config, channels)
        self._config, self._short_side = config, short_side
        if config.freeze and isinstance(image_encoder, nn.Module):
            image_encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Wsrvos:
        """Sets the mode. A frozen image encoder stays in evaluation mode."""
        super().train(mode)
        if self._config.freeze and isinstance(self.image_encoder, nn.Module):
            self.image_encoder.eval()
        return self

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms ``classification``, ``mask`` and ``ranking``, with their weights.

        They are sums over the clips, divided by the number of clips of the whole step. A term that
        is off is left out.

        Args:
            clips: frame sizes may differ.
            step: size of the whole step.
            epoch: from 0. Before ``warm_up``, the student's own pseudo-masks do not count.
        """
        totals: dict[str, Tensor] = {}
        for group in by_size(clips):
            for terms in self._losses(group, epoch):
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value / step.clips
        return totals

    @torch.no_grad()
    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [E, T, h_1, w_1] of E sentences in T frames uint8 [T, H, W, 3].

        Without refinement they are those of the proposals, [E, T, h, w].
        """
        frames = len(images)
        prepared = prepare_frames(images, self._short_side)
        encoded = self.encode(prepared, texts, [frames], frozen=True)
        (response,) = self.respond(encoded, [(slice(0, frames), texts)])
        return self.masks(response, self.features(encoded), slice(None))

    def _losses(self, clips: Sequence[Clip], epoch: int) -> list[dict[str, Tensor]]:
        """The weighted terms of each of some clips of one frame size."""
        device = self.text_in.weight.device
        images, rows, lengths = distinct_frames(clips)
        shown = torch.from_numpy(images).to(device)
        prepared = prepare_frames(shown, self._short_side)
        texts = [expressions_of(clip) for clip in clips]
        counts = [len(clip.images) for clip in clips]
        stops = np.cumsum(counts).tolist()
        firsts = [rows[stop - count] for stop, count in zip(stops, counts, strict=True)]
        parts = [slice(first, first + n) for first, n in zip(firsts, counts, strict=True)]
        distinct = [text for several in texts for text in several]
        encoded = self.encode(prepared, distinct, lengths, frozen=self._config.freeze)
        found = self.respond(encoded, list(zip(parts, texts, strict=True)))
        features = self.features(encoded)
        return [
            self._clip_losses(clip, response, None if features is None else features[part], epoch)
            for clip, response, part in zip(clips, found, parts, strict=True)
        ]

    def _clip_losses(
        self, clip: Clip, response: Response, features: Tensor | None, epoch: int
    ) -> dict[str, Tensor]:
        config, terms = self._config, {}
        device = response.which.device
        if config.classification:
            roles = self._roles(clip, device)
            apart = roles if config.rivals == "negatives" else None
            scores = expression_scores(response.which, response.where, apart)
            loss = classification_loss(scores, roles != Role.NEGATIVE)
            terms["classification"] = config.classification_weight * loss
        rows = slice(0, 1 + len(clip.positives))
        confidence = response.which.new_tensor([1.0, *(value for _, value in clip.positives)])
        masks = self.masks(response, features, rows)
        fused = self._fused(response.coarse[rows], confidence)
        terms["mask"] = config.mask_weight * (
            self._own_mask_loss(clip, masks, fused, epoch) + self._given_mask_loss(clip, masks)
        )
        if config.ranking:
            fused = self._fused(masks, confidence)
            terms["ranking"] = config.ranking_weight * ranking_loss(fused, config.tolerance)
        return terms

    def _roles(self, clip: Clip, device: torch.device) -> Tensor:
        """Of :func:`expressions_of`, int64 [E]."""
        elsewhere = Role.ELSEWHERE if self._config.elsewhere else Role.NEGATIVE
        roles = [
            *[Role.POSITIVE] * (1 + len(clip.positives)),
            *[Role.NEGATIVE] * len(clip.negatives),
            *[elsewhere] * len(clip.elsewhere),
        ]
        return torch.tensor(roles, device=device)

    def _fused(self, logits: Tensor, confidence: Tensor) -> Tensor:
        """Fuses logits [K, T, h, w] to [T, h, w]; without fusion, returns the original's."""
        return fuse_positives(logits, confidence) if self._config.fusion else logits[0]

    def _own_mask_loss(self, clip: Clip, logits: Tensor, fused: Tensor, epoch: int) -> Tensor:
        """Returns L_focal + L_dice of every positive's masks against the student's pseudo-masks.

        As in the paper, the pseudo-masks are made from the response that L_cls teaches. They teach
        the response too: it becomes more confident where the positives agree. Its scale keeps it
        from growing (:attr:`Response.coarse`).
        """
        if epoch < self._config.warm_up:
            return fused.sum() * 0
        upper = F.interpolate(
            fused[:, None], logits.shape[-2:], mode="bilinear", align_corners=False
        )
        target = pseudo_masks(upper[:, 0], self._config.threshold)
        wanted = ~_given(clip)
        if self._config.targets != "given":
            wanted = np.ones_like(wanted)
        return _mean_loss(logits, target, torch.from_numpy(wanted).to(logits))

    def _given_mask_loss(self, clip: Clip, logits: Tensor) -> Tensor:
        """Returns L_focal + L_dice of every positive's masks against the clip's, weighted."""
        given = _given(clip)
        if self._config.targets == "own" or not given.any():
            return logits.new_zeros(())
        masks = torch.from_numpy(clip.mask).to(logits.device)
        share = F.interpolate(masks[:, None].float(), logits.shape[-2:], mode="area")[:, 0]
        weight = torch.from_numpy(clip.weight * given).to(logits.device)
        return _mean_loss(logits, share > 0.5, weight)


def _given(clip: Clip) -> NDArray[np.bool_]:
    """Returns which frames have known masks, bool [T]."""
    return np.array([item.kind in ("mask", "absent") for item in clip.supervision])


def _mean_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Returns the weighted mean of the mask loss over K positives and T frames.

    Args:
        logits: [K, T, h, w].
        target: bool [T, h, w].
        weight: [T].
    """
    each = [mask_losses(row, target, 1.0, 1.0) for row in logits]
    return (weight * torch.stack(each)).mean()


def expressions_of(clip: Clip) -> list[str]:
    """The sentence, its other positives, its negatives, those that are true of something else:
    what the rows of a clip stand for."""
    return [
        clip.text,
        *(text for text, _ in clip.positives),
        *clip.negatives,
        *clip.elsewhere,
    ]
