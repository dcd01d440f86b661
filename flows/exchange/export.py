"""Exports a run: chooses its masks, its quality rows, and the destination."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast, get_args

from rich.console import Console

from flows.console import say
from flows.context import RunContext
from flows.exchange.destination import check_destination, claimed
from flows.exchange.run_source import RunSource
from flows.finished_results import own_masks, promised_samples, student_is_done
from flows.planning.mirrored import pull
from flows.planning.run_paths import RunPaths
from flows.planning.stand_ins import stand_in_warning
from flows.progress import reporter
from pipeline.config import RunConfig
from pipeline.decisions import Sample
from pipeline.errors import ConfigError, PseudoLabelError
from pipeline.ports import DatasetReader
from pipeline.text import read_text
from pipeline.types import Augmentation, FrameIndex, SampleKey
from storage.arrays.chosen_masks import ChosenMasks
from storage.arrays.masks import MaskStore
from storage.exports import FOLDERS, FORMATS, exporter
from storage.exports.source import ExportReport, ExportSource, Link
from storage.run.ledger import Ledger
from storage.tables import read_augmentations

SHOWN_NOTES = 20

SYSTEM_OF_SOURCE = {"masks": "pseudo_masks", "student": "student", "consensus": ""}
"""Source of an export -> name of its figures in ``metrics.json``."""


def export_run(
    config: RunConfig,
    to: str,
    path: Path,
    console: Console,
    source: str,
    overwrite: bool,
    link: str = "copy",
    minimum_j: float | None = None,
) -> ExportReport:
    """Exports the masks, or for ``wsrvos`` the sentences, of a run.

    Args:
        to: a format of :data:`storage.exports.FORMATS`, or ``wsrvos``.
        path: file or folder to write, depending on the format.
        console: says what was written.
        source: ``masks``, ``student``, ``consensus`` or the path of a mask store.
        overwrite: replace an earlier export.
        link: how frames get into the export, ``copy`` or ``symlink``.
        minimum_j: export only the run's own masks of which this J or more is promised; None for
            all.

    Raises:
        ConfigError: there is no such format or link, or the path may not be replaced.
        RunLockedError: another process writes to the path.
        PseudoLabelError: there is nothing to export, or it does not fit the data set.
    """
    _check_options(to, link)
    if minimum_j is not None and (source != "masks" or to == "wsrvos"):
        other = "--to wsrvos" if to == "wsrvos" else f"--from {source}"
        raise ConfigError(
            f"--minimum-j with {other}: promises are of the run's own masks; leave --minimum-j"
            " out, or export the masks"
        )
    place = check_destination(path, to in FOLDERS, overwrite)
    context = RunContext(config, progress=reporter(console))
    with claimed(place):
        if to == "wsrvos":
            report = ExportReport({"samples": write_augmentations_of(context, place)})
        else:
            masks = replace(described(context, source), link=cast(Link, link))
            if minimum_j is not None:
                masks = _promised(context, masks, minimum_j)
            report = exporter(to)(masks, place)
            if masks.warning:
                report.notes.insert(0, masks.warning)
    figures = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    say(console, f"{path}: {figures}")
    for note in report.notes[:SHOWN_NOTES]:
        say(console, note, "yellow", label="note")
    if len(report.notes) > SHOWN_NOTES:
        say(console, f"… and {len(report.notes) - SHOWN_NOTES} notes more")
    return report


def _promised(context: RunContext, masks: ExportSource, minimum: float) -> ExportSource:
    """The masks of which J of a minimum or more is promised; figures of all masks are no longer
    theirs."""
    store = ChosenMasks(masks.store, promised_samples(context, minimum))
    return replace(masks, store=store, metrics={})


def _check_options(to: str, link: str) -> None:
    """Raises ConfigError if there is no such format or link."""
    if to not in FORMATS and to != "wsrvos":
        names = ", ".join(sorted([*FORMATS, "wsrvos"]))
        near = get_close_matches(to, [*FORMATS, "wsrvos"], 1)
        raise ConfigError(
            f"--to {to}: no such format; expected one of {names}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if link not in get_args(Link):
        raise ConfigError(f"--link {link}: expected {' or '.join(get_args(Link))}")


def described(context: RunContext, source: str) -> ExportSource:
    """The masks that go by a name, with what is known of them: models, metrics, a warning."""
    masks, config = masks_of(context, source), context.config
    ground, augment = config.ground, config.augment
    captioners = {"model": augment.checkpoint, "endpoint": augment.endpoint_model or ""}
    models = {
        "augment": captioners.get(augment.source, augment.source),
        "ground": ground.checkpoint
        if ground.uses_checkpoint
        else ground.mllm.endpoint_model or ground.source,
        "segment": config.segment.checkpoint,
    }
    if config.track.uses_checkpoint:
        models["track"] = config.track.checkpoint
    if source not in SYSTEM_OF_SOURCE:
        # Masks of another origin.
        return masks
    names = {
        stage: checkpoint if checkpoint.startswith("demo:") else Path(checkpoint).name
        for stage, checkpoint in models.items()
    }
    return replace(
        masks,
        models=names,
        warning=stand_in_warning(config) if source == "masks" else "",
        tags=_tags(context) if source == "masks" else {},
        metrics=_metrics(context.paths, SYSTEM_OF_SOURCE[source]),
    )


def _tags(context: RunContext) -> dict[Sample, str]:
    """What people said of samples: ``accepted``, ``rejected``, or ``corrected``."""
    tags = {}
    for sample, verdict in context.verdicts.items():
        corrected = verdict.spans and verdict.judged != "reject"
        tags[sample] = "corrected" if corrected else f"{verdict.judged}ed"
    return tags


def _metrics(paths: RunPaths, system: str) -> dict[str, float]:
    """Figures of a system against ground truth, in percent; empty without any."""
    try:
        values = json.loads(read_text(paths.metrics))[system]["overall"]
        return {str(name): float(value) for name, value in values.items() if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def masks_of(context: RunContext, source: str) -> ExportSource:
    """The masks that go by a name: ``masks``, ``student``, ``consensus``, or a store's path; of the
    run's own, those that it has finished.

    Raises:
        PseudoLabelError: there are none, or the run has not finished the student.
    """
    paths = context.paths
    known: dict[str, tuple[Path, Path | None]] = {
        "masks": (paths.masks, paths.quality),
        "student": (paths.predictions, None),
        "consensus": (paths.consensus / paths.masks.name, paths.consensus / paths.quality.name),
    }
    if source == "consensus":
        pull(paths.consensus)
    place = Path(source)
    inside = place / paths.masks.name
    default = (inside, place / paths.quality.name) if inside.is_dir() else (place, None)
    path, quality = known.get(source, default)
    warning = stand_in_warning(context.config) if source == "masks" else ""
    own = path.resolve() == paths.masks.resolve()
    store = own_masks(context) if own else MaskStore(path)
    if not store.videos():
        raise PseudoLabelError(
            f"{path}: no masks; expected a mask store (--from {source}); make it with"
            " `pseudolabels run` or `pseudolabels import-masks`, or give the path of one"
        )
    if path.resolve() == paths.predictions.resolve():
        _check_student(context)
        return ExportSource(store, context.reader(context.prediction_split()))
    # A folder without a ledger is no run's.
    if own and Ledger(paths.folder).folder.is_dir():
        return RunSource(store, context.reader(), warning=warning, context=context)
    return ExportSource(store, context.reader(), quality, warning)


def _check_student(context: RunContext) -> None:
    """Raises PseudoLabelError where no receipt stands for what the run's student predicted."""
    plan = context.make_plan(remember=False)
    if student_is_done(context.paths, plan):
        return
    why = [job.reason for job in plan.jobs.get("student", ())] or ["student.enabled is false"]
    raise PseudoLabelError(
        f"{context.paths.predictions}: of a student that failed, or of another configuration"
        f" ({why[0]}); expected the masks of a student that the run has finished; make them with"
        " `pseudolabels run`, or give the run's folder, whose config.toml has its configuration"
    )


