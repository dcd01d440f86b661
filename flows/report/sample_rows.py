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


@dataclass(frozen=True)
class SampleRows:
    """Every sample of a run.

    Attributes:
        samples: (video, expression), worst first.
        data: JSON of an object: ``kinds``, and ``rows`` in the same order: sentence, video,
            expression, number of the kind, quality, and frames with a mask, absent and unknown.
            It may stand within ``<script>``.
    """

    samples: list[Sample]
    data: str


def sample_rows(context: RunContext) -> SampleRows:
    """Reads the samples of all that `rank` has finished.

    Raises:
        StoreError: a table of the run is damaged.
    """
    paths = context.paths
    receipts = list(Ledger(paths.folder).receipts("rank"))
    table = read_samples(paths.part("rank", item.shard) for item in receipts)
    texts = {
        (video, expression): text
        for video, expression, text in read_texts(
            paths.part("augment", item.shard) for item in receipts
        )
    }
    order = np.argsort(-expected_gain(table), kind="stable")
    all_of = list(zip(table.video, table.expression, strict=True))
    samples = [all_of[row] for row in order.tolist()]
    kinds = dict(_kinds(context, [video for item in receipts for video in item.videos]))
    return SampleRows(samples, _json(table, order.tolist(), samples, texts, kinds))


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
