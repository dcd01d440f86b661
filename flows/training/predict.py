"""``pseudolabels predict``: write a student's masks of a split, in the layout of the servers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from flows.context import RunContext
from flows.exchange.destination import check_no_part_of_run, claimed
from flows.planning.fingerprints import prediction_basis
from flows.planning.run_paths import RunPaths
from flows.progress import reporter
from flows.training.build import build_student
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError, InputError, PseudoLabelError
from pipeline.fingerprint import digest, file_digest
from pipeline.packed_masks import PackedMasks
from pipeline.ports import DatasetReader
from pipeline.text import read_text
from pipeline.types import Expression, PseudoMask, Status, VideoRef
from stages.common.checkpoints import WEIGHTS
from storage.arrays.masks import MaskStore
from storage.exports.streamed import MaskSink, open_sink
from storage.files.atomic import replace_file

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student
    from stages.student.predict import Window

NOTE = "predictions.json"
"""What the masks of a folder were made by."""


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
) -> dict[str, int]:
    """Writes the masks of a split, window by window. Memory does not grow with a video's length.

    Videos that are already there are kept, so that an interrupted command continues. A video that
    cannot be read is skipped.

    Args:
        config: of a run that has a student; with ``weights``, of any data set.
        name: of the student; None for the run's own.
        to: a folder, a path that ends in ``.zip``, or one that ends in ``.zarr``: a mask store
            whose weights say how sure the student is. A zip is written anew.
        how: options.
        console: for messages.
        weights: folder of a student of another run, in place of ``name``.

    Returns:
        Numbers of videos predicted, there before, and skipped.

    Raises:
        ConfigError: there is no such student, or ``to`` is part of a run, or holds masks of another
            student or of other options.
        RunLockedError: another process writes to ``to``.
        StoreError: an existing store cannot be read.
        PseudoLabelError: every video was skipped.
    """
    _check_suffix(to)
    context = RunContext(config)
    reader = context.reader(how.split)
    if not reader.video_ids():
        raise ConfigError(f"split {how.split!r} of {reader.name} holds no videos; give another")
    folder = weights or student_folder(config, name)
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
        return _predict_to(context, student, how, to, fingerprint, console)


def _check_suffix(to: Path) -> None:
    """Raises ConfigError for what looks like a file of another kind."""
    kind = to.suffix.lower()
    if kind in ("", ".zip", ".zarr") or not re.search("[a-z]", kind) or to.is_dir():
        return
    raise ConfigError(
        f"--to {to}: a file that ends in {to.suffix}; expected a folder or a .zip for PNGs, or a"
        " .zarr for a mask store; give another path"
    )


def _predict_to(
    context: RunContext, student: Student, how: How, to: Path, fingerprint: str, console: Console
) -> dict[str, int]:
    reader = context.reader(how.split)
    ids = list(reader.video_ids())
    counts = {"predicted": 0, "there before": 0, "skipped": 0}
    if to.suffix == ".zarr":
        there = _vouch_store(to, fingerprint)
        with reporter(console) as progress:
            context.progress = progress
            stored = predict_split(context, student, how, to, fingerprint, there)
        counts = {name: stored[f"videos {name}"] for name in counts}
        _check_any(counts, len(ids), how)
        return counts
    with open_sink(to, reader.name) as sink, reporter(console) as progress:
        if to.suffix != ".zip":
            _vouch(to, fingerprint, how)
        progress.begin("predict", len(ids), "videos")
        for video_id in ids:
            try:
                fresh = not sink.has(video_id)
                if fresh:
                    frames = _predict_video(student, reader, video_id, sink, how, context.device)
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


def _predict_video(
    student: Student,
    reader: DatasetReader,
    video_id: str,
    sink: MaskSink,
    how: How,
    device: torch.device,
) -> int:
    video = reader.video(video_id)
    expressions = reader.expressions(video_id)
    names = [item.key.expression for item in expressions]
    with sink.video(video_id) as add:
        for part in _windows(student, reader, video, expressions, how, device):
            for row, name in enumerate(names):
                for place, frame in enumerate(part.frames):
                    add(name, video.frames[frame], part.masks[row, place])
    return len(video)


def _windows(
    student: Student,
    reader: DatasetReader,
    video: VideoRef,
    expressions: Sequence[Expression],
    how: How,
    device: torch.device,
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
    )


def _vouch(folder: Path, fingerprint: str, how: How) -> None:
    """Raises ConfigError if a folder has masks of another student; else notes the student there."""
    note = folder / NOTE
    if note.exists():
        try:
            found = json.loads(read_text(note))
            if not isinstance(found, dict):
                raise ValueError(f"a JSON {type(found).__name__}")
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{note}: damaged ({error}); expected which student the masks beside it are of;"
                " remove the folder and predict again, or give another --to"
            ) from error
        if found.get("made_by") == fingerprint:
            return
        raise ConfigError(
            f"{folder}: holds the masks of another student, or of this one predicted otherwise"
            f" ({NOTE}); expected its own, or an empty folder; give another --to, or remove it"
        )
    if (held := next((item.name for item in folder.iterdir()), None)) is not None:
        raise ConfigError(f"{folder}: holds {held}; expected an empty folder; give another --to")
    with replace_file(note, "w") as file:
        json.dump({"made_by": fingerprint, **vars(how)}, file, indent=2)


def _vouch_store(place: Path, fingerprint: str) -> set[str]:
    """Raises ConfigError if a store has masks of another student; else returns its video ids."""
    store = MaskStore(place)
    videos = store.videos()
    for video_id in videos:
        if set(store.fingerprints(video_id)) - {fingerprint}:
            raise ConfigError(
                f"{place}: holds masks ({video_id}) of another student, or of this one predicted"
                " otherwise; expected its own, or no store; give another --to, or remove it"
            )
    return set(videos)


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
