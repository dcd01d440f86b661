"""Reads and writes what a judge said: ``judge/<shard>.parquet`` (``docs/format.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.judgements import JudgeAnswer, Judgement
from pipeline.types import Provenance, SampleKey
from storage.files.atomic import replace_file
from storage.tables import WRITING, footer, open_table, table_about

_NUMBERS = pa.list_(pa.int32())

JUDGE_SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("expression", pa.string()),
        ("margin", pa.float64()),
        ("voted", _NUMBERS),
        ("tracks", _NUMBERS),
        ("numbers", _NUMBERS),
        ("answer", pa.string()),
        ("chosen", _NUMBERS),
        ("probability", pa.float64()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("prompt_version", pa.string()),
        ("seed", pa.int64()),
    ]
)
"""One row per answer; those of a sentence follow each other. ``chosen`` is null for an answer that
cannot be read, ``probability`` where it is not known."""


def write_judgements(path: Path, judgements: Sequence[Judgement]) -> None:
    """Writes the judgements of a shard, in order. All must be of one data set and split."""
    places = {(item.key.dataset, item.key.split) for item in judgements}
    if len(places) > 1:
        raise ValueError(f"judgements of {sorted(places)}; expected one data set and split")
    dataset, split = next(iter(places), ("", ""))
    rows = [row for item in judgements for row in _rows(item)]
    table = pa.Table.from_pylist(rows, schema=JUDGE_SCHEMA)
    table = table.replace_schema_metadata(footer("judge", {"dataset": dataset, "split": split}))
    with replace_file(path) as file:
        pq.write_table(table, file, **WRITING)


def read_judgements(path: Path) -> Mapping[tuple[str, str], Judgement]:
    """Returns (video, expression) -> its judgement, for the sentences that were asked about.

    Raises:
        StoreError: the table is missing, damaged or newer.
    """
    with open_table(path, "judge") as file:
        place, rows = table_about(file), file.read().to_pylist()
    found = {}
    for sample, group in groupby(rows, lambda row: (row["video"], row["expression"])):
        key = SampleKey(place["dataset"], place["split"], *sample)
        found[sample] = _judgement(key, list(group))
    return found


def _rows(item: Judgement) -> list[dict[str, Any]]:
    shared: dict[str, Any] = {"video": item.key.video, "expression": item.key.expression}
    shared |= {"margin": item.margin, "voted": item.voted, **asdict(item.provenance)}
    return [
        shared
        | {"tracks": answer.tracks, "numbers": answer.numbers, "answer": answer.text}
        | {"chosen": answer.chosen, "probability": answer.probability}
        for answer in item.answers
    ]


def _judgement(key: SampleKey, rows: Sequence[dict[str, Any]]) -> Judgement:
    first = rows[0]
    answers = tuple(
        JudgeAnswer(
            tuple(row["tracks"]),
            tuple(row["numbers"]),
            row["answer"],
            None if row["chosen"] is None else tuple(row["chosen"]),
            row["probability"],
        )
        for row in rows
    )
    names = ("model", "revision", "prompt_version", "seed")
    provenance = Provenance(*(first[name] for name in names))
    return Judgement(key, first["margin"], tuple(first["voted"]), answers, provenance)