def write_augmentations_of(context: RunContext, file: Path) -> int:
    """Writes the augmentations of a run's finished shards as a WSRVOS augmentation file; returns
    the number of samples.

    Raises:
        PseudoLabelError: the run has none.
    """
    from storage.augmentation_file import write_augmentation_file

    paths = RunPaths(context.config.run_folder)
    names = [receipt.shard for receipt in Ledger(paths.folder).each("augment")]
    if not names:
        raise PseudoLabelError(
            f"{paths.folder}: no augmentations yet; expected a run; make it with `pseudolabels run`"
        )

    def items() -> Iterator[Augmentation]:
        for name in names:
            for mine in read_augmentations(paths.part("augment", name)).values():
                yield from mine

    frames: dict[SampleKey, list[int]] = {}
    if context.config.dataset.name in ("a2d", "jhmdb"):
        frames = {item.key: annotated_frames(context.reader(), item.key) for item in items()}
    return write_augmentation_file(file, items(), frames)


def annotated_frames(reader: DatasetReader, key: SampleKey) -> list[int]:
    """The numbers in the names of the frames that have ground truth of a sample; all, where none
    has."""
    video = reader.video(key.video)
    mine = [item for item in reader.expressions(key.video) if item.key == key]
    having = [
        int(name)
        for index, name in enumerate(video.frames)
        if mine and reader.truth(video, mine[0], FrameIndex(index)) is not None
    ]
    return having or [int(name) for name in video.frames]
