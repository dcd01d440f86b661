"""GroPrompt as a :class:`~stages.student.contract.Student`: its loss and its masks.

Letters: E sentences of the same T frames, M distinct frames, N pairs of sentence and frame, one
sentence after the other, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import box_convert

from pipeline.config import GroPromptConfig
from pipeline.geometry import box_iou, masks_to_boxes
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, distinct_frames, on_the_same_frames
from stages.student.data.supervision import FrameSupervision
from stages.student.groprompt.losses import box_loss, modal_contrast, score_loss, text_contrast

SAME_TARGET_IOU = 0.5
"""Sentences whose true boxes in a frame have at least this IoU are of one object."""

HEADS = 8
"""Of ModalCon's attention. SAM's channels are a multiple."""

_ABSENT = -10.0


class Proposer(Protocol):
    """A grounding model whose decoder is trained; see :mod:`stages.ground.proposer`."""

    channels: int

    @property
    def decoder(self) -> nn.Module: ...

    def propose(
        self, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]: ...

    def sentences(self, texts: Sequence[str]) -> Tensor: ...


class Prompter(Protocol):
    """A frozen SAM; see :mod:`stages.segment.prompter`."""

    channels: int

    def encode(self, images: Tensor) -> Tensor: ...

    def prompts(self, boxes: Tensor, size: tuple[int, int]) -> Tensor: ...

    def masks(
        self, features: Tensor, rows: Sequence[int], boxes: Tensor, size: tuple[int, int]
    ) -> Tensor: ...


class GroPrompt(Student):
    """Trains the decoder of a grounding model on boxes. SAM turns its boxes into masks.

    Loss = L_box + lambda_f TextCon + lambda_v ModalCon, as in the paper, + L_score, which keeps the
    scores of the boxes meaningful. Each frame's best box is found alone, so prediction is always
    online. The parameters are the decoder's and those of ModalCon's attention. The rest of the
    grounder and SAM are not parameters of this module. The sentence of ModalCon is the frozen mean
    of its words: if it were trained, features that are all 0 would cost nothing.

    Args:
        proposer: finds boxes.
        prompter: gives prompts, features and masks.
        config: weights of the losses, and the score below which a target is absent.
    """

    _proposer: Proposer
    _prompter: Prompter

    def __init__(self, proposer: Proposer, prompter: Prompter, config: GroPromptConfig) -> None:
        super().__init__()
        object.__setattr__(self, "_proposer", proposer)
        object.__setattr__(self, "_prompter", prompter)
        self._config = config
        self.decoder = proposer.decoder
        channels = prompter.channels
        self.look = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.sentence = _fixed(proposer.channels, channels)

    def train(self, mode: bool = True) -> GroPrompt:
        """Sets the mode. The decoder stays in evaluation mode, as its code differs in training."""
        super().train(mode)
        self.decoder.eval()
        return self

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms ``box``, ``score``, ``text contrast`` and ``modal contrast``.

        Terms of frames count by the frames' weight and are divided by that of the step. Terms of
        sentences are divided by the clips of the step. A term of weight 0 is left out. Absent
        frames teach only scores, unknown ones nothing.

        Args:
            clips: frame sizes may differ. Sentences on the same frames are contrasted.
            step: size of the whole step.
            epoch: not used.
        """
        totals: dict[str, Tensor] = {}
        for group in by_size(clips):
            images, rows, _ = distinct_frames(group)
            shown = torch.from_numpy(images)
            texts = [clip.text for clip in group for _ in clip.images]
            boxes, scores = self._proposer.propose(shown, rows, texts)
            features = None
            if self._config.modal_weight > 0:
                features = self._prompter.encode(shown)
            for mine, several in on_the_same_frames(group):
                places = rows[mine][: len(several[0].images)]
                part = None if features is None else features[places]
                terms = self._losses(several, boxes[mine], scores[mine], part, step)
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value
        return totals

    @torch.no_grad()
    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Mask logits [E, T, H, W] of E sentences in T frames uint8 [T, H, W, 3]: of the best
        box of each; where even that scores below ``absent_below``, an empty mask."""
        frames, size = len(images), (images.shape[1], images.shape[2])
        rows = list(range(frames)) * len(texts)
        said = [text for text in texts for _ in range(frames)]
        boxes, score = best_boxes(*self._proposer.propose(images, rows, said))
        logits = self._prompter.masks(self._prompter.encode(images), rows, boxes, size)
        logits[score < self._config.absent_below] = _ABSENT
        masks: Tensor = logits.unflatten(0, (len(texts), frames))
        return masks

    def _losses(
        self,
        clips: Sequence[Clip],
        all_boxes: Tensor,
        scores: Tensor,
        features: Tensor | None,
        step: StepSize,
    ) -> dict[str, Tensor]:
        """Returns the weighted terms of E clips of the same T frames.

        Args:
            all_boxes: [E * T, Q, 4].
            scores: [E * T, Q].
            features: [T, C, s, s], of the frames; None without ModalCon.
        """
        config, frames, device = self._config, len(clips[0].images), scores.device
        found, _ = best_boxes(all_boxes, scores)
        boxes = found.unflatten(0, (len(clips), frames))
        near, there = nearest_targets(clips, boxes.detach().cpu().numpy())
        truth, known = torch.from_numpy(near).to(boxes), torch.from_numpy(there).to(device)
        weight = torch.from_numpy(np.stack([clip.weight for clip in clips])).to(boxes)
        share = weight * known / step.weight
        terms = {"box": (share * box_loss(boxes, truth)).sum()}
        if config.score_weight > 0:
            each = score_loss(scores, all_boxes.detach(), truth.flatten(0, 1), known.flatten())
            terms["score"] = config.score_weight * (weight.flatten() * each).sum() / step.weight
        apart = of_other_objects(near, there)
        prompts = self._prompter.prompts(found, clips[0].size)
        if config.text_weight > 0:
            right = self._prompter.prompts(truth.flatten(0, 1), clips[0].size)
            each = text_contrast(
                prompts.flatten(1).unflatten(0, boxes.shape[:2]),
                right.flatten(1).unflatten(0, boxes.shape[:2]),
                torch.from_numpy(apart).to(device),
            )
            terms["text contrast"] = config.text_weight * (share * each).sum()
        if features is not None:
            seen = self._seen(prompts.unflatten(0, boxes.shape[:2]), features, known)
            words = self._proposer.sentences([clip.text for clip in clips])
            said = self.sentence(words.detach().to(found))
            each = modal_contrast(seen, said, torch.from_numpy(apart.any(2)).to(device))
            terms["modal contrast"] = config.modal_weight * each.sum() / step.clips
        return terms

    def _seen(self, prompts: Tensor, features: Tensor, known: Tensor) -> Tensor:
        """f of eq 3, [E, C]: what prompts [E, T, 2, C] see in features [T, C, s, s], the mean over
        the frames bool [E, T] that are known."""
        cells = features.flatten(2).transpose(1, 2).to(prompts)
        asked = prompts.transpose(0, 1).flatten(1, 2)
        seen, _ = self.look(asked, cells, cells, need_weights=False)
        each = seen.unflatten(1, (len(known), 2)).mean(2).transpose(0, 1)
        counted = known[..., None].to(each)
        mean: Tensor = (each * counted).sum(1) / counted.sum(1).clamp(min=1)
        return mean


def _fixed(inputs: int, outputs: int) -> nn.Module:
    """Returns a map that is not trained: the identity, as for the published models, or the first
    rows of a rotation where the demo models' sizes differ."""
    if inputs == outputs:
        return nn.Identity()
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.orthogonal_(linear.weight)
    return linear.requires_grad_(False)


