"""Two parts of the split ``train``, by videos: ``train_train`` to train on, ``train_val`` to
measure on.

SimRVOS measures on a part of Ref-YouTube-VOS' training split, as its own ``valid`` had no ground
truth. The part is drawn anew here: ``train_val-200-7`` has 200 videos, drawn with the seed 7, and
``train_train-200-7`` the others. Without a seed it is 0; without a number, it is a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError
from storage.datasets.base import MaskedReader

BASE = "train"
"""The split that has parts."""

SHARE = 0.1
"""Of the videos, for ``train_val``, where its name has no number."""

_NAME = re.compile(r"train_(train|val)(?:-([0-9]{1,9})(?:-([0-9]{1,9}))?)?")


@dataclass(frozen=True)
class Part:
    """A part of the split ``train``.

    Attributes:
        name: as the user gives it.
        measured: whether it is ``train_val``.
        count: number of videos of ``train_val``; None for a share of :data:`SHARE`.
        seed: of the draw.
    """

    name: str
    measured: bool
    count: int | None
    seed: int

    def narrow(self, reader: MaskedReader) -> None:
        """Leaves a reader of the whole split with the videos of the part, under its name.

        Raises:
            InputError: no video would be left, of this part or the other.
        """
        ids = reader.video_ids()
        count = max(1, round(SHARE * len(ids))) if self.count is None else self.count
        if not 0 < count < len(ids):
            raise InputError(
                reader.root,
                f"split {self.name!r} takes {count} of {len(ids)} videos for train_val",
                f"a number from 1 to {len(ids) - 1}",
                "give another number in the name of the split",
            )
        reader.restrict(self.ids(ids, count), self.name)

    def ids(self, every: Sequence[str], count: int) -> list[str]:
        """The ids of the part, sorted.

        Args:
            every: ids of the whole split, sorted.
            count: number of videos of ``train_val``.
        """
        order = np.random.default_rng((self.seed, len(every))).permutation(len(every))
        chosen = order[:count] if self.measured else order[count:]
        return [every[row] for row in sorted(chosen.tolist())]


def part_of(split: str) -> Part | None:
    """Returns the part that the name of a split stands for; None for a split of the data set."""
    match = _NAME.fullmatch(split)
    if match is None:
        return None
    kind, count, seed = match.groups()
    return Part(split, kind == "val", None if count is None else int(count), int(seed or 0))
