"""One row per sample: what the quality tables of a run say of it, summed over its frames.

Tables are read in batches. Memory holds one row per sample in columns, whatever the number of
frames. Letter: S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.types import Status
from storage.tables import open_table

_COLUMNS = ["video", "expression", "weight", "agreement", "status", "reason"]
_BATCH = 65_536
_MOST_REASONS = 63

Floats = NDArray[np.float64]


class Texts:
    """A column of S texts, held without an object for each.

    Args:
        values: an Arrow array, or texts.
    """

    def __init__(self, values: Any) -> None:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        self._values = values if isinstance(values, pa.Array) else pa.array(values, pa.string())

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, row: int) -> str:
        text: str = self._values[row].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BATCH):
            yield from self._values.slice(start, _BATCH).to_pylist()

    def having(self, words: str) -> NDArray[np.bool_]:
        """Returns bool [S]: which texts hold every one of some words, in any order and case."""
        found = np.ones(len(self), np.bool_)
        for word in words.split():
            found &= _bools(pc.match_substring(self._values, word, ignore_case=True))
        return found

    def equal_to(self, text: str) -> NDArray[np.bool_]:
        """Returns bool [S]: which texts are this one."""
        return _bools(pc.equal(self._values, text))

    def distinct(self) -> list[str]:
        """Returns the texts that occur, sorted."""
        return sorted(pc.unique(self._values).to_pylist())

    def codes(self) -> NDArray[np.int32]:
        """Returns int32 [S], equal numbers for equal texts."""
        codes: NDArray[np.int32] = pc.dictionary_encode(self._values).indices.to_numpy()
        return codes


@dataclass(frozen=True)
class SampleTable:
    """The samples of a run, in the order of its tables.

    Attributes:
        video, expression: S texts.
        frames: int64 [S], number of frames.
        present, absent: int64 [S], frames with that status.
        weight: float64 [S], mean weight of the frames.
        present_weight: float64 [S], mean weight of the frames with a mask; NaN without any.
        agreement: float64 [S], mean agreement; a frame without a value counts as 0.
        reasons: the reasons that occur.
        reason_bits: uint64 [S], bit i says that a frame has ``reasons[i]``.
    """

    video: Texts
    expression: Texts
    frames: NDArray[np.int64]
    present: NDArray[np.int64]
    absent: NDArray[np.int64]
    weight: Floats
    present_weight: Floats
    agreement: Floats
    reasons: tuple[str, ...]
    reason_bits: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.frames)


def read_samples(parts: Iterable[Path]) -> SampleTable:
    """Returns the samples of quality tables, whose rows of a sample are adjacent.

    Raises:
        StoreError: a table is missing, damaged or newer.
    """
    sums = _Sums()
    for part in parts:
        with open_table(part, "quality") as file:
            for batch in file.iter_batches(_BATCH, columns=_COLUMNS):
                sums.add(batch)
    return sums.table()


def read_texts(parts: Iterable[Path]) -> Iterator[tuple[str, str, str]]:
    """Yields (video, expression, sentence) of augmentation tables. Raises StoreError."""
    for part in parts:
        with open_table(part, "augment") as file:
            for batch in file.iter_batches(_BATCH, columns=["video", "expression", "role", "text"]):
                table = pa.Table.from_batches([batch])
                mine = table.filter(pc.equal(table["role"].cast(pa.string()), "original"))
                names = ("video", "expression", "text")
                yield from zip(*(mine[name].to_pylist() for name in names), strict=True)


class _Sums:
    """Sums over the rows of each sample, batch by batch."""

    def __init__(self) -> None:
        self._names: list[tuple[Any, Any]] = []
        self._figures: list[Floats] = []
        self._bits: list[NDArray[np.uint64]] = []
        self._reasons: dict[str, int] = {}
        self._last = ("", "")

    def add(self, batch: Any) -> None:
        """Adds a batch of rows."""
        if not batch.num_rows:
            return
        video, expression = batch.column("video"), batch.column("expression")
        starts = _starts(video, expression)
        figures = np.add.reduceat(_figures(batch), starts, axis=1)
        bits = np.bitwise_or.reduceat(self._bits_of(batch.column("reason")), starts)
        names = video.take(pa.array(starts)), expression.take(pa.array(starts))
        if self._figures and (names[0][0].as_py(), names[1][0].as_py()) == self._last:
            # The first sample of the batch began in the one before.
            self._figures[-1][:, -1] += figures[:, 0]
            self._bits[-1][-1] |= bits[0]
            figures, bits = figures[:, 1:], bits[1:]
            names = names[0].slice(1), names[1].slice(1)
        if len(bits):
            self._names.append(names)
            self._figures.append(figures)
            self._bits.append(bits)
            self._last = names[0][-1].as_py(), names[1][-1].as_py()

    def table(self) -> SampleTable:
        """Returns the table of all samples."""
        empty = pa.array([], pa.string())
        videos = pa.chunked_array([video for video, _ in self._names] or [empty])
        expressions = pa.chunked_array([name for _, name in self._names] or [empty])
        figures = np.concatenate([np.zeros((6, 0)), *self._figures], axis=1)
        frames, present, absent, weight, present_weight, agreement = figures
        with np.errstate(invalid="ignore"):
            return SampleTable(
                Texts(videos),
                Texts(expressions),
                frames.astype(np.int64),
                present.astype(np.int64),
                absent.astype(np.int64),
                weight / frames,
                present_weight / present,
                agreement / frames,
                tuple(self._reasons),
                np.concatenate([np.zeros(0, np.uint64), *self._bits]),
            )

    def _bits_of(self, reasons: Any) -> NDArray[np.uint64]:
        """Returns uint64 [n]: the bit of each row's reason, 0 for none."""
        encoded = reasons.dictionary_encode()
        bit = []
        for word in encoded.dictionary.to_pylist():
            place = self._reasons.setdefault(word, len(self._reasons)) if word else -1
            # More reasons than bits do not occur; the last bit would stand for all further ones.
            bit.append(0 if place < 0 else 1 << min(place, _MOST_REASONS))
        values: NDArray[np.uint64] = np.array(bit, np.uint64)[encoded.indices.to_numpy()]
        return values


def _bools(values: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return found


def _starts(video: Any, expression: Any) -> NDArray[np.intp]:
    """Returns the rows at which another sample begins than in the row before."""
    other = pc.or_(
        pc.not_equal(video.slice(1), video.slice(0, len(video) - 1)),
        pc.not_equal(expression.slice(1), expression.slice(0, len(video) - 1)),
    )
    return np.concatenate([[0], 1 + np.flatnonzero(other.to_numpy(zero_copy_only=False))])


def _figures(batch: Any) -> Floats:
    """Returns float64 [6, n]: what is summed of each row."""
    weight = batch.column("weight").to_numpy()
    status = batch.column("status").to_numpy()
    agreement = np.nan_to_num(batch.column("agreement").to_numpy())
    present = status == Status.PRESENT
    columns: Sequence[Any] = (
        np.ones(len(weight)),
        present,
        status == Status.ABSENT,
        weight,
        weight * present,
        agreement,
    )
    return np.stack([np.asarray(column, np.float64) for column in columns])
