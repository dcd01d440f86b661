"""Joint training: an epoch holds the samples of all data sets once, in an order that is random."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stages.student.data.clips import Clip
from stages.student.data.joined import JoinedDraws
from stages.student.data.supervision import ABSENT

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Counted:
    """Draws that are named by a letter and their number."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self.samples = 2 * count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> list[Clip]:
        return [Clip((IMAGE,), f"{self._name}{number}", (ABSENT,))]


def test_an_epoch_holds_every_draw_of_every_part_once() -> None:
    joined = JoinedDraws([Counted("a", 3), Counted("b", 5)], seed=1)
    assert len(joined) == 8 and joined.samples == 16
    for epoch in range(3):
        names = [joined[epoch * 8 + place][0].text for place in range(8)]
        wanted = [f"a{epoch * 3 + n}" for n in range(3)] + [f"b{epoch * 5 + n}" for n in range(5)]
        assert Counter(names) == Counter(wanted)
        assert names != wanted, "mixed"


def test_a_draw_depends_on_the_seed_and_its_number_alone() -> None:
    def texts(seed: int) -> list[str]:
        joined = JoinedDraws([Counted("a", 4), Counted("b", 4)], seed)
        return [joined[number][0].text for number in reversed(range(16))]

    assert texts(3) == texts(3) and texts(3) != texts(4)
