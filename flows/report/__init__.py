"""Writes ``report/index.html``, a page with the results of a run, in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from flows.context import RunContext
from flows.evaluation.metrics_table import FIGURES, SYSTEMS, figure
from flows.finished_results import FinishedMasks, promises_of, student_is_done
from flows.planning.stand_ins import stand_in_warning
from flows.report.card import write_card
from flows.report.charts import BINS, histogram_bars, shares
from flows.report.gather import (
    Card,
    cards,
    pick_samples,
    read_metrics,
    read_quality,
)
from flows.report.sample_rows import sample_rows
from flows.report.stage_table import SHARES
from flows.report.work import read_work
from pipeline.config import dump_config
from storage.arrays.masks import MaskStore
from storage.files.atomic import replace_file

PREDICTIONS = 12
"""Samples of the student's predictions that are shown."""

MOST_BYTES, MOST_BYTES_OF_STUDENT = 3_000_000, 600_000
"""Of the images in the page, which has to fit into a mail together with the list of all samples."""

_CHART = {"width": 264.0, "height": 84.0}


def write_report(context: RunContext) -> Counter[str]:
    """Writes the report of a run from its products. Returns the number of samples that it shows."""
    assert context.plan is not None, "a report is of a plan"
    store, config = FinishedMasks(context.paths), context.config
    rows = sample_rows(context)
    picked, total = rows.samples[: config.report.samples], rows.total
    quality = read_quality(context, picked)
    predictions = MaskStore(context.paths.predictions)
    has_student = student_is_done(context.paths, context.plan)
    chosen, _ = pick_samples(predictions, PREDICTIONS) if has_student else ([], 0)
    split = context.prediction_split() if has_student else ""
    metrics = read_metrics(context)
    work = read_work(context)
    promised, problem = promises_of(context)
    if problem:
        context.progress.say(f"The report shows no guarantee: {problem}", "yellow")
    shown: Counter[str] = Counter({"samples": 0, "predictions": 0})
    values: dict[str, Any] = {
        "name": config.run_folder.name,
        "warning": stand_in_warning(config),
        "config": config,
        "config_text": dump_config(config),
        "written": datetime.now(UTC),
        "total": total,
        "listed": len(rows.samples),
        "videos": len(store.videos()),
        "quality": quality,
        "histograms": [
            (chart, histogram_bars(chart, _CHART["width"], _CHART["height"]))
            for chart in quality.histograms
        ],
        "chart": _CHART,
        "bins": BINS,
        "systems": [(name, label) for name, label in SYSTEMS.items() if metrics.get(name)],
        "figures": _figure_rows(metrics),
        "work": work,
        "time_shares": SHARES.values(),
        "stage_shares": shares([row["seconds"] for row in work.stages]),
        "reasons": quality.reasons.most_common(),
        "cards": _limited(
            cards(context, context.reader(), store, picked, quality), MOST_BYTES, shown, "samples"
        ),
        "predictions": _limited(
            cards(context, context.reader(split or None), predictions, chosen, None),
            MOST_BYTES_OF_STUDENT,
            shown,
            "predictions",
        ),
        "rows": rows.data,
        "guarantee": None if promised is None else promised.about,
        "prediction_split": split,
        "style": page_source("report.css"),
        "script": page_source("report.js"),
    }
    stream = page_template("report.html").stream(values)
    with replace_file(context.paths.report, "w") as file:
        # Write card by card, so that memory does not grow with the page.
        for piece in stream:
            file.write(piece)
    write_card(context, quality, work, metrics, total)
    return shown


def _limited(
    found: Iterator[Card], most_bytes: int, shown: Counter[str], name: str
) -> Iterator[Card]:
    """Yields cards until their images take up the bytes that they may, and counts them."""
    taken = 0
    for card in found:
        taken += card.size
        if taken > most_bytes and shown[name]:
            return
        shown[name] += 1
        yield card


def _figure_rows(metrics: dict[str, Any]) -> list[tuple[str, list[float | None]]]:
    """(label, the figure of each system that has figures); rows without any are left out."""
    systems = [metrics[name] for name in SYSTEMS if metrics.get(name)]
    rows = [(label, [figure(system, keys) for system in systems]) for label, keys in FIGURES]
    return [(label, values) for label, values in rows if any(v is not None for v in values)]


def page_template(name: str) -> Template:
    """Returns a template of ``flows/report/templates``, which escapes all values."""
    environment = Environment(
        loader=PackageLoader("flows.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def page_source(name: str) -> str:
    return (files("flows.report") / "templates" / name).read_text(encoding="utf-8")
