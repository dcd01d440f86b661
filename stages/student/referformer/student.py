"""ReferFormer as a :class:`~stages.student.contract.Student`: its network, its loss, its masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config import ReferformerStudentConfig
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, distinct_frames, prepare_frames
from stages.student.referformer.losses import box_losses, score_losses
from stages.student.referformer.matching import TargetBoxes, matched_queries
from stages.student.referformer.network import ReferFormerNetwork
from stages.student.weak.losses import loss_terms, resize_logits, segmentation_losses, targets_of


class ReferFormerStudent(Student):
    """A student around a :class:`~stages.student.referformer.network.ReferFormerNetwork`.

    Args:
        network: the transformer.
        config: the terms of the loss, and the frames' short side.
    """

    def __init__(self, network: ReferFormerNetwork, config: ReferformerStudentConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms of the loss: ``score``, ``box``, ``segmentation``, and those that weak
        annotation adds.

        Every layer of the decoder is taught, each with a matching of its own. LGCFS and BLCL are of
        the last. Frames count by their weight. Masks are compared frame by frame, as SimRVOS does;
        ReferFormer's own code takes the frames of a clip together.

        Args:
            clips: frame sizes may differ.
            step: size of the whole step.
            epoch: from 1 on, BLCL uses the student's predictions as pseudo-masks.
        """
        totals: dict[str, Tensor] = {}
        for group in by_size(clips):
            for name, value in self._losses(group, step, epoch).items():
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [E, T, h, w] of E sentences in T frames uint8 [T, H, W, 3].

        A sentence's query is the one of the highest mean score over the frames.
        """
        frames = len(images)
        found = self.network.look(
            self._prepared(images),
            [text for text in texts for _ in range(frames)],
            list(range(frames)) * len(texts),
            [frames],
            [frames] * len(texts),
        )
        mean = found.scores[-1].sigmoid().unflatten(0, (len(texts), frames)).mean(1)
        query = mean.argmax(-1).repeat_interleave(frames)
        masks: Tensor = found.segmented(-1, query).logits.unflatten(0, (len(texts), frames))
        return masks

    def _losses(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms of clips of one frame size."""
        config = self._config.referformer
        images, rows, frames = distinct_frames(clips)
        prepared = self._prepared(torch.from_numpy(images))
        texts = [clip.text for clip in clips for _ in clip.images]
        lengths = [len(clip.images) for clip in clips]
        found = self.network.look(prepared, texts, rows, frames, lengths)
        device, grid = prepared.device, (prepared.shape[2] // 2, prepared.shape[3] // 2)
        cells = found.features.shape[2], found.features.shape[3]
        coarse = targets_of(clips, cells, device)
        targets, boxes = targets_of(clips, grid, device), TargetBoxes(clips, device)
        layers = len(found.scores)
        score, box, masks = (prepared.new_zeros(()) for _ in range(3))
        for layer in range(layers):
            query = matched_queries(found, layer, coarse, boxes, lengths, config)
            of_scores = score_losses(found.scores[layer], query, boxes.known)
            score = score + (targets.weight * of_scores).sum()
            chosen = found.boxes[layer][torch.arange(len(query), device=device), query]
            of_boxes = box_losses(chosen, boxes.boxes, config.box_weight, config.giou_weight)
            box = box + (targets.weight * boxes.known * of_boxes).sum()
            if layer < layers - 1:
                logits = resize_logits(found.segmented(layer, query).logits, *grid)
                masks = (
                    masks + (targets.weight * segmentation_losses(logits, targets, config)).sum()
                )
        terms = loss_terms(
            found.segmented(layers - 1, query),
            clips,
            config,
            grid,
            size=step.weight,
            predictions_count=epoch > 0,
        )
        terms["segmentation"] = terms["segmentation"] + masks / step.weight
        terms["score"] = config.score_weight * score / step.weight
        terms["box"] = box / step.weight
        return terms

    def _prepared(self, images: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return prepare_frames(images.to(device), self._config.short_side)