def best_boxes(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the best box of each pair, [N, 4], and its score, [N].

    Args:
        boxes: [N, Q, 4].
        scores: [N, Q].
    """
    best = scores.argmax(-1, keepdim=True)
    return boxes.gather(1, best[..., None].expand(-1, -1, 4))[:, 0], scores.gather(1, best)[:, 0]


def nearest_targets(
    clips: Sequence[Clip], found: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns the true box of each sentence and frame; of several, the one nearest to that found.

    Args:
        clips: E, of T frames.
        found: [E, T, 4], centre x, centre y, width, height in [0, 1].

    Returns:
        Boxes float32 [E, T, 4], with the box found if no true one is known; and bool [E, T],
        whether one is known.
    """
    truth = found.copy()
    known = np.zeros(found.shape[:2], np.bool_)
    for row, clip in enumerate(clips):
        for frame, item in enumerate(clip.supervision):
            boxes = _boxes_of(item, clip.size)
            if len(boxes):
                distance = np.abs(boxes - found[row, frame]).sum(-1)
                truth[row, frame] = boxes[distance.argmin()]
                known[row, frame] = True
    return truth, known


def _boxes_of(item: FrameSupervision, size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns a frame's boxes [n, 4]: centre x, centre y, width, height in [0, 1]; a mask's own."""
    boxes = item.boxes
    if item.mask is not None:
        boxes = masks_to_boxes(item.mask[None])
    if boxes is None:
        return np.zeros((0, 4), np.float32)
    height, width = size
    corners = torch.from_numpy(boxes / np.array([width, height] * 2, np.float32))
    centred: NDArray[np.float32] = box_convert(corners, "xyxy", "cxcywh").numpy()
    return centred


def of_other_objects(boxes: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns in which frames two sentences are known to be of different objects.

    In such a frame, both boxes are known and apart. In no frame of the clip are they on one place.

    Args:
        boxes: [E, T, 4], centre x, centre y, width, height in [0, 1].
        known: bool [E, T].

    Returns:
        bool [E, E, T].
    """
    count, frames = known.shape
    corners = box_convert(torch.from_numpy(boxes), "cxcywh", "xyxy").numpy()
    same = np.zeros((count, count, frames), np.bool_)
    for frame in range(frames):
        same[..., frame] = box_iou(corners[:, frame], corners[:, frame]) >= SAME_TARGET_IOU
    both = known[:, None] & known[None]
    return both & ~(same & both).any(-1, keepdims=True)
