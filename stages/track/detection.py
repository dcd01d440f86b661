"""Objects that a model finds by noun phrases, in the place of the tracks that show the same.

Such an object is followed through the whole video. Association breaks tracks; the object says which
of them are one. What the sentences say of an object is what they say of its tracks. An object
without any is left out: nothing says which sentence means it.

Letters: n objects, T frames, Q candidates of a frame, h w cells of a low-resolution mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import TrackConfig
from pipeline.geometry import pairwise_mask_iou
from pipeline.ports import Image, PhraseTracker
from pipeline.types import Candidates, Tracks
from stages.track.objects import Object
from stages.track.propagation import SHARE, VISIBLE, Propagation


class Detection(Propagation):
    """The objects of a video, as :class:`stages.track.propagation.Propagation` has them.

    Call :meth:`detect`, then :meth:`matched`, and read :meth:`candidates` to its end.

    Args:
        size: (H, W) of the frames.
        cells: (h, w) of the masks.
    """

    def __init__(self, frames: int, size: tuple[int, int], cells: tuple[int, int]) -> None:
        super().__init__([], frames, size, cells)
        self._seen: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = []
        self._kept: list[int] = []

    def detect(
        self, tracker: PhraseTracker, frames: Iterable[Image], phrases: Sequence[str]
    ) -> None:
        """Finds the objects of all frames. Their masks go into the temporary file."""
        for seen in tracker.detect(frames, phrases, self._cells):
            kept = seen.visible * (seen.logits > 0).any(axis=(1, 2)) > VISIBLE
            place = self._file.tell()
            self._file.write(seen.logits[kept].astype(np.float16).tobytes())
            self._seen.append((place, seen.objects[kept], seen.visible[kept]))

    def matched(
        self, candidates: Iterable[Candidates], tracks: Tracks, config: TrackConfig
    ) -> Tracks:
        """Gives each object the tracks whose masks agree with its own in half of their frames.

        Returns:
            The tracks, renumbered: those of the first object are 0, and so on; then the others.
        """
        numbers = sorted({int(number) for _, objects, _ in self._seen for number in objects})
        agree = np.zeros((len(numbers), len(tracks)), np.intp)
        lasts = np.zeros(len(tracks), np.intp)
        for frame, (found, of) in enumerate(zip(candidates, tracks.of_candidate, strict=True)):
            lasts[np.unique(of[of >= 0])] += 1
            objects, masks = self._masks(frame)
            overlap = pairwise_mask_iou(masks > 0, found.logits > 0) >= config.same_mask_iou
            for row, number in enumerate(objects.tolist()):
                agree[numbers.index(number), np.unique(of[overlap[row] & (of >= 0)])] += 1
        return self._renumbered(numbers, agree, lasts, tracks, config.objects)

    def _renumbered(
        self,
        numbers: Sequence[int],
        agree: NDArray[np.intp],
        lasts: NDArray[np.intp],
        tracks: Tracks,
        most: int,
    ) -> Tracks:
        best = agree.argmax(axis=0) if len(numbers) else np.zeros(len(tracks), np.intp)
        fits = agree.max(axis=0, initial=0) >= np.maximum(1, SHARE * lasts)
        evidence = np.zeros(len(numbers), np.intp)
        np.add.at(evidence, best[fits], agree.max(axis=0, initial=0)[fits])
        rows = [int(row) for row in np.argsort(-evidence, kind="stable")[:most] if evidence[row]]
        self._kept = [numbers[row] for row in sorted(rows)]
        place = {row: number for number, row in enumerate(sorted(rows))}
        renamed = np.zeros(len(tracks) + 1, np.int32)
        later = len(rows)
        for track in range(len(tracks)):
            if fits[track] and int(best[track]) in place:
                renamed[track] = place[int(best[track])]
            else:
                renamed[track], later = later, later + 1
        renamed[-1] = -1
        self._objects = [Object(row, {}) for row in range(len(rows))]
        shape = len(self._seen), len(rows)
        self._visible, self._agreement = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self._alike = np.zeros((len(rows), len(rows)), np.intp)
        self._together = np.zeros_like(self._alike)
        for frame, (_, objects, visible) in enumerate(self._seen):
            for number, sure in zip(objects.tolist(), visible.tolist(), strict=True):
                if number in self._kept:
                    self._visible[frame, self._kept.index(number)] = sure
        return Tracks(tuple(renamed[of] for of in tracks.of_candidate))

    def compare(self, same_mask_iou: float) -> None:
        """Finds objects that are one: two phrases can name the same, such as 'man' and 'player'."""
        for frame in range(len(self._seen)):
            self._compare(frame, same_mask_iou)

    def _masks(self, frame: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        place, objects, _ = self._seen[frame]
        shape = len(objects), *self._cells
        self._file.seek(place)
        content = self._file.read(2 * int(np.prod(shape)))
        return objects, np.frombuffer(content, np.float16).reshape(shape)

    def _read(self, frame: int) -> NDArray[np.float16]:
        """Masks [n, h, w] of the objects that are kept; zeros where one is not seen."""
        found = np.zeros((len(self._kept), *self._cells), np.float16)
        for number, logits in zip(*self._masks(frame), strict=True):
            if int(number) in self._kept:
                found[self._kept.index(int(number))] = logits
        return found
