"""Reads masks that people corrected: CVAT's XML (or the zip with it) and Label Studio's JSON.

The label of a mask is ``<expression>: <sentence>``, as the exports `cvat` and `label-studio` write
it. Memory holds the masks of a file, compressed. Letters: H W pixels.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.packed_masks import pack_mask, unpack_mask
from storage.files.mask_runs import mask_of_cvat_runs, mask_of_label_studio_runs

VIDEO = "video"
"""The attribute, or the field of a task, that names the video."""

_SEPARATOR = ": "
_CVAT = "annotations.xml"
_OTHER_SHAPES = frozenset({"box", "polygon", "polyline", "points", "ellipse", "cuboid", "skeleton"})
_BLOCK = 1 << 20
MAX_PIXELS = 64_000_000

Frame = int | str
"""A frame by its position, or by its name."""


def label_of(expression: str, text: str) -> str:
    """Returns the label of a sentence."""
    return f"{expression}{_SEPARATOR}{text}"


def expression_of(label: str, expressions: tuple[str, ...]) -> str | None:
    """Returns the expression that a label belongs to; None if it is of none."""
    fitting = [name for name in expressions if label.startswith(f"{name}{_SEPARATOR}"[:64])]
    return max(fitting, key=len, default=None)


@dataclass(frozen=True)
class _Piece:
    """A mask [height, width] within its rectangle."""

    top: int
    left: int
    height: int
    width: int
    packed: bytes


@dataclass
class CorrectedVideo:
    """What people made of a video.

    Attributes:
        frames: the frames that were looked at; None for all.
    """

    frames: set[Frame] | None = None
    _pieces: dict[tuple[str, Frame], list[_Piece]] = field(default_factory=dict)

    @property
    def labels(self) -> set[str]:
        """The labels that have a mask."""
        return {label for label, _ in self._pieces}

    def add(self, label: str, frame: Frame, piece: _Piece) -> None:
        """Adds a mask, or a part of one."""
        self._pieces.setdefault((label, frame), []).append(piece)

    def covers(self, position: int, name: str) -> bool:
        """Whether people looked at a frame."""
        return self.frames is None or position in self.frames or name in self.frames

    def mask(
        self, labels: set[str], position: int, name: str, size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Returns the mask [H, W] of some labels in a frame; empty where there is none.

        Raises:
            ValueError: it does not fit a frame of that size.
        """
        mask = np.zeros(size, np.bool_)
        for label in labels:
            for frame in (position, name):
                for piece in self._pieces.get((label, frame), ()):
                    bottom, right = piece.top + piece.height, piece.left + piece.width
                    if min(piece.top, piece.left) < 0 or bottom > size[0] or right > size[1]:
                        raise ValueError(
                            f"frame {name}: a mask to row {bottom} and column {right}; expected"
                            f" within {size[0]} x {size[1]} pixels (height x width)"
                        )
                    part = unpack_mask(piece.packed, (piece.height, piece.width))
                    mask[piece.top : bottom, piece.left : right] |= part
        return mask


@dataclass
class Corrections:
    """The corrected videos of a file.

    Attributes:
        problems: what was left out, a sentence each.
    """

    videos: dict[str, CorrectedVideo] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def is_corrections(path: Path) -> bool:
    """Returns whether a path is a file of a labelling tool, and no tree of PNG masks."""
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _CVAT in archive.namelist()
    return path.suffix.lower() in (".xml", ".json") and path.is_file()


def read_corrections(path: Path) -> Corrections:
    """Reads a file of CVAT or of Label Studio.

    Raises:
        InputError: it is damaged, or of another format.
    """
    found = Corrections()
    try:
        if path.suffix.lower() == ".json":
            with path.open(encoding="utf-8") as file:
                for task in _items(file):
                    _add_task(found, task)
        else:
            with _opened(path) as stream:
                _add_xml(found, stream)
    except (OSError, zipfile.BadZipFile, ParseError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            path,
            f"not readable ({type(error).__name__}: {error})",
            "CVAT for video 1.1 (XML or zip), or Label Studio's JSON",
            "export the corrected masks again in one of these formats",
        ) from error
    return found


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open(_CVAT) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream


def _add_xml(found: Corrections, stream: IO[bytes]) -> None:
    label, frame = "", -1
    for event, element in iterparse(stream, events=("start", "end")):
        if event == "start":
            if element.tag == "track":
                label = element.attrib["label"]
            elif element.tag == "image":
                frame = int(element.attrib["id"])
            continue
        if element.tag in _OTHER_SHAPES:
            found.problems.append(
                f"frame {element.attrib.get('frame', frame)}: a {element.tag} was left out; turn it"
                " into a mask"
            )
        if element.tag == "mask" and element.attrib.get("outside", "0") != "1":
            _add_cvat_mask(found, element, label, frame)
        if element.tag in ("track", "image"):
            element.clear()


def _add_cvat_mask(found: Corrections, element: Element, label: str, frame: int) -> None:
    values = element.attrib
    label, frame = values.get("label", label), int(values.get("frame", frame))
    named = [item.text or "" for item in element if item.attrib.get("name") == VIDEO]
    if not named or not named[0]:
        found.problems.append(
            f"frame {frame}: a mask of {label!r} has no attribute 'video', and was left out"
        )
        return
    top, left, height, width = (int(values[name]) for name in ("top", "left", "height", "width"))
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f"frame {frame}: a mask of {height} x {width} pixels")
    mask = mask_of_cvat_runs(values["rle"], height, width)
    piece = _Piece(top, left, height, width, pack_mask(mask))
    found.videos.setdefault(named[0], CorrectedVideo()).add(label, frame, piece)


def _add_task(found: Corrections, task: Any) -> None:
    done = [item for item in task.get("annotations", ()) if not item.get("was_cancelled")]
    if not done:
        return
    data = task["data"]
    video = found.videos.setdefault(str(data[VIDEO]), CorrectedVideo(set()))
    assert video.frames is not None, "tasks are of single frames"
    frame = str(data["frame"])
    video.frames.add(frame)
    for result in done[-1]["result"]:
        if result.get("type") != "brushlabels":
            found.problems.append(
                f"{data[VIDEO]} {frame}: a {result.get('type')} was left out; use the brush"
            )
            continue
        height, width = int(result["original_height"]), int(result["original_width"])
        if not 0 < height * width <= MAX_PIXELS:
            raise ValueError(f"{data[VIDEO]} {frame}: a mask of {height} x {width} pixels")
        mask = mask_of_label_studio_runs(result["value"]["rle"], height, width)
        piece = _Piece(0, 0, height, width, pack_mask(mask))
        for label in result["value"]["brushlabels"]:
            video.add(str(label), frame, piece)


def _items(file: IO[str]) -> Iterator[Any]:
    """Yields the items of a JSON list, one at a time."""
    decoder, text, begun = json.JSONDecoder(), "", False
    while True:
        text = text.lstrip()
        if not begun and text:
            if text[0] != "[":
                raise ValueError("no JSON list")
            text, begun = text[1:], True
            continue
        if begun and text.startswith("]"):
            return
        try:
            item, end = decoder.raw_decode(text.lstrip(", \n\r\t"))
        except ValueError:
            block = file.read(_BLOCK)
            if not block:
                raise
            text += block
            continue
        yield item
        text = text.lstrip(", \n\r\t")[end:]
