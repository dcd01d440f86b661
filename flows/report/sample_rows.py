"""The list of every sample of a run, worst first, in a form that is small in a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.context import RunContext
from flows.evaluation.expected_gain import expected_gain, quality_of
from pipeline.decisions import Sample
from pipeline.errors import InputError
from storage.run.ledger import Ledger
from storage.sample_table import SampleTable, read_samples, read_texts

MOST_ROWS = 50_000
"""Samples that the page lists: with more, browsers take long to open it."""


@dataclass(frozen=True)
class SampleRows:
    """The samples of a run that are listed.

    Attributes:
        samples: (video, expression), worst first.
        total: number of all samples of the run.
        data: JSON of an object: ``kinds``, and ``rows`` in the same order: sentence, video,
            expression, number of the kind, quality, and frames with a mask, absent and unknown.
            It may stand within ``<script>``.
    """

    samples: list[Sample]
    total: int
    data: str


def sample_rows(context: RunContext) -> SampleRows:
    """Reads the samples of all that `rank` has finished, and lists the worst.

    Raises:
        StoreError: a table of the run is damaged.
    """
    paths, ledger = context.paths, Ledger(context.paths.folder)
    table = read_samples(paths.part("rank", item.shard) for item in ledger.each("rank"))
    order = np.argsort(-expected_gain(table), kind="stable")[:MOST_ROWS].tolist()
    samples = [(table.video[row], table.expression[row]) for row in order]
    listed = set(samples)
    texts = {
        (video, expression): text
        for video, expression, text in read_texts(
            paths.part("augment", item.shard) for item in ledger.each("rank")
        )
        if (video, expression) in listed
    }
    kinds = dict(_kinds(context, sorted({video for video, _ in samples})))
    return SampleRows(samples, len(table), _json(table, order, samples, texts, kinds))


def _kinds(context: RunContext, videos: list[str]) -> Iterator[tuple[Sample, str]]:
    reader = context.reader()
    for video in videos:
        try:
            for item in reader.expressions(video):
                yield (video, item.key.expression), item.kind or ""
        except InputError:
            # Its samples are listed without a kind.
            continue


def _json(
    table: SampleTable,
    order: list[int],
    samples: list[Sample],
    texts: dict[Sample, str],
    kinds: dict[Sample, str],
) -> str:
    names = sorted({"", *kinds.values()})
    number = {name: place for place, name in enumerate(names)}
    quality = quality_of(table)
    rows: list[list[Any]] = []
    for row, sample in zip(order, samples, strict=True):
        frames, present, absent = (
            int(column[row]) for column in (table.frames, table.present, table.absent)
        )
        kind = number[kinds.get(sample, "")]
        figures = round(float(quality[row]), 2), present, absent, frames - present - absent
        rows.append([texts.get(sample, ""), *sample, kind, *figures])
    text = json.dumps({"kinds": names, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    # Within <script>, nothing may look like the end of it, or like a comment.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
