"""``pseudolabels predict``: write a student's masks of a split, in the layout of the servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from flows.context import RunContext
from flows.exchange.destination import check_no_part_of_run, claimed
from flows.planning.fingerprints import prediction_basis
from flows.planning.mirrored import pull
from flows.planning.run_config import place_of_run
from flows.planning.run_paths import RunPaths
from flows.progress import reporter
from flows.training.build import build_student
from flows.training.predict_queries import predict_queries
from flows.training.predicted_files import AsDavisSets, AsMasks, PredictedFiles
from flows.training.prediction_place import (
    Form,
    check_fits,
    check_suffix,
    vouch_folder,
    vouch_store,
)
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError, InputError, PseudoLabelError
from pipeline.fingerprint import digest, file_digest
from pipeline.packed_masks import PackedMasks
from pipeline.ports import DatasetReader
from pipeline.types import Expression, PseudoMask, Status, VideoRef
from stages.common.checkpoints import WEIGHTS
from storage.arrays.masks import MaskStore
from storage.exports.streamed import open_sink

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student
    from stages.student.predict import Window


@dataclass(frozen=True)
class How:
    """Options of a prediction.

    Attributes:
        split: of the data set.
        frames: number of frames of a window, which the student sees together.
        online: use no later frames.
        threshold: a pixel above this probability is in the mask.
    """

    split: str
    frames: int = 8
    online: bool = False
    threshold: float = 0.5


def student_folder(config: RunConfig, name: str | None) -> Path:
    """Returns the folder of a student: one that `pseudolabels train` made, or the run's own."""
    paths = RunPaths(config.run_folder)
    return paths.student if name is None else paths.student_named(name)


def load_student(folder: Path, config: RunConfig, device: torch.device) -> Student:
    """Loads a trained student.

    Args:
        folder: with ``model.safetensors`` and, for a student that is not the run's own, its
            ``config.toml``.
        config: of the run.

    Raises:
        ConfigError: there is no student.
        CheckpointError: its weights do not fit its configuration.
    """
    from stages.common.weights import fill_model

    weights = folder / WEIGHTS
    if not weights.is_file():
        named = sorted(item.parent.name for item in folder.parent.glob(f"*/{WEIGHTS}"))
        raise ConfigError(
            f"{weights}: missing; expected a student that has been trained; train one with"
            f" `pseudolabels train`{', or name one of ' + ', '.join(named) if named else ''}"
        )
    student = build_student(config_of_student(folder, config), device)
    fill_model(student, weights)
    return student.to(device).eval()


def config_of_student(folder: Path, config: RunConfig) -> RunConfig:
    """Returns the configuration of a student; for a run's own student, that of its run.

    Args:
        folder: of the student.
        config: for a student without a configuration.
    """
    own, run = folder / "config.toml", folder.parent / "config.toml"
    if own.exists():
        return load_config(own)
    of_another = folder.parent.absolute() != config.run_folder.absolute()
    return load_config(run) if of_another and run.exists() else config


def made_by(context: RunContext, folder: Path, how: How) -> str:
    """Returns the fingerprint of the masks that a trained student predicts: a digest of its
    weights, of the configuration and models that predict, and of the options.

    Args:
        folder: of the student.
    """
    config = config_of_student(folder, context.config)
    basis = prediction_basis(config, context.weight_digests().of_checkpoint)
    return digest({"student": file_digest(folder / WEIGHTS), "basis": basis, "how": vars(how)})


def predict(
    config: RunConfig,
    name: str | None,
    to: Path,
    how: How,
    console: Console,
    weights: Path | None = None,
    form: Form = "masks",
) -> dict[str, int]:
    """Writes the masks of a split, window by window. Memory does not grow with a video's length.

    Videos that are already there are kept, so that an interrupted command continues. A video that
    cannot be read is skipped.

    Args:
        config: of a run that has a student; with ``weights``, of any data set.
        name: of the student; None for the run's own.
        to: a folder, a path that ends in ``.zip``, or one that ends in ``.zarr``: a mask store
            whose weights say how sure the student is. One that ends in ``.json`` gets COCO results
            of A2D-Sentences or JHMDB-Sentences. A zip and a JSON file are written anew.
        how: options.
        console: for messages.
        weights: folder of a student of another run, in place of ``name``.
        form: what a folder gets.

    Returns:
        Numbers of videos predicted, there before, and skipped.

    Raises:
        ConfigError: there is no such student, or ``to`` is part of a run, or holds masks of another
            student or of other options.
        RunLockedError: another process writes to ``to``.
        StoreError: an existing store cannot be read.
        PseudoLabelError: every video was skipped.
    """
    check_suffix(to, form)
    check_fits(to, form, config.dataset.name)
    context = RunContext(config)
    reader = context.reader(how.split)
    if not reader.video_ids():
        raise ConfigError(f"split {how.split!r} of {reader.name} holds no videos; give another")
    folder = place_of_run(weights) if weights else student_folder(config, name)
    if weights or name is not None:
        pull(folder)
    student = load_student(folder, config, context.device)
    fingerprint = made_by(context, folder, how)
    place = to.absolute()
    if to.resolve() in (context.paths.masks.resolve(), context.paths.predictions.resolve()):
        raise ConfigError(
            f"{to}: written by the run itself; expected a store for this student alone; give"
            " another --to"
        )
    check_no_part_of_run(place, to)
    with claimed(place):
        return _predict_to(context, student, how, to, fingerprint, console, form)


