"""The samples of a run in the order in which people should look at them, and filters of them.

Nothing here reads a frame or a mask. Letter: S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.expected_gain import expected_gain, quality_of
from pipeline.decisions import Sample, Verdict
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import Receipt
from storage.sample_table import SampleTable, Texts

SAME_VIDEO = 0.85
"""What a further proposal of a video counts for: a budget is spread over the videos."""

SAME_KIND = 0.98
"""The same for a further proposal of a kind of expression."""

UNDECIDED = "undecided"
DECISIONS = (UNDECIDED, "accept", "reject", "corrected")


@dataclass(frozen=True)
class Filters:
    """What a list of samples is limited to; empty values limit nothing.

    Attributes:
        text: words that all occur in the expression, in any order.
        low, high: limits of the mean weight of the frames with a mask.
        decision: one of ``DECISIONS``.
    """

    text: str = ""
    kind: str = ""
    low: float = 0.0
    high: float = 1.0
    reason: str = ""
    video: str = ""
    decision: str = ""


@dataclass(frozen=True)
class Row:
    """A sample of a list."""

    video: str
    expression: str
    text: str
    kind: str
    frames: int
    present: int
    absent: int
    quality: float
    gain: float
    decision: str
    verdict: str


@dataclass
class Queue:
    """The samples of a run, worst first.

    Attributes:
        table: the samples.
        texts, kinds: S texts; a kind is empty if the data set gives none.
        gain: float64 [S].
    """

    table: SampleTable
    texts: Texts
    kinds: Texts
    gain: NDArray[np.float64]
    _order: NDArray[np.intp] = field(init=False)
    _quality: NDArray[np.float64] = field(init=False)
    _decided: dict[int, Verdict] = field(default_factory=dict)
    _row_of: dict[Sample, int] = field(init=False)

    @classmethod
    def of(
        cls,
        table: SampleTable,
        texts: Mapping[Sample, str],
        kinds: Mapping[Sample, str | None],
    ) -> Queue:
        """Returns the queue of a table, with the sentences and kinds of its samples."""
        samples = list(zip(table.video, table.expression, strict=True))
        return cls(
            table,
            Texts([texts.get(sample, "") for sample in samples]),
            Texts([kinds.get(sample) or "" for sample in samples]),
            expected_gain(table),
        )

    def __post_init__(self) -> None:
        self._order = np.argsort(-self.gain, kind="stable")
        self._quality = quality_of(self.table)
        samples = zip(self.table.video, self.table.expression, strict=True)
        self._row_of = {sample: row for row, sample in enumerate(samples)}

    def __contains__(self, sample: Sample) -> bool:
        return sample in self._row_of

    def __len__(self) -> int:
        return len(self.table)

    def decide(self, verdicts: Mapping[Sample, Verdict]) -> None:
        """Takes over what people decided; samples that are left out are undecided."""
        rows = ((self._row_of.get(sample), verdict) for sample, verdict in verdicts.items())
        self._decided = {row: verdict for row, verdict in rows if row is not None}

    def decide_one(self, sample: Sample, verdict: Verdict) -> None:
        """Takes over the verdict about one sample."""
        row = self._row_of[sample]
        if verdict:
            self._decided[row] = verdict
        else:
            self._decided.pop(row, None)

    def page(self, filters: Filters, start: int, count: int) -> tuple[list[Row], int]:
        """Returns some rows of a filtered list, worst first, and the length of the whole list."""
        order = self._order[self._fitting(filters)[self._order]]
        return [self.row(int(row)) for row in order[start : start + count]], len(order)

    def find(self, sample: Sample) -> Row:
        """Returns the row of a sample. Raises KeyError if there is no such sample."""
        return self.row(self._row_of[sample])

    def row(self, row: int) -> Row:
        """Returns a sample by its place in the table."""
        table, verdict = self.table, self._decided.get(row, Verdict())
        return Row(
            table.video[row],
            table.expression[row],
            self.texts[row],
            self.kinds[row],
            int(table.frames[row]),
            int(table.present[row]),
            int(table.absent[row]),
            round(float(self._quality[row]), 4),
            round(float(self.gain[row]), 4),
            decision_of(verdict),
            verdict.words(),
        )

    def kinds_and_reasons(self) -> tuple[list[str], list[str]]:
        """Returns the kinds and the reasons that occur, sorted."""
        kinds = [kind for kind in self.kinds.distinct() if kind]
        return kinds, sorted(reason for reason in self.table.reasons if reason)

    def counts(self) -> dict[str, int]:
        """Returns how many samples have each decision."""
        counts = dict.fromkeys(DECISIONS, 0)
        for verdict in self._decided.values():
            counts[decision_of(verdict)] += 1
        counts[UNDECIDED] = len(self) - len(self._decided)
        return counts

    def proposals(self, budget: int) -> list[Row]:
        """Returns what to decide next: the undecided samples of the highest gain, spread over the
        videos and the kinds: every further sample of one counts for less."""
        left = ~self._has(bool)
        rows = self._order[left[self._order]]
        of_video = _earlier(self.table.video.codes()[rows])
        of_kind = _earlier(self.kinds.codes()[rows]) * ~self.kinds.equal_to("")[rows]
        worth = self.gain[rows] * SAME_VIDEO**of_video * SAME_KIND**of_kind
        return [self.row(int(rows[at])) for at in np.argsort(-worth, kind="stable")[:budget]]

    def _fitting(self, filters: Filters) -> NDArray[np.bool_]:
        quality = self._quality
        fits = (quality >= filters.low) & (quality <= filters.high + 1e-9)
        fits &= self.texts.having(filters.text)
        if filters.kind:
            fits &= self.kinds.equal_to(filters.kind)
        if filters.video:
            fits &= self.table.video.equal_to(filters.video)
        if filters.reason:
            fits &= self._has_reason(filters.reason)
        if filters.decision:
            fits &= self._has(lambda verdict: decision_of(verdict) == filters.decision)
        return fits

    def _has_reason(self, reason: str) -> NDArray[np.bool_]:
        if reason not in self.table.reasons:
            return np.zeros(len(self), np.bool_)
        bit = np.uint64(1) << np.uint64(min(self.table.reasons.index(reason), 63))
        found: NDArray[np.bool_] = (self.table.reason_bits & bit) != 0
        return found

    def _has(self, asked: Callable[[Verdict], bool]) -> NDArray[np.bool_]:
        found = np.full(len(self), asked(Verdict()), np.bool_)
        for row, verdict in self._decided.items():
            found[row] = asked(verdict)
        return found


def kinds_of(
    reader: DatasetReader, receipts: Iterable[Receipt]
) -> Iterator[tuple[Sample, str | None]]:
    """Yields the samples of some shards with their kinds, without those that cannot be read."""
    for video in (video for item in receipts for video in item.videos):
        try:
            for item in reader.expressions(video):
                yield (video, item.key.expression), item.kind
        except InputError:
            continue


def decision_of(verdict: Verdict) -> str:
    """Returns the one word for a verdict that lists show: one of ``DECISIONS``."""
    if verdict.judged == "reject":
        return "reject"
    if verdict.spans:
        return "corrected"
    return verdict.judged or UNDECIDED


def _earlier(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns how often each value occurred before."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, len(values)))
    earlier = np.empty(len(values), np.int64)
    earlier[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return earlier
