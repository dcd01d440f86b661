"""The student ``grounded`` as a :class:`~stages.student.contract.Student`: its loss, its masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, nms

from pipeline.config import GroundedConfig, TrackConfig
from pipeline.plural import targets_named
from stages.common.instances import InstanceProposer, Instances
from stages.common.losses import mask_losses
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, on_the_same_frames, prepare_frames
from stages.student.grounded.losses import SAME_IOU, choice_losses, objection_losses, overlaps
from stages.student.grounded.named import named_ways
from stages.student.grounded.network import GroundedNetwork
from stages.student.grounded.seen_video import ABSENT, ALIKE, SeenVideo, best_stand_in
from stages.student.weak.losses import targets_of
from stages.student.weak.mil import mil_losses

Item = TypeVar("Item")

_WINDOW = 8
"""Frames of a video that are looked at together when the student settles."""


@dataclass(frozen=True)
class Said:
    """A sentence of a clip.

    Attributes:
        text: the sentence.
        clip: number of the clip whose target it is about.
        true: whether it is true of that target.
        weight: how sure that is.
    """

    text: str
    clip: int
    true: bool
    weight: float


class GroundedStudent(Student):
    """Chooses among the instances of a frozen grounder and draws their masks.

    The grounder is not a parameter of this module. A clip is seen as a whole, so its frames should
    follow each other; a video is seen as a whole too, unless it is predicted online.

    Args:
        proposer: the grounder.
        config: weights of the losses.
        track: how instances are linked through a video.
        channels: of the pixel features at stride 4, a multiple of 4.
        short_side: pixels that a frame's short side is resized to for masks.
    """

    _proposer: InstanceProposer

    def __init__(
        self,
        proposer: InstanceProposer,
        config: GroundedConfig,
        track: TrackConfig,
        *,
        channels: int,
        short_side: int,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "_proposer", proposer)
        self._config, self._track, self._short_side = config, track, short_side
        self.network = GroundedNetwork(
            proposer.channels, proposer.embedding, proposer.levels, channels
        )

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms ``choice``, ``objection`` and ``mask``.

        Terms of frames count by the frames' weight and are divided by that of the step.

        Args:
            clips: frame sizes may differ. Clips on the same frames share the passes.
            step: size of the whole step.
            epoch: not used.
        """
        totals: dict[str, Tensor] = {}
        for group in by_size(clips):
            for _, several in on_the_same_frames(group):
                for name, value in self._losses(several).items():
                    totals[name] = totals.get(name, 0) + value / step.weight
        return totals

    @torch.no_grad()
    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [E, T, h, w] of E sentences in T frames uint8 [T, H, W, 3]."""
        groups = _groups(list(texts), self._proposer.together)
        pixels, found = self._look(images, groups)
        masks = [
            self._masks(pixels, item, group) for item, group in zip(found, groups, strict=True)
        ]
        return torch.cat(masks)

    @torch.no_grad()
    def predict_windows(self, windows: Iterable[Tensor], texts: Sequence[str]) -> Iterator[Tensor]:
        """Yields the mask logits [E, n, h, w] of each window, after a look at all of them.

        The instances of all windows are linked into tracks, and each sentence chooses a track. The
        masks of all instances lie in a temporary file until then.
        """
        with self._seen(windows, texts) as seen:
            yield from seen.masks(float(self.network.stand_in), next(self.parameters()).device)

    @torch.no_grad()
    def settle(self, draws: Iterable[Sequence[Clip]]) -> None:
        """Sets from how far below the best track of a video a frame's best instance is another
        object, by the frames that the labels call absent. Labels without such frames teach that a
        target is never absent for this reason."""
        gaps, right, absent, weight = [], [], [], []
        for clips in draws:
            images = torch.from_numpy(np.stack(clips[0].images)).to(self.network.stand_in.device)
            with self._seen(images.split(_WINDOW), [clip.text for clip in clips]) as seen:
                found, boxes = seen.gaps()
            centred = box_convert(torch.from_numpy(boxes), "xyxy", "cxcywh")
            for row, clip in enumerate(clips):
                overlap = overlaps(centred[row][:, None], [clip])
                gaps.append(found[row])
                right.append((overlap > SAME_IOU).any(2)[0, :, 0].numpy())
                absent.append(np.array([item.kind == "absent" for item in clip.supervision]))
                weight.append(clip.weight)
        if gaps:
            known = map(np.concatenate, (gaps, right, absent, weight))
            self.network.stand_in.fill_(best_stand_in(*known))

    @contextmanager
    def _seen(self, windows: Iterable[Tensor], texts: Sequence[str]) -> Iterator[SeenVideo]:
        """Looks at all windows of a video."""
        groups = _groups(list(texts), self._proposer.together)
        with SeenVideo(groups, self._track) as seen:
            for images in windows:
                seen.show(images)
                pixels, found = self._look(images, groups)
                for group, (item, texts_of) in enumerate(zip(found, groups, strict=True)):
                    logits = self.network.chooser(item, self._named(texts_of))
                    kept = seen.keep(item)
                    masks = self._drawn(pixels, item, *kept.nonzero(as_tuple=True))
                    seen.add(group, item, logits, kept, masks)
            yield seen

    def _look(
        self, images: Tensor, groups: Sequence[Sequence[str]]
    ) -> tuple[Tensor, list[Instances]]:
        """Returns the pixel features of frames, and the instances of each group of sentences."""
        maps, found = self._proposer.look(images, groups)
        return self.network.pixels(self._prepared(images), maps), found

    def _named(self, texts: Sequence[str]) -> Tensor:
        return named_ways(texts).to(next(self.parameters()).device)

    def _masks(self, pixels: Tensor, found: Instances, texts: Sequence[str]) -> Tensor:
        """Returns the logits [S, T, h, w] of the instances that are chosen for S sentences."""
        chance = self.network.chooser(found, self._named(texts)).softmax(-1)
        best = chance[..., :-1].argmax(-1)
        shape, chosen = best.shape, best.flatten()
        rows = torch.arange(shape[1], device=best.device).expand(shape).flatten()
        masks = self._drawn(pixels, found, rows, chosen).unflatten(0, shape)
        further = further_targets(chance, found.boxes, list(map(targets_named, texts)))
        if len(further):
            of, frame, instance = further.T
            for row, mask in enumerate(self._drawn(pixels, found, frame, instance)):
                at = int(of[row]), int(frame[row])
                masks[at] = torch.maximum(masks[at], mask)
        absent = chance[..., -1] > 0.5
        shown: Tensor = masks.masked_fill(absent[..., None, None], ABSENT)
        return shown

    def _drawn(self, pixels: Tensor, found: Instances, frames: Tensor, instances: Tensor) -> Tensor:
        """Returns the mask logits [P, h, w] of P instances, each of a frame."""
        features = self.network.norm(found.features)[frames, instances]
        masks: Tensor = self.network.masks(pixels, frames, features, found.boxes[frames, instances])
        return masks

    def _losses(self, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Returns the weighted terms of E clips of the same T frames, summed over frames."""
        images = torch.from_numpy(np.stack(clips[0].images))
        sentences = said_of(clips)
        groups = _groups(sentences, self._proposer.together)
        pixels, found = self._look(images, [[s.text for s in group] for group in groups])
        device = pixels.device
        weight = torch.from_numpy(np.stack([clip.weight for clip in clips])).to(device)
        absent = torch.tensor(
            [[item.kind == "absent" for item in clip.supervision] for clip in clips], device=device
        )
        terms = dict.fromkeys(("choice", "objection", "mask"), pixels.new_zeros(()))
        for number, (group, item) in enumerate(zip(groups, found, strict=True)):
            logits = self.network.chooser(item, self._named([one.text for one in group]))
            overlap = overlaps(item.boxes, clips)
            of = torch.tensor([one.clip for one in group], device=device)
            true = torch.tensor([one.true for one in group], device=device)
            sure = torch.tensor([one.weight for one in group], device=device)[:, None] * weight[of]
            right = choice_losses(logits[true], overlap[of[true]], absent[of[true]])
            wrong = objection_losses(logits[~true], overlap[of[~true]].amax(2))
            terms["choice"] = terms["choice"] + (sure[true] * right).sum()
            terms["objection"] = terms["objection"] + (sure[~true] * wrong).sum()
            if number == 0:
                terms["mask"] = self._mask_term(pixels, item, overlap, clips)
        config = self._config
        return {
            "choice": config.choice_weight * terms["choice"],
            "objection": config.objection_weight * terms["objection"],
            "mask": terms["mask"],
        }

    def _mask_term(
        self, pixels: Tensor, found: Instances, overlap: Tensor, clips: Sequence[Clip]
    ) -> Tensor:
        """Returns the loss of the masks of the instances that fit the targets best.

        Sentences that name several objects are left out: their masks do not say which pixels are of
        which object.
        """
        one = torch.tensor([targets_named(clip.text) == 1 for clip in clips], device=pixels.device)
        grid = pixels.shape[-2], pixels.shape[-1]
        targets = targets_of(clips, grid, pixels.device)
        best = overlap[:, :, 0].max(-1)
        usable = (best.values > SAME_IOU) & (targets.weight > 0).unflatten(0, best.values.shape)
        usable = usable & one[:, None]
        clip, frame = usable.nonzero(as_tuple=True)
        if not len(clip):
            return pixels.sum() * 0
        logits = self._drawn(pixels, found, frame, best.indices[clip, frame])
        row = clip * overlap.shape[1] + frame
        config = self._config
        losses = mask_losses(logits, targets.mask[row], config.dice_weight, config.focal_weight)
        boxed = targets.boxed[row].nonzero()[:, 0]
        if len(boxed):
            truth = [targets.boxes[place] for place in row[boxed].tolist()]
            losses = losses.index_put((boxed,), mil_losses(logits[boxed], truth))
        term: Tensor = (targets.weight[row] * losses).sum()
        return term

    def _prepared(self, images: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return prepare_frames(images.to(device), self._short_side)


def further_targets(chance: Tensor, boxes: Tensor, named: Sequence[int]) -> Tensor:
    """Returns the instances that are targets beside the best one, int64 [n, 3]: number of the
    sentence, the frame and the instance. Only sentences that name several objects have any.

    They are the most likely instances, up to the number that the sentence names, without second
    boxes of the same object and without those that are much less likely than the best one.

    Args:
        chance: [S, T, Q + 1], probabilities of a frame's instances; the last is none.
        boxes: [T, Q, 4], centre x, centre y, width, height.
        named: S numbers of objects.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy")
    found = [chance.new_zeros(0, 3, dtype=torch.int64)]
    for of, count in enumerate(named):
        for frame in range(len(boxes)) if count > 1 else ():
            likely = chance[of, frame, :-1]
            apart = nms(corners[frame], likely, SAME_IOU)[1:count]
            alike = apart[likely[apart] >= ALIKE * likely.max()]
            place = alike.new_tensor([[of, frame]]).expand(len(alike), 2)
            found.append(torch.cat([place, alike[:, None]], 1))
    return torch.cat(found)


def said_of(clips: Sequence[Clip]) -> list[Said]:
    """Returns the sentences of clips: their own, then other true ones, then those that are false.

    A sentence that the data set has for another object of the video is false of this one.
    """
    own = [Said(clip.text, row, True, 1.0) for row, clip in enumerate(clips)]
    true = [
        Said(text, row, True, sure)
        for row, clip in enumerate(clips)
        for text, sure in clip.positives
    ]
    false = [
        Said(text, row, False, 1.0)
        for row, clip in enumerate(clips)
        for text in (*clip.negatives, *clip.elsewhere)
    ]
    return [*own, *true, *false]


def _groups(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
