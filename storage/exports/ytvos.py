"""Export to the Ref-YouTube-VOS layout, which its data loaders train from unchanged.

::

    <out>/meta_expressions/<split>/meta_expressions.json
    <out>/<split>/meta.json
    <out>/<split>/JPEGImages/<video>/<frame>.jpg       copies of the data set's frames, or links
    <out>/<split>/Annotations/<video>/<frame>.png      palette, pixel value = object id
    <out>/export.json                                  says that this is an export

That layout gives a pixel to one object, and has no word for *unknown*. So a video's folder holds
the expressions whose masks do not meet, the heavier first, and lists the frames that are known; an
expression that would lose pixels to a heavier one, or that is known in other frames, has a folder
of its own, ``<video>__e<expression>``, or a shorter name where that is taken or too long. No mask
loses a pixel, and no unknown frame teaches background.
Letters: E expressions, T frames, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Expression, Status, VideoRef
from storage.exports.json_stream import JsonStream
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport, ExportSource, place_frame
from storage.files.checksums import bytes_digest
from storage.files.images import write_index_mask
from storage.files.names import MAX_NAME_BYTES

CATEGORY = "others"
"""Loaders look categories up in YouTube-VOS's list, which has this one for whatever it is."""

MAX_OBJECTS = 254
"""Of one folder: a pixel is a byte, 0 is background and 255 is void."""


@dataclass(frozen=True)
class _Sample:
    """One expression of a video.

    Attributes:
        row: its place among the expressions of the store.
        weight: mean weight of the frames that are known.
        known: positions of the frames whose status is not unknown.
    """

    row: int
    expression: str
    weight: float
    known: tuple[int, ...]


@dataclass(frozen=True)
class _Folder:
    """A video of the export: object id of each of its samples, by expression."""

    name: str
    frames: tuple[int, ...]
    objects: dict[str, int]


def export_ytvos(source: ExportSource, out: Path) -> ExportReport:
    """Writes the layout into a folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report, split = ExportReport(), source.reader.split
    names = _Names(source.store.videos())
    with export_folder(out, "ytvos") as folder:
        index = folder / "meta_expressions" / split
        index.mkdir(parents=True)
        (folder / split).mkdir()
        with (
            (index / "meta_expressions.json").open("w", encoding="utf-8") as expression_file,
            (folder / split / "meta.json").open("w", encoding="utf-8") as object_file,
            JsonStream(expression_file) as expressions,
            JsonStream(object_file) as objects,
        ):
            expressions.begin("videos", "{")
            objects.begin("videos", "{")
            for video in source.videos(report):
                said = {item.key.expression: item for item in source.reader.expressions(video.id)}
                for place in _folders(source, video, report, names):
                    shown = _write_folder(source, video, place, folder / split)
                    entry = _expressions_entry(source, video, place, said)
                    expressions.item(entry, key=place.name)
                    objects.item(_objects_entry(shown), key=place.name)
                    report.add("folders")
                    report.add("samples", len(place.objects))
                report.add("videos")
            expressions.end()
            objects.end()
    return report


def _folders(
    source: ExportSource, video: VideoRef, report: ExportReport, names: _Names
) -> list[_Folder]:
    """The folders of a video: the shared one first, if it has samples."""
    samples = _samples(source, video.id)
    for expression in source.store.expressions(video.id):
        if all(item.expression != expression for item in samples):
            report.notes.append(f"{video.id} {expression} was left out: no frame of it is known")
    if not samples:
        return []
    meets, equals = _meetings(source, video)
    # The frames that most samples know; the longer list on a tie.
    counts = Counter(item.known for item in samples)
    shared = max(counts, key=lambda known: (counts[known], len(known), known))
    objects: dict[str, int] = {}
    taken: list[_Sample] = []
    alone: list[_Sample] = []
    for item in sorted(samples, key=lambda item: (-item.weight, item.row)):
        twin = next((other for other in taken if equals[item.row, other.row]), None)
        if item.known == shared and twin is not None:
            objects[item.expression] = objects[twin.expression]
        elif (
            item.known == shared
            and len(taken) < MAX_OBJECTS
            and not any(meets[item.row, other.row] for other in taken)
        ):
            taken.append(item)
            objects[item.expression] = len(taken)
        else:
            alone.append(item)
    result = [_Folder(video.id, shared, objects)] if objects else []
    result += [
        _Folder(names.of(video.id, item.expression), item.known, {item.expression: 1})
        for item in sorted(alone, key=lambda item: item.row)
    ]
    return result


class _Names:
    """Names of the folders of single expressions: none twice, and none that a file system refuses.

    Args:
        videos: ids that the videos' own folders are called by.
    """

    def __init__(self, videos: Iterable[str]) -> None:
        self._taken = {name.casefold() for name in videos}

    def of(self, video: str, expression: str) -> str:
        """A name of its own: ``<video>__e<expression>``; where that is taken or too long, its
        beginning and a digest of both ids."""
        name, number = f"{video}__e{expression}", 0
        while name.casefold() in self._taken or len(name.encode()) > MAX_NAME_BYTES:
            mark = bytes_digest(f"{video}\n{expression}\n{number}".encode())[:16]
            start = video.encode()[: MAX_NAME_BYTES // 2].decode(errors="ignore")
            name, number = f"{start}__e{mark}", number + 1
        self._taken.add(name.casefold())
        return name


def _samples(source: ExportSource, video_id: str) -> list[_Sample]:
    """The expressions of a video that have a known frame."""
    result = []
    for row, expression in enumerate(source.store.expressions(video_id)):
        weight, status = source.store.quality(video_id, expression)
        known = np.flatnonzero(status != Status.UNKNOWN)
        if known.size:
            frames = tuple(int(frame) for frame in known)
            result.append(_Sample(row, expression, float(weight[known].mean()), frames))
    return result


def _meetings(source: ExportSource, video: VideoRef) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which expressions share a pixel in some frame, and which are equal in all; [E, E] each."""
    names = source.store.expressions(video.id)
    meets = np.zeros((len(names), len(names)), np.bool_)
    equals = np.ones((len(names), len(names)), np.bool_)
    for frame in range(len(video)):
        masks = [source.mask(video.id, name, frame)[0] for name in names]
        shown = [bool(mask.any()) for mask in masks]
        for first in range(len(names)):
            for second in range(first):
                if shown[first] != shown[second]:
                    equals[first, second] = False
                elif shown[first]:
                    meets[first, second] |= bool((masks[first] & masks[second]).any())
                    equals[first, second] &= np.array_equal(masks[first], masks[second])
    below = np.tril(equals)
    return meets | meets.T, below | below.T


