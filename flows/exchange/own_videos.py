"""Puts videos and sentences from the command line into a ``videos`` data set, and their masks into
folders to look at.

::

    <out>/videos-data/expressions.csv    the sentences; beside it, links to the videos
    <out>/videos-train/                  the run
    <out>/<video>/overlay.mp4, masks/    what a person looks at

Nothing is written where the videos are.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.context import RunContext
from flows.exchange.destination import check_destination, claimed
from flows.exchange.export import masks_of
from flows.planning.run_paths import RunPaths
from pipeline.config import RunConfig, given, load_config
from pipeline.errors import ConfigError, InputError, PseudoLabelError
from pipeline.store_urls import url_of
from storage.datasets.expression_rows import Row, read_rows
from storage.datasets.files import names_in
from storage.datasets.frame_sampling import within
from storage.datasets.frames import SUFFIXES as FRAME_SUFFIXES
from storage.datasets.frames import video_from_folder
from storage.datasets.sentences import checked_sentence
from storage.datasets.video_clip import SUFFIXES
from storage.datasets.video_files import ClipCache
from storage.datasets.video_table import clips_of
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport
from storage.exports.video import write_overlay
from storage.files.atomic import explain_disk_errors, replace_file

DATA = "videos-data"
TABLE = "expressions.csv"
RUN = "videos-train"

_COLUMNS = ("video", "text", "expression_id", "start", "end")
_RESERVED = frozenset({DATA, RUN})


@dataclass(frozen=True)
class Request:
    """What is to be labelled.

    Attributes:
        videos: video files, and folders of frames.
        texts: sentences, each about every video.
        start: where the part to label begins, seconds, or frames of a folder; None: at the start.
        end: where it ends, exclusive; None: at the end.
    """

    videos: tuple[Path, ...]
    texts: tuple[str, ...]
    start: float | None = None
    end: float | None = None


def label_config(
    out: Path,
    config: Path | None,
    settings: Sequence[str],
    *,
    device: str | None,
    rate: float | None,
    max_size: int | None,
) -> RunConfig:
    """Returns the configuration of a run over own videos.

    Args:
        out: folder for the results.
        config: TOML file with settings; None for the demo models.
        settings: further ones, which win.
        device: None for the configuration's.
        rate: frames that are taken of a second; None for the configuration's.
        max_size: longest side of the frames, pixels; None for the configuration's.

    Raises:
        ConfigError: the file or a setting is wrong.
    """
    options = {
        "dataset.name": "videos",
        "dataset.root": out / DATA,
        "dataset.split": "train",
        "out": out,
        "device": device,
        "dataset.frames_per_second": rate,
        "dataset.max_size": max_size,
    }
    words = ["student.enabled=false", "shard_videos=1", *settings]
    words += [given(name, value) for name, value in options.items() if value is not None]
    return load_config(config, words)


def check_request(request: Request, frames_per_second: float | None) -> None:
    """Looks at every video and sentence before anything is written or loaded.

    A video that is broken costs nothing but itself if another is well.

    Raises:
        ConfigError: a sentence is empty or too long, an option does not fit, or nothing is given.
        InputError: a path is wrong, or no video is well.
    """
    if not request.videos or not request.texts:
        what = "VIDEO" if not request.videos else "--text"
        raise ConfigError(
            f"no {what}; expected a video and a sentence;"
            ' give them: pseudolabels label dog.mp4 --text "the brown dog"'
        )
    for text in request.texts:
        try:
            checked_sentence(text, Path("--text"), "the sentence")
        except InputError as error:
            raise ConfigError(f"{error}") from error
    start, end = request.start or 0.0, math.inf if request.end is None else request.end
    if not (0 <= start < end and math.isfinite(start) and request.end != math.inf):
        raise ConfigError(
            f"--start {start:g} with --end {end:g}; expected numbers, and an end after the start;"
            " give other times"
        )
    problems: list[InputError] = []
    for path in request.videos:
        if not path.exists():
            expected = f"a video file ({', '.join(sorted(SUFFIXES))}) or a folder of frames"
            raise InputError(path, "no such file", expected, "check the path", missing=True)
        if path.is_dir() and frames_per_second is not None:
            raise ConfigError(
                f"{path}: a folder of frames with --frames-per-second; expected a video file,"
                " because frames in a folder have no times; leave the option out"
            )
        try:
            _check_video(path, request)
        except InputError as error:
            problems.append(error)
    if len(problems) == len(request.videos):
        raise problems[0]


def _check_video(path: Path, request: Request) -> None:
    """Raises InputError if a video cannot be read, or has no frame in the part."""
    if path.is_dir():
        _check_folder(path)
        frames = len(video_from_folder(path.name, path, None))
        times, last = np.arange(frames, dtype=np.float64), f"number {frames - 1}"
    elif path.suffix.lower() not in SUFFIXES:
        raise InputError(
            path,
            f"a file with the suffix {path.suffix or '(none)'!r}",
            f"one of {', '.join(sorted(SUFFIXES))}, or a folder of frames",
            "convert the video, for example with ffmpeg",
        )
    else:
        times = ClipCache().info(path).times
        last = f"at {times[-1]:.2f} seconds"
    if not within(times, request.start or 0.0, request.end).any():
        end = "the end" if request.end is None else f"{request.end:g}"
        raise InputError(
            path,
            f"no frame from {request.start or 0:g} to {end}, as --start and --end ask",
            f"a part of the video, whose last frame is {last}",
            "give other values",
        )


def _check_folder(path: Path) -> None:
    """Raises InputError if a folder holds videos, or no frames."""
    names = names_in(path, "a folder of frames")
    suffixes = {Path(name).suffix.lower() for name in names}
    expected = "a video file, or a folder with a JPEG or PNG a frame"
    if suffixes & FRAME_SUFFIXES:
        return
    videos = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    if videos:
        remedy = f"give them one by one, such as {path / videos[0]}"
        raise InputError(path, f"a folder of {len(videos)} videos", expected, remedy)
    raise InputError(path, "no frames in this folder", expected, "check the path")


def write_request(request: Request, config: RunConfig) -> tuple[str, ...]:
    """Puts a request into the data set of a folder; returns the ids of its videos there.

    The sentences of an earlier request about the same part of a video go; other rows stay.

    Raises:
        ConfigError: something else is in the way, or the videos of other rows were labelled with
            other frames than these settings give.
        StoreError: no space is left, or the folder may not be written to.
    """
    out, data = config.out, config.out / DATA
    if (url := url_of(out)) is not None:
        raise ConfigError(
            f"{url}: an address; expected a folder for `label`, which writes videos to look at;"
            " give another --out, or use `run`"
        )
    _check_data(out, data)
    try:
        with explain_disk_errors(out):
            data.mkdir(parents=True, exist_ok=True)
            names = [_link(data, path) for path in request.videos]
    except OSError as error:
        found = f"cannot be made ({error.strerror or error})"
        expected = "a folder for the results"
        raise ConfigError(f"{out}: {found}; expected {expected}; give another --out") from error
    asked = {(name, request.start, request.end) for name in names}
    table = data / TABLE
    known = read_rows(table) if table.is_file() else []
    rows = [row for row in known if (row.video, row.start, row.end) not in asked]
    _check_sampling(config, rows)
    rows += [
        Row(0, name, text, str(place), request.start, request.end)
        for name in dict.fromkeys(names)
        for place, text in enumerate(request.texts)
    ]
    with replace_file(table, "w") as file:
        file.write(_csv_of(rows))
    return tuple(
        video_id
        for video_id, clip in clips_of(data, table).items()
        if (clip.path.name, clip.start, clip.end) in asked
    )


def with_request(request: Request, config: RunConfig) -> RunConfig:
    """Writes a request, and returns the configuration of a run over its videos alone. Raises as
    :func:`write_request`."""
    ids = write_request(request, config)
    dataset = config.dataset.model_copy(update={"only_videos": ids})
    return config.model_copy(update={"dataset": dataset})


def check_outputs(config: RunConfig, ids: Sequence[str]) -> None:
    """Raises ConfigError if a folder of something else is where masks go."""
    for video_id in ids:
        check_destination(config.out / video_id, as_folder=True, overwrite=True)


def write_results(config: RunConfig, ids: Sequence[str]) -> tuple[list[Path], ExportReport]:
    """Writes the overlay and the masks of each video that has masks; returns their folders.

    Raises:
        StoreError: the masks are damaged, or no space is left.
    """
    report, folders = ExportReport(), list[Path]()
    try:
        source = masks_of(RunContext(config), "masks")
    except PseudoLabelError:
        return folders, report  # Every video was skipped, as the outcome says.
    for video_id in ids:
        if video_id not in source.store:
            continue
        place = check_destination(config.out / video_id, as_folder=True, overwrite=True)
        with claimed(place), export_folder(place, "video") as folder:
            write_overlay(source, source.reader.video(video_id), folder, report)
        folders.append(config.out / video_id)
    return folders, report


def _check_data(out: Path, data: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: a file; expected a folder for the results; give another --out")
    if not data.is_dir():
        return
    foreign = [path for path in data.iterdir() if path.name != TABLE and not path.is_symlink()]
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: not written by `pseudolabels label`; expected {data} to hold a table"
            " and links alone; give another --out"
        )


def _check_sampling(config: RunConfig, others: Sequence[Row]) -> None:
    """A run has one setting of its frames: masks of the others would not fit theirs any more."""
    stored = RunPaths(config.run_folder).config
    if not others or not stored.is_file():
        return
    before, now = load_config(stored).dataset.sampling, config.dataset.sampling
    if before != now:
        raise ConfigError(
            f"{config.out}: {others[0].video} was labelled there with {_in_words(before)}, now"
            f" {_in_words(now)}; expected one setting in a folder; give another --out"
        )


def _link(data: Path, path: Path) -> str:
    """Links to a video in the data set; returns the name of the link, the same for each call."""
    target = Path(os.path.abspath(path))  # noqa: PTH100 - a link to the link that the user gave
    stem, suffix = (target.stem, target.suffix) if path.is_file() else (target.name, "")
    number = 2 if stem in _RESERVED else 1
    while True:
        name = f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        link = data / name
        if not os.path.lexists(link):
            link.symlink_to(target)
        if link.is_symlink() and link.readlink() == target:
            return name
        number += 1


def _csv_of(rows: Sequence[Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([getattr(row, name) for name in _COLUMNS])
    return file.getvalue()


def _in_words(sampling: dict[str, float]) -> str:
    return (
        ", ".join(f"{name} {value:g}" for name, value in sampling.items())
        or "all frames in full size"
    )
