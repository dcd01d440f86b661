"""Export to videos that people look at, and to masks as images.

::

    <out>/<video>/overlay.mp4                       H.264; a colour for each sentence, and a legend
    <out>/<video>/tracks.mp4                        each track in its colour, with its number
    <out>/<video>/masks/<expression>/<frame>.png    8-bit grey, 255 inside and 0 outside
    <out>/export.json                               says that this is an export

An overlay has the times of the video's frames where the data set gives them, else ten frames a
second. A mask is empty where the target is absent and where it is unknown; the legend says which.
The tracks are there for a run's own masks: the legend says which of them each sentence took, with
its score, and which is the next.
Letters: E expressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from pipeline.errors import InputError
from pipeline.marks import colour_of
from pipeline.ports import Image
from pipeline.types import FrameIndex, VideoRef
from storage.exports.marked_folder import export_folder
from storage.exports.overlay import NO_TRACK, Painter
from storage.exports.source import ExportReport, ExportSource, TracksOfVideo
from storage.files.atomic import explain_disk_errors, partial_beside, put_in_place
from storage.files.images import png_of
from storage.files.names import safe_name

OVERLAY = "overlay.mp4"
TRACKS = "tracks.mp4"
MASKS = "masks"
FRAMES_PER_SECOND = 10.0
"""Of videos whose data set gives no times."""

_TICKS = 90_000
_BT709 = 1
"""The colours of high definition, in H.264's numbers: what players assume."""


def export_video(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report = ExportReport()
    with export_folder(out, "video") as folder:
        for video in source.videos(report):
            write_overlay(source, video, folder / video.id, report)
    return report


def write_overlay(
    source: ExportSource, video: VideoRef, folder: Path, report: ExportReport
) -> None:
    """Writes the overlay and the masks of one video into a folder, which need not exist.

    A video whose frames cannot be read is cut off there, with a note.

    Raises:
        StoreError: the store is damaged, or no space is left.
    """
    store, masks = source.store, folder / MASKS
    expressions, texts = store.expressions(video.id), store.texts(video.id)
    for expression in expressions:
        (masks / safe_name(expression, folder, "expression id")).mkdir(parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    painter = Painter((video.height, video.width), texts, source.warning)
    if painter.lacking:
        letters = "".join(painter.lacking[:20])
        report.notes.append(f"{video.id}: no font of this system has {letters} for the legend")
    with _encoder(folder / OVERLAY, painter.size, _times(video)) as add:
        for index, name in enumerate(video.frames):
            found = [source.mask(video.id, expression, index) for expression in expressions]
            for expression, (mask, _, _) in zip(expressions, found, strict=True):
                file = masks / expression / f"{safe_name(name, folder, 'frame name')}.png"
                file.write_bytes(png_of(mask))
                report.add("masks", int(mask.any()))
            try:
                image = source.reader.frame(video, FrameIndex(index))
            except InputError as error:
                report.notes.append(f"{video.id}: the overlay ends before frame {name}: {error}")
                break
            shapes, weights, statuses = zip(*found, strict=True) if found else ((), (), ())
            add(painter.paint(image, shapes, weights, statuses))
    if (tracks := source.tracks(video)) is not None:
        _write_tracks(source, video, tracks, folder / TRACKS)
    report.add("videos")


def _write_tracks(source: ExportSource, video: VideoRef, tracks: TracksOfVideo, path: Path) -> None:
    """Writes a video of the tracks; a video whose frames cannot be read is cut off there."""
    store = source.store
    expressions, texts = store.expressions(video.id), store.texts(video.id)
    words = [tracks.words(expression) for expression in expressions]
    chosen = [tracks.chosen(expression) for expression in expressions]
    colours = [colour_of(mine[0]) if mine else NO_TRACK for mine in chosen]
    size, longest = (video.height, video.width), max(words, key=len, default="")
    painter = Painter(size, texts, source.warning, colours or None, longest)
    only = tracks.of_interest(expressions)
    with _encoder(path, painter.size, _times(video)) as add:
        for index in range(len(video)):
            try:
                image = source.reader.frame(video, FrameIndex(index))
            except InputError:
                break
            numbers, masks = tracks.shown(index, only)
            present = [not set(numbers).isdisjoint(mine) for mine in chosen]
            add(painter.paint_tracks(image, masks, numbers, words, present))


def save_overlay(source: ExportSource, video: VideoRef, expression: str, path: Path) -> None:
    """Writes the overlay of one expression into a file, whole or not at all.

    Raises:
        InputError: a frame is missing or broken.
        StoreError: the store is damaged, no space is left, or the folder may not be written to.
    """
    store = source.store
    text = store.texts(video.id)[store.expressions(video.id).index(expression)]
    painter = Painter((video.height, video.width), [text], source.warning)
    partial = partial_beside(path)
    try:
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _encoder(partial, painter.size, _times(video)) as add:
                for index in range(len(video)):
                    mask, weight, status = source.mask(video.id, expression, index)
                    image = source.reader.frame(video, FrameIndex(index))
                    add(painter.paint(image, [mask], [weight], [status]))
            put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class _Add(Protocol):
    """Adds the next frame."""

    def __call__(self, image: Image) -> None: ...


def _times(video: VideoRef) -> list[int]:
    """When each frame begins, and when the last one ends, in ticks."""
    times = np.array(video.times or np.arange(len(video)) / FRAMES_PER_SECOND)
    steps = np.diff(times)
    last = float(np.median(steps)) if len(steps) else 1.0
    ticks: list[int] = np.round(np.append(times, times[-1] + last) * _TICKS).astype(int).tolist()
    return ticks


@contextmanager
def _encoder(path: Path, size: tuple[int, int], times: list[int]) -> Iterator[_Add]:
    """Gives what adds frames to an H.264 file that browsers and phones play while it loads."""
    rate = Fraction(_TICKS * max(1, len(times) - 1), max(1, times[-1] - times[0]))
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        # Frames that refer to later ones would shift the times.
        options = {"crf": "20", "preset": "veryfast", "bf": "0"}
        stream: Any = file.add_stream("libx264", rate=rate.limit_denominator(1001), options=options)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = (
            _BT709
        )
        ends = pairwise(times)

        def mux(packets: Any) -> None:
            for packet in packets:
                begin, end = next(ends)
                packet.pts = packet.dts = begin
                packet.time_base, packet.duration = Fraction(1, _TICKS), end - begin
                file.mux(packet)

        begins = iter(times)

        def add(image: Image) -> None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = next(begins), Fraction(1, _TICKS)
            mux(stream.encode(frame))

        yield add
        mux(stream.encode())