def _write_folder(
    source: ExportSource, video: VideoRef, place: _Folder, folder: Path
) -> dict[int, list[str]]:
    """Writes frames and masks; returns for each object the frames that show it."""
    images, masks = folder / "JPEGImages" / place.name, folder / "Annotations" / place.name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    shown: dict[int, list[str]] = {number: [] for number in place.objects.values()}
    firsts = {number: name for name, number in reversed(place.objects.items())}
    for frame in place.frames:
        name = video.frames[frame]
        ids = np.zeros((video.height, video.width), np.uint8)
        for number, expression in firsts.items():
            mask, _, _ = source.mask(video.id, expression, frame)
            if mask.any():
                ids[mask] = number
                shown[number].append(name)
        place_frame(source, video, frame, images / f"{name}.jpg")
        write_index_mask(masks / f"{name}.png", ids)
    return shown


def _expressions_entry(
    source: ExportSource, video: VideoRef, place: _Folder, said: dict[str, Expression]
) -> dict[str, object]:
    texts = dict(zip(source.store.expressions(video.id), source.store.texts(video.id), strict=True))
    entries: dict[str, object] = {}
    for name in (name for name in texts if name in place.objects):
        weight, status = source.store.quality(video.id, name)
        entry: dict[str, object] = {
            "exp": texts[name],
            "obj_id": str(place.objects[name]),
            "weight": round(float(weight[status != Status.UNKNOWN].mean()), 4),
        }
        if name in said and said[name].kind is not None:
            entry["kind"] = said[name].kind
        entries[name] = entry
    return {"expressions": entries, "frames": [video.frames[frame] for frame in place.frames]}


def _objects_entry(shown: dict[int, list[str]]) -> dict[str, object]:
    return {
        "objects": {
            str(number): {"category": CATEGORY, "frames": frames}
            for number, frames in sorted(shown.items())
        }
    }
