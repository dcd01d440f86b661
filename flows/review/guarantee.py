"""Makes the guarantee of a run: labels, thresholds, what they promise, and how far it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.evaluation.expected_gain import quality_of
from flows.evaluation.guarantee import (
    DRIFT_BELOW,
    LEVELS,
    Guarantee,
    HeldOut,
    Labels,
    drift,
    fit,
    held_out,
    least_videos,
)
from flows.evaluation.mask_sources import StoredMasks
from flows.evaluation.scores import score_each
from flows.finished_results import mark_of
from flows.planning.mirrored import upload
from flows.planning.released import check_there
from pipeline.config import RunConfig, load_config
from pipeline.decisions import Sample
from pipeline.errors import ConfigError, InputError, PseudoLabelError
from pipeline.judgements import trust_of
from pipeline.store_urls import resolved
from pipeline.types import FrameQuality, Status
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.guarantee_table import GuaranteeTable, write_guarantee
from storage.run.ledger import Ledger
from storage.sample_table import read_samples


@dataclass(frozen=True)
class Promise:
    """The guarantee of a run.

    Attributes:
        level: J that masks must have to be kept.
        kept: share of the run's samples that are kept.
        held_out: what came of labelled videos that were held out; None if too few are labelled.
        warnings: a sentence each.
    """

    guarantee: Guarantee
    level: float
    kept: float
    samples: int
    labels: int
    held_out: HeldOut | None
    drift: float
    warnings: list[str] = field(default_factory=list)


def make_guarantee(
    config: RunConfig, labels_from: str, level: float = 0.8, confidence: float = 0.9
) -> Promise:
    """Makes the guarantee of a run, and writes ``guarantee.parquet``.

    Args:
        config: of the run.
        labels_from: ``truth``, the data set's ground truth; ``decisions``, what people accepted and
            rejected; or the folder of another run, whose ground truth is taken.
        level: J that masks must have to be kept; one of ``LEVELS``.

    Raises:
        ConfigError: the level is none of those that can be promised.
        PseudoLabelError: there are no labels, or no masks.
    """
    if level not in LEVELS:
        raise ConfigError(f"--keep {level}: expected one of {', '.join(map(str, LEVELS))}")
    context = RunContext(config)
    signals = run_signals(context)
    labels = _labels(context, labels_from, signals)
    made = fit(labels, confidence)
    names, values = list(signals), np.array(list(signals.values()))
    labelled = set(labels.video) if not _is_run(labels_from) else set[str]()
    others = [place for place, (video, _) in enumerate(names) if video not in labelled]
    probability = drift(labels, [names[place][0] for place in others], values[others])
    tested = held_out(labels, level, confidence) if len(labels.videos) > 1 else None
    lower = made.lower(values)
    kept = float((lower >= level - 1e-9).mean())
    promise = Promise(
        made,
        level,
        kept,
        len(names),
        len(labels),
        tested,
        probability,
        _warnings(made, labels_from, level, probability, tested),
    )
    _write(context, promise, names, values, labelled, labels_from)
    return promise


def run_signals(context: RunContext) -> dict[Sample, float]:
    """Returns the signal of every sample: the mean weight of its frames with a mask, or of all its
    frames if none has one. Of samples that people decided about, it is that of the run's own masks.
    """
    paths = context.paths
    receipts = list(Ledger(paths.folder).each("rank"))
    table = read_samples(paths.part("rank", item.shard) for item in receipts)
    samples = zip(table.video, table.expression, strict=True)
    signals = dict(zip(samples, quality_of(table).tolist(), strict=True))
    shard_of = {video: item.shard for item in receipts for video in item.videos}
    for sample in context.verdicts:
        if sample in signals:
            signals[sample] = _undecided_signal(context, shard_of[sample[0]], sample)
    return signals


def _undecided_signal(context: RunContext, shard: str, sample: Sample) -> float:
    paths, video = context.paths, context.reader().video(sample[0])
    check_there(paths, [shard], "the signals of masks that people decided about")
    stored = StoredHypotheses(context.hypotheses(shard), sample[0])
    hypotheses = next(item for item in stored if item.key.expression == sample[1])
    candidates = StoredCandidates(paths.candidates(shard), sample[0])
    rows: list[FrameQuality]
    _, rows = context.parts.rank(
        hypotheses,
        candidates,
        video,
        context.config,
        "",
        context.calibration,
        trust_of(context.judgements(shard), hypotheses.key),
    )
    present = [row.weight for row in rows if row.status == Status.PRESENT]
    return float(np.mean(present or [row.weight for row in rows] or [0.0]))


def _is_run(labels_from: str) -> bool:
    return labels_from not in ("truth", "decisions")


def _labels(context: RunContext, labels_from: str, signals: dict[Sample, float]) -> Labels:
    if labels_from == "decisions":
        found = list(_decided(context))
    elif labels_from == "truth":
        found = list(true_j(context))
    else:
        folder = Path(labels_from)
        stored = folder / "config.toml"
        if not stored.is_file():
            raise ConfigError(
                f"--labels {labels_from}: no run there; expected 'truth', 'decisions', or the"
                " folder of a run whose data set has ground truth"
            )
        words = [f'out="{resolved(folder).parent}"']
        context = RunContext(load_config(stored, words))
        signals, found = run_signals(context), list(true_j(context))
    known = [(sample, j) for sample, j in found if sample in signals and not math.isnan(j)]
    if not known:
        raise PseudoLabelError(
            f"{context.paths.folder}: no labels from {labels_from!r}; expected masks with ground"
            " truth, or decisions that accept or reject; give another --labels, or review samples"
        )
    return Labels(
        [video for (video, _), _ in known],
        np.array([signals[sample] for sample, _ in known], np.float64),
        np.array([j for _, j in known], np.float64),
    )


def true_j(context: RunContext) -> Iterator[tuple[Sample, float]]:
    """Yields the mean J of every sample over its frames with ground truth that are not unknown."""
    receipts = Ledger(context.paths.folder).each("rank")
    videos = [video for item in receipts for video in item.videos]
    for video, found in score_each(context.reader(), videos, StoredMasks(context.paths.masks)):
        if not isinstance(found, InputError):
            for expression, score in found:
                # People's corrections are no masks of the run's own.
                if (video, expression) not in context.verdicts:
                    yield (video, expression), score.j


def _decided(context: RunContext) -> Iterator[tuple[Sample, float]]:
    for sample, verdict in context.verdicts.items():
        yield sample, float(verdict.judged == "accept" and not verdict.spans)


def _warnings(
    made: Guarantee, labels_from: str, level: float, probability: float, tested: HeldOut | None
) -> list[str]:
    lines = []
    least = least_videos(made.confidence)
    if math.isinf(made.thresholds[LEVELS.index(level)]):
        lines.append(
            f"Too few labels: {made.videos} labelled videos. {made.confidence:.0%} confidence needs"
            f" at least {least}, and more the more masks are wrong"
        )
    if labels_from == "decisions":
        lines.append(
            "Decisions count as right or wrong. The promise holds if the reviewed videos were drawn"
            " at random; worst-first decisions make it stricter than necessary"
        )
    if probability < DRIFT_BELOW:
        lines.append(
            f"The run's other videos differ from the labelled ones (p = {probability:.1g}): the"
            " promise need not hold for them; label some of them"
        )
    if tested is not None and tested.wrong > 2 * (1 - made.confidence):
        lines.append(
            f"Of the masks kept in held-out videos {tested.wrong:.0%} are below {level}; label more"
        )
    return lines


def _write(
    context: RunContext,
    promise: Promise,
    names: list[Sample],
    signal: NDArray[np.float64],
    labelled: set[str],
    labels_from: str,
) -> None:
    made, tested = promise.guarantee, promise.held_out
    about = {
        "labels": labels_from if not _is_run(labels_from) else "run",
        "confidence": made.confidence,
        "level": promise.level,
        "kept": promise.kept,
        "labelled_videos": made.videos,
        "labelled_samples": promise.labels,
        "thresholds": {
            str(level): None if math.isinf(limit) else limit
            for level, limit in zip(LEVELS, made.thresholds, strict=True)
        },
        "held_out_kept": None if tested is None else tested.kept,
        "held_out_wrong": None if tested is None or math.isnan(tested.wrong) else tested.wrong,
        "drift_p": promise.drift,
        "warnings": promise.warnings,
        "masks": mark_of(context),
    }
    columns = {
        "video": [video for video, _ in names],
        "expression": [expression for _, expression in names],
        "signal": signal.tolist(),
        "predicted_j": made.predicted(signal).tolist(),
        "lower_j": made.lower(signal).tolist(),
        "labelled": [video in labelled for video, _ in names],
    }
    write_guarantee(context.paths.guarantee, GuaranteeTable(about, columns))
    upload(context.paths.guarantee)
