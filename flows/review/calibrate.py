"""Makes the calibration of a run's grounder from labelled frames, and says what came of it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.evaluation.calibration import (
    LEAST_OF_EACH,
    Bin,
    Fit,
    Floats,
    LabelledBoxes,
    auroc,
    expected_error,
    fit,
    reliability,
)
from flows.planning.calibrated import basis_of_scores
from flows.planning.mirrored import upload
from flows.review.labelled_boxes import (
    Teller,
    best_scores,
    labelled_boxes,
    told_by_data_set,
    told_by_decisions,
    told_by_masks,
)
from pipeline.calibration import Calibration
from pipeline.config import CALIBRATED, FuseConfig, RunConfig, load_config
from pipeline.errors import ConfigError, PseudoLabelError
from pipeline.store_urls import resolved
from storage.calibration_file import write_calibration
from storage.files.atomic import replace_file
from storage.run.ledger import Ledger

PERCENTS = (5, 10, 25, 50, 75, 90, 95)
PROBABILITIES = (0.1, 0.25, 0.5, 0.75)
SIMILARITY = "similarity from "
"""How the names of such counts begin in receipts of `augment`."""

WEAK_AUROC = 0.6
"""Below it, scores hardly tell right boxes from wrong ones."""


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps.

    Attributes:
        name: of the settings of ``fuse`` that have it; empty for a value of the table alone.
        limit: the threshold.
        of_run: share of the run's best boxes that reach it.
        right: share of the labelled boxes that reach it and are right; NaN if none reaches it.
        found: share of the right boxes that reach it.
    """

    name: str
    limit: float
    of_run: float
    right: float
    found: float


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What a calibration is, and how far it can be trusted.

    Attributes:
        path: of the file that was written.
        labels: boxes that it was made from.
        fit: what was fitted.
        bins: reliability in held-out videos.
        error, raw_error: expected calibration error in held-out videos, and of the scores as they
            are.
        auroc: probability that a right box scores higher than a wrong one.
        kept: what thresholds keep.
        warnings: a sentence each.
    """

    path: Path
    labels: LabelledBoxes
    fit: Fit
    bins: Sequence[Bin]
    error: float
    raw_error: float
    auroc: float
    kept: Sequence[Kept]
    warnings: Sequence[str]


def calibrate(context: RunContext, labels_from: str, out: Path | None = None) -> Calibrated:
    """Fits the scores of a run's grounder to labels, and writes the calibration.

    Args:
        labels_from: ``truth``, the data set's ground truth; ``decisions``, what people decided; the
            folder of another run of the same grounder, whose boxes and ground truth are taken; or a
            folder of masks ``<video>/<expression>/<frame>.png``.
        out: the file; None for ``calibration.json`` in the folder of the run. A picture of the
            same name is written beside it.

    Raises:
        ConfigError: the run has no grounder, or the other run has another one.
        PseudoLabelError: there are no boxes, or too few labels.
    """
    config = context.config
    if config.ground.source == "annotation":
        raise ConfigError(
            f"{config.run_folder}: ground.source={config.ground.source!r}; expected 'model' or"
            " 'mllm': boxes of a data set have no scores to calibrate"
        )
    scores_of = basis_of_scores(config, context.weight_digests().of_checkpoint)
    labelled, tell = _source(context, labels_from, scores_of)
    labels = labelled_boxes(labelled, tell)
    if not labels.are_enough:
        rights = int(labels.right.sum())
        raise PseudoLabelError(
            f"{config.run_folder}: labels from {labels_from!r} are of {len(labels.videos)} videos,"
            f" {rights} right and {len(labels) - rights} wrong boxes; expected at least 2 videos,"
            f" {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong boxes; label more frames"
        )
    made = fit(labels)
    bins = reliability(made.held_out, labels.right)
    raw = expected_error(reliability(labels.score, labels.right))
    told = auroc(labels.score, labels.right)
    kept = _kept(config.fuse, made, labels, best_scores(context))
    path = out or context.paths.calibration
    found = Calibrated(
        path, labels, made, bins, expected_error(bins), raw, told, kept, _warnings(labels, told)
    )
    write_calibration(path, Calibration(*made.knots, scores_of), _about(found, labels_from, config))
    with replace_file(path.with_suffix(".png")) as file:
        file.write(reliability_picture(bins, config.ground.checkpoint))
    for written in (path, path.with_suffix(".png")):
        upload(written)
    return found


def percentiles(context: RunContext) -> list[tuple[int, float]]:
    """Returns percentiles of the scores of the best boxes of a run's original sentences.

    Raises:
        PseudoLabelError: the run has no boxes.
    """
    scores = best_scores(context)
    if not len(scores):
        raise PseudoLabelError(
            f"{context.paths.folder}: no boxes yet; expected a run with stage ground; make it with"
            " `pseudolabels run`"
        )
    return [(percent, float(np.percentile(scores, percent))) for percent in PERCENTS]


def similarities(context: RunContext) -> list[tuple[float, float]]:
    """Returns, for each step of similarity, the share of a run's positives below it; those that
    were left out count too. Empty if no model measured any."""
    counts: Counter[float] = Counter()
    for receipt in Ledger(context.paths.folder).each("augment"):
        for name, count in receipt.counts.items():
            if name.startswith(SIMILARITY):
                counts[float(name.removeprefix(SIMILARITY))] += int(count)
    steps = np.array(sorted(counts))
    below = np.cumsum([counts[step] for step in steps])
    return [
        (float(step), float((total - counts[step]) / below[-1]))
        for step, total in zip(steps, below, strict=True)
    ]


def reliability_picture(bins: Sequence[Bin], name: str) -> bytes:
    """Returns the reliability diagram as a PNG: the share of right boxes over their probability."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot([item.expected for item in bins], [item.found for item in bins], color="tab:blue")
    most = max(item.count for item in bins)
    sizes = [20 + 180 * item.count / most for item in bins]
    axes.scatter([item.expected for item in bins], [item.found for item in bins], s=sizes)
    axes.set_xlabel("probability, in held-out videos")
    axes.set_ylabel("share of boxes that are right")
    axes.set_title(name, fontsize=9, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _source(
    context: RunContext, labels_from: str, scores_of: dict[str, object]
) -> tuple[RunContext, Teller]:
    """Returns the run whose boxes are labelled, and what labels them."""
    if labels_from == "truth":
        return context, told_by_data_set(context)
    if labels_from == "decisions":
        return context, told_by_decisions(context)
    folder = Path(labels_from).expanduser()
    if not (folder / "config.toml").is_file():
        return context, told_by_masks(folder, context.reader())
    words = [f'out="{resolved(folder).parent}"']
    other = RunContext(load_config(folder / "config.toml", words), context.parts)
    theirs = basis_of_scores(other.config, other.weight_digests().of_checkpoint)
    if differ := sorted(name for name in scores_of if theirs.get(name) != scores_of[name]):
        raise ConfigError(
            f"--labels {labels_from}: a run with other {', '.join(differ)} of ground; expected the"
            " grounder of this run, since scores of two models or settings cannot be compared"
        )
    return other, told_by_data_set(other)


def _kept(config: FuseConfig, made: Fit, labels: LabelledBoxes, of_run: Floats) -> list[Kept]:
    calibrated = np.interp(of_run, *made.knots)
    limits: dict[float, list[str]] = {limit: [] for limit in PROBABILITIES}
    for name in CALIBRATED:
        limits.setdefault(float(getattr(config, name)), []).append(name)
    found = []
    for limit, names in sorted(limits.items()):
        reached: NDArray[np.bool_] = made.held_out >= limit
        right = float(labels.right[reached].mean()) if reached.any() else float("nan")
        share = float((calibrated >= limit).mean()) if len(calibrated) else 0.0
        found.append(
            Kept(", ".join(names), limit, share, right, float(reached[labels.right].mean()))
        )
    return found


def _warnings(labels: LabelledBoxes, told: float) -> list[str]:
    lines = []
    if told < WEAK_AUROC:
        lines.append(
            f"A right box scores higher than a wrong one with a chance of {told:.2f} only: the"
            " scores hardly tell them apart, and no calibration can help; take another checkpoint"
        )
    if len(labels.videos) < 5:
        lines.append(
            f"Labels of {len(labels.videos)} videos: the probabilities may be those of these videos"
            " alone; label frames of more"
        )
    return lines


def _about(found: Calibrated, labels_from: str, config: RunConfig) -> dict[str, object]:
    known = labels_from in ("truth", "decisions")
    return {
        "checkpoint": Path(config.ground.checkpoint).name,
        "labels": labels_from if known else "folder",
        "videos": len(found.labels.videos),
        "boxes": len(found.labels),
        "right": int(found.labels.right.sum()),
        "method": found.fit.method,
        "brier": found.fit.brier,
        "expected_calibration_error": found.error,
        "auroc": found.auroc,
        "reliability": [[item.count, item.expected, item.found] for item in found.bins],
    }