def _predict_to(
    context: RunContext,
    student: Student,
    how: How,
    to: Path,
    fingerprint: str,
    console: Console,
    form: Form,
) -> dict[str, int]:
    reader = context.reader(how.split)
    ids = list(reader.video_ids())
    counts = {"predicted": 0, "there before": 0, "skipped": 0}
    if to.suffix == ".zarr":
        there = vouch_store(to, fingerprint)
        with reporter(console) as progress:
            context.progress = progress
            stored = predict_split(context, student, how, to, fingerprint, there)
        counts = {name: stored[f"videos {name}"] for name in counts}
        _check_any(counts, len(ids), how)
        return counts
    if to.suffix == ".json":
        with reporter(console) as progress:
            return predict_queries(student, reader, to, how, context.device, progress)
    with _opened(to, reader.name, form) as files, reporter(console) as progress:
        if to.suffix != ".zip":
            vouch_folder(to, fingerprint, vars(how))
        progress.begin("predict", len(ids), "videos")
        for video_id in ids:
            try:
                fresh = not files.has(video_id)
                if fresh:
                    frames = _predict_video(student, reader, video_id, files, how, context.device)
                counts["predicted" if fresh else "there before"] += 1
                progress.advance(1, frames if fresh else 0)
            except InputError as error:
                counts["skipped"] += 1
                progress.advance(1)
                progress.say(f"skipped: {error}", "yellow")
        progress.end()
        _check_any(counts, len(ids), how)
    return counts


def _check_any(counts: dict[str, int], videos: int, how: How) -> None:
    if counts["skipped"] == videos:
        raise PseudoLabelError(f"all {videos} videos of split {how.split!r} were skipped")


@contextmanager
def _opened(to: Path, dataset: str, form: Form) -> Iterator[PredictedFiles]:
    """The files that a prediction is written to. Raises as ``open_sink``."""
    with open_sink(to, dataset, scores=form == "scores") as sink:
        yield AsDavisSets(to) if form == "merged" else AsMasks(sink, form == "scores")


def _predict_video(
    student: Student,
    reader: DatasetReader,
    video_id: str,
    files: PredictedFiles,
    how: How,
    device: torch.device,
) -> int:
    video = reader.video(video_id)
    expressions = reader.expressions(video_id)
    with files.video(video, expressions) as take:
        for part in _windows(student, reader, video, expressions, how, device, files.needs_scores):
            take(part)
    return len(video)


def _windows(
    student: Student,
    reader: DatasetReader,
    video: VideoRef,
    expressions: Sequence[Expression],
    how: How,
    device: torch.device,
    scores: bool = False,
) -> Iterator[Window]:
    from stages.student.predict import predict_video

    return predict_video(
        student,
        reader,
        video,
        [item.text for item in expressions],
        device,
        frames=how.frames,
        online=how.online,
        threshold=how.threshold,
        scores=scores,
    )


def predict_split(
    context: RunContext,
    student: Student,
    how: How,
    place: Path,
    fingerprint: str,
    there: Collection[str] = (),
) -> Counter[str]:
    """Predicts the videos of a split into a mask store. Skips videos that cannot be read.

    Args:
        fingerprint: that the masks bear, as :func:`made_by` has it.
        there: ids of videos to keep as they are.
    """
    reader, counts = context.reader(how.split), Counter[str]()
    ids = reader.video_ids()
    store = MaskStore(place)
    context.progress.begin("student: predict", len(ids), "videos")
    for video_id in ids:
        try:
            if video_id in there:
                counts["videos there before"] += 1
            else:
                found = _whole_video(context, student, how, reader.video(video_id), fingerprint)
                store.write_video(*found)
                counts["videos predicted"] += 1
        except InputError as error:
            context.progress.say(f"skipped: {error}", "yellow")
            counts["videos skipped"] += 1
        context.progress.advance(1)
    context.progress.end()
    return counts


def _whole_video(
    context: RunContext, student: Student, how: How, video: VideoRef, fingerprint: str
) -> tuple[VideoRef, list[str], list[PseudoMask]]:
    reader = context.reader(how.split)
    expressions = reader.expressions(video.id)
    shape = (len(expressions), len(video))
    masks = [PackedMasks(len(video), video.height, video.width) for _ in expressions]
    sure, seen = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    for part in _windows(student, reader, video, expressions, how, context.device):
        sure[:, part.frames], seen[:, part.frames] = part.sure, part.masks.any((2, 3))
        for kept, mask in zip(masks, part.masks, strict=True):
            kept.put(part.frames, mask)
    status = np.where(seen, Status.PRESENT, Status.ABSENT).astype(np.uint8)
    found = [
        PseudoMask(item.key, masks[row], sure[row], status[row], fingerprint)
        for row, item in enumerate(expressions)
    ]
    return video, [item.text for item in expressions], found
