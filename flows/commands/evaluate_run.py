"""``evaluate run``: measure the masks of a run, of its student or of another mask store."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.commands.terminal import show_results
from flows.console import Output, write
from flows.context import RunContext
from flows.evaluation.mask_sources import StoredMasks
from flows.evaluation.metrics_table import FIGURES, figure
from flows.evaluation.result import Result, by_video, present, write_csv
from flows.evaluation.scores import SampleScore, left_out, score_each, summarise
from flows.exchange.export import masks_of
from flows.labelling.opened_run import do_stage_again
from flows.progress import reporter
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.text import read_text
from storage.exports.source import ExportSource


def evaluate_run(
    config: RunConfig, console: Console, source: str, as_json: bool, csv: Path | None
) -> None:
    """Measures masks against the ground truth of the data set, and prints the metrics.

    For the run's own masks, also writes ``metrics.json`` with the baseline and the student.

    Args:
        source: ``masks``, ``student``, ``consensus`` or the path of a mask store.
        as_json: print JSON instead of a table.
        csv: folder for tables by sequence and by expression; None for none.

    Raises:
        PseudoLabelError: there are no masks.
    """
    context = RunContext(config)
    if source != "masks":
        present(measure_store(masks_of(context, source), source), console, as_json, csv)
        return
    with reporter(Output(stderr=True) if as_json else console) as progress:
        do_stage_again(config, "evaluate", progress)
    if as_json:
        metrics = json.loads(read_text(context.paths.metrics))
        write(console, json.dumps(metrics, indent=2) + "\n")
    else:
        show_results(console, config.run_folder)
    if csv is not None:
        _write_tables(measure_store(masks_of(context, source), source), csv)


def measure_store(source: ExportSource, name: str) -> Result:
    """Returns the metrics of a mask store against the ground truth of its data set.

    A sample without masks counts as unknown in all frames. A video that cannot be read, or whose
    ground truth cannot be read, is named in ``problems`` and left out.
    """
    reader, problems = source.reader, []
    rows: list[dict[str, Any]] = []
    scores: list[SampleScore] = []
    masks = StoredMasks(source.store.path)
    videos = source.store.videos()
    for video_id, found in score_each(reader, videos, masks, source.check_frames):
        if isinstance(found, InputError):
            problems.append(left_out(video_id, found))
            continue
        for expression, score in found:
            scores.append(score)
            rows.append(_row(video_id, expression, score))
    figures = summarise(scores) or {}
    if not scores:
        problems.append("the data set has no ground truth to measure against")
    shown = {label: figure(figures, keys) for label, keys in FIGURES} if figures else {}
    measured = {row["video"] for row in rows}
    return Result(
        title=f"{name} of {reader.name}, {reader.split}",
        systems={
            name: {
                label: math.nan if value is None else value / 100 for label, value in shown.items()
            }
        },
        sequences=by_video(rows),
        expressions=rows,
        problems=problems,
        counts={"videos": len(measured), "expressions": len(rows)},
    )


def _row(video: str, expression: str, score: SampleScore) -> dict[str, Any]:
    return {
        "video": video,
        "expression": expression,
        "kind": score.kind or "",
        "frames": score.frames,
        "present": score.present,
        "absent": score.absent,
        "J": score.j,
        "F": score.f,
        "J&F": (score.j + score.f) / 2,
        "J, dropped as misses": score.strict_j,
        "F, dropped as misses": score.strict_f,
    }


def _write_tables(result: Result, folder: Path) -> None:
    write_csv(folder / "sequences.csv", result.sequences)
    write_csv(folder / "expressions.csv", result.expressions)
