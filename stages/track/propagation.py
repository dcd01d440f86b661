"""Carries the masks of tracks through the whole video, from the frames that are surest.

Association links what the grounding model found. A frame in which it missed an object has no mask
of it. Here a tracker follows each object from the frames with its best scores, forwards and
backwards, and fills such frames. Two objects that turn out to be one are joined.

Letters: T frames, S sentences of the video, n objects, Q candidates of a frame, h w cells of a
low-resolution mask.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from pipeline.config import TrackConfig
from pipeline.geometry import masks_to_boxes, pairwise_mask_iou
from pipeline.ports import Image, SeenObjects, Tracker
from pipeline.types import Boxes, Candidates, Tracks
from stages.track.objects import Evidence, Object, joined_profile

Frames = Callable[[Sequence[int]], Iterable[Image]]
"""Returns the frames at some positions of the video, in that order."""

VISIBLE = 0.5
"""An object is in a frame if the tracker is surer of it than this."""

SHARE = 0.5
"""Two objects are one if their masks agree in at least this share of the frames of the shorter."""


class Propagation:
    """The objects of a video, followed through all of its frames.

    The masks lie in a temporary file until they are read, so memory holds those of a few frames.
    Read :meth:`candidates` to its end; then :attr:`boxes` and :meth:`tracks` are complete.

    Args:
        objects: to follow; at least one.
        size: (H, W) of the frames.
        cells: (h, w) of the masks.

    Attributes:
        boxes: of each frame: those of the grounding model, and one for each sentence on every
            object that it missed, with the sentence's mean score for the object.
    """

    def __init__(
        self, objects: Sequence[Object], frames: int, size: tuple[int, int], cells: tuple[int, int]
    ) -> None:
        self._objects, self._size, self._cells = objects, size, cells
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        self._visible = np.zeros((frames, len(objects)), np.float32)
        self._agreement = np.ones_like(self._visible)
        self._alike = np.zeros((len(objects), len(objects)), np.intp)
        self._together = np.zeros_like(self._alike)
        self.boxes: list[Boxes] = []
        self._tracks: list[NDArray[np.int32]] = []

    def __len__(self) -> int:
        """Number of objects."""
        return len(self._objects)

    def close(self) -> None:
        """Removes the temporary file."""
        self._file.close()

    def follow(self, tracker: Tracker, frames: Frames, same_mask_iou: float) -> None:
        """Follows the objects backwards from their last prompts, then forwards from their first."""
        count = len(self._visible)
        last = max(max(item.boxes) for item in self._objects)
        if last:
            order = range(last, -1, -1)
            for frame, seen in zip(order, self._pass(tracker, frames, order), strict=True):
                self._write(frame, *self._dense(seen))
        first = min(min(item.boxes) for item in self._objects)
        order = range(first, count)
        for frame, seen in zip(order, self._pass(tracker, frames, order), strict=True):
            self._write(frame, *self._combined(frame, self._dense(seen)))
        for frame in range(count):
            self._compare(frame, same_mask_iou)

    def _pass(self, tracker: Tracker, frames: Frames, order: range) -> Iterator[SeenObjects]:
        prompts: dict[int, dict[int, NDArray[np.float32]]] = {}
        for number, item in enumerate(self._objects):
            for frame, box in item.boxes.items():
                if frame in order:
                    prompts.setdefault(order.index(frame), {})[number] = box
        return tracker.follow(frames(order), prompts, self._cells)

    def _dense(self, seen: SeenObjects) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Masks [n, h, w] and visibility [n] of all objects."""
        logits = np.zeros((len(self._objects), *self._cells), np.float16)
        visible = np.zeros(len(self._objects), np.float32)
        logits[seen.objects] = seen.logits
        visible[seen.objects] = seen.visible * (seen.logits > 0).any(axis=(1, 2))
        return logits, visible

    def _combined(
        self, frame: int, forward: tuple[NDArray[np.float16], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Takes each object from the pass whose last prompt is nearer, and notes how far the passes
        agree."""
        logits, visible = forward
        before, sure = self._read(frame), self._visible[frame]
        for number, item in enumerate(self._objects):
            past = [frame - other for other in item.boxes if other <= frame]
            to_come = [other - frame for other in item.boxes if other >= frame]
            if not to_come:
                continue
            if not past:
                logits[number], visible[number] = before[number], sure[number]
                continue
            self._agreement[frame, number] = _agreement(
                logits[number], visible[number], before[number], float(sure[number])
            )
            if min(to_come) < min(past):
                logits[number], visible[number] = before[number], sure[number]
        return logits, visible

    def _compare(self, frame: int, same_mask_iou: float) -> None:
        """Counts the frames in which two objects are visible, and those in which they agree."""
        seen = np.flatnonzero(self._visible[frame] > VISIBLE)
        masks = self._read(frame)[seen] > 0
        pairs = np.ix_(seen, seen)
        self._together[pairs] += 1
        self._alike[pairs] += pairwise_mask_iou(masks, masks) >= same_mask_iou

    def _roots(self) -> list[int]:
        """For each object the first one that is the same."""
        lasts = np.diag(self._together)
        same = self._alike >= np.maximum(1, SHARE * np.minimum(lasts[:, None], lasts[None]))
        _, group = connected_components(same, directed=False)
        _, first = np.unique(group, return_index=True)
        return [int(first[row]) for row in group]

    def candidates(
        self,
        boxes: Sequence[Boxes],
        candidates: Iterable[Candidates],
        tracks: Tracks,
        evidence: Evidence,
        config: TrackConfig,
    ) -> Iterator[Candidates]:
        """Yields the candidates of each frame: the masks of visible objects in place of those that
        show the same, and the masks of the segmenter that show something else."""
        roots = self._roots()
        track_of = np.array([self._objects[root].track for root in roots])
        renamed = np.arange(len(tracks), dtype=np.int32)
        for item, track in zip(self._objects, track_of, strict=True):
            renamed[item.track] = track
        profile = joined_profile(evidence, renamed)
        for frame, (mine, found, of_candidate) in enumerate(
            zip(boxes, candidates, tracks.of_candidate, strict=True)
        ):
            seen = np.flatnonzero(self._visible[frame] > VISIBLE)
            logits = self._read(frame)[seen]
            own = np.where(of_candidate >= 0, renamed[of_candidate], -1).astype(np.int32)
            merged = _merged(found, own, logits, track_of[seen], config.same_mask_iou)
            more, rows = self._missed(mine, merged, logits, profile, config.minimum_score)
            order, together = _sorted(mine, more)
            self.boxes.append(together)
            self._tracks.append(merged.track)
            yield Candidates(
                np.concatenate([found.logits[merged.kept], logits]),
                np.concatenate([found.predicted_iou[merged.kept], self._sure(frame)[seen]]),
                np.concatenate([found.stability[merged.kept], _stability(logits)]),
                np.concatenate([merged.box_row, rows])[order].astype(np.int32),
            )

    def _sure(self, frame: int) -> NDArray[np.float32]:
        """How sure the tracker is of the mask of each object, in [0, 1]."""
        found: NDArray[np.float32] = self._visible[frame] * self._agreement[frame]
        return found

    def tracks(self) -> Tracks:
        """Returns the tracks of the candidates, numbered by their first frame."""
        names: dict[int, int] = {-1: -1}
        for row in self._tracks:
            for track in row.tolist():
                names.setdefault(track, len(names) - 1)
        return Tracks(
            tuple(np.array([names[t] for t in row.tolist()], np.int32) for row in self._tracks)
        )

    def _missed(
        self,
        boxes: Boxes,
        merged: _Merged,
        logits: NDArray[np.float16],
        profile: NDArray[np.float64],
        minimum: float,
    ) -> tuple[Boxes, NDArray[np.int32]]:
        """Boxes for the objects of a frame that the grounding model missed, and their rows."""
        start = len(merged.kept)
        hit = set(merged.track[merged.box_row].tolist())
        xyxy, score, text, row = [], [], [], []
        for number, track in enumerate(merged.track[start:].tolist()):
            if track in hit:
                continue
            hit.add(track)
            box = self._box_of(logits[number])
            for sentence in np.flatnonzero(profile[track] >= minimum).tolist():
                xyxy.append(box)
                score.append(profile[track, sentence])
                text.append(sentence)
                row.append(start + number)
        place = np.bincount(boxes.text, minlength=profile.shape[1])
        rank = []
        for sentence in text:
            rank.append(place[sentence])
            place[sentence] += 1
        found = Boxes(
            np.array(xyxy, np.float32).reshape(-1, 4),
            np.array(score, np.float32),
            np.array(text, np.int32),
            np.array(rank, np.int32),
        )
        return found, np.array(row, np.int32)

    def _box_of(self, logits: NDArray[np.float16]) -> NDArray[np.float32]:
        """The box around a mask, xyxy in pixels of the frame."""
        height, width = self._size
        scale = max(height, width) / max(self._cells)
        box = masks_to_boxes(logits[None] > 0)[0] * scale
        inside: NDArray[np.float32] = np.minimum(box, [width, height, width, height])
        return inside.astype(np.float32)

    def _write(self, frame: int, logits: NDArray[np.float16], visible: NDArray[np.float32]) -> None:
        self._file.seek(frame * logits.nbytes)
        self._file.write(logits.tobytes())
        self._visible[frame] = visible

    def _read(self, frame: int) -> NDArray[np.float16]:
        """Masks [n, h, w] of all objects; zeros where none have been written."""
        shape = len(self._objects), *self._cells
        size = 2 * int(np.prod(shape))
        self._file.seek(frame * size)
        content = self._file.read(size).ljust(size, b"\0")
        return np.frombuffer(content, np.float16).reshape(shape).copy()


@dataclass(frozen=True)
class _Merged:
    """The masks of a frame from the segmenter and from the tracker.

    Attributes:
        kept: int, rows of the segmenter's candidates that show nothing that was followed.
        track: int32, of the candidates that are kept, then of the visible objects.
        box_row: int32, the row among these of the mask of every box.
    """

    kept: NDArray[np.intp]
    track: NDArray[np.int32]
    box_row: NDArray[np.int32]


def _merged(
    found: Candidates,
    track: NDArray[np.int32],
    logits: NDArray[np.float16],
    followed: NDArray[np.intp],
    same_mask_iou: float,
) -> _Merged:
    """Puts the masks of followed objects in place of the candidates that show the same.

    Args:
        track: of each candidate.
        logits: of the visible objects.
        followed: track of each visible object.
    """
    overlap = pairwise_mask_iou(found.logits > 0, logits > 0)
    same = overlap.max(axis=1, initial=0) >= same_mask_iou
    kept = np.flatnonzero(~same)
    row = np.zeros(len(found), np.int32)
    row[kept] = np.arange(len(kept))
    if same.any():
        row[same] = len(kept) + overlap[same].argmax(axis=1)
    # The tracker saw a followed object elsewhere in this frame.
    rest = np.where(np.isin(track[kept], followed), -1, track[kept])
    return _Merged(
        kept, np.concatenate([rest, followed]).astype(np.int32), row[found.box_row].astype(np.int32)
    )


def _agreement(
    a: NDArray[np.float16], sure_of_a: float, b: NDArray[np.float16], sure_of_b: float
) -> float:
    """IoU of two masks of an object; 1 if both passes say that it is not there."""
    seen = sure_of_a > VISIBLE, sure_of_b > VISIBLE
    if not any(seen):
        return 1.0
    if not all(seen):
        return 0.5
    return float(pairwise_mask_iou(a[None] > 0, b[None] > 0)[0, 0])


def _stability(logits: NDArray[np.float16]) -> NDArray[np.float32]:
    """IoU of the masks at the thresholds -1 and +1, as of the segmenter's."""
    inner = (logits > 1).sum(axis=(1, 2))
    found: NDArray[np.float64] = inner / np.maximum((logits > -1).sum(axis=(1, 2)), 1)
    return found.astype(np.float32)


def _sorted(boxes: Boxes, more: Boxes) -> tuple[NDArray[np.intp], Boxes]:
    """Puts boxes together in the order of a table of boxes: by text, then by rank."""
    text = np.concatenate([boxes.text, more.text])
    rank = np.concatenate([boxes.rank, more.rank])
    order = np.lexsort((rank, text))
    xyxy = np.concatenate([boxes.xyxy, more.xyxy])[order]
    score = np.concatenate([boxes.score, more.score])[order]
    return order, Boxes(xyxy, score, text[order], rank[order])
