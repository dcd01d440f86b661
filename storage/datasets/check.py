"""Checks a data set and reports missing, broken and unusual files.

A bad file becomes a finding and does not end the check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets.a2d import A2DSentences, odd_instances
from storage.datasets.meta_expressions import IndexedReader
from storage.datasets.published import published_counts
from storage.files.images import read_image

_PROBLEMS = (InputError, OSError)

Kind = Literal["missing", "broken", "odd"]


@dataclass(frozen=True)
class Finding:
    """Something wrong, or worth knowing, about one file.

    Attributes:
        path: the file, or the sample where no single file is at fault.
        words: what was found and what was expected.
    """

    kind: Kind
    path: str
    words: str


@dataclass
class DatasetCheck:
    """What a walk found.

    Attributes:
        counts: videos, expressions, objects, frames, masks.
        published: of the same things, the published number, where there is one.
        shown: for each target, the annotated frames that show it; without ground truth, all frames.
    """

    counts: Counter[str] = field(default_factory=Counter)
    published: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)

    def add(self, error: InputError | OSError, at: Path | str) -> None:
        """Notes a file that could not be read; the same file once.

        Args:
            at: the file or sample that was read, which an error of the system may not name.
        """
        if isinstance(error, OSError):
            words = f"{error.strerror or error}; this may pass, so check again"
            finding = Finding("broken", str(error.filename or at), words)
        else:
            kind: Kind = "missing" if error.missing else "broken"
            finding = Finding(kind, error.path, f"{error.found}; expected {error.expected}")
        if finding not in self._seen:
            self._seen.add(finding)
            self.findings.append(finding)

    def odd(self, path: Path | str, words: str) -> None:
        """Notes something that is read, but not as one would think."""
        self.findings.append(Finding("odd", str(path), words))

    def __post_init__(self) -> None:
        self._seen: set[Finding] = set()


def check_dataset(
    reader: DatasetReader,
    decode: bool = True,
    advance: Callable[[str], None] = lambda video_id: None,
) -> DatasetCheck:
    """Walks every video, expression, frame and mask of a split.

    Args:
        decode: decode every frame; if not, their headers are read alone.
        advance: told of every video that is done.
    """
    check = DatasetCheck()
    ids = reader.video_ids()
    check.counts["videos"] = len(ids)
    if isinstance(reader, A2DSentences):
        check.counts["rows of a2d_annotation.txt"], check.counts["rows dropped"] = reader.rows()
    for video_id in ids:
        expressions = _expressions(reader, video_id, check)
        try:
            video = reader.video(video_id)
        except _PROBLEMS as error:
            _check_files(reader, video_id, error, check)
        else:
            check.counts["frames"] += len(video)
            if decode:
                _check_frames(reader, video, check)
            _check_truth(reader, video, expressions, check)
        advance(video_id)
    if not check.counts["expressions without a target"]:
        del check.counts["expressions without a target"]
    check.published = published_counts(reader.name, reader.split, len(ids))
    return check


def _expressions(reader: DatasetReader, video_id: str, check: DatasetCheck) -> list[Expression]:
    try:
        found = list(reader.expressions(video_id))
    except _PROBLEMS as error:
        check.add(error, video_id)
        return []
    check.counts["expressions"] += len(found)
    check.counts["objects"] += len({name for item in found for name in item.object_ids})
    if not found:
        check.odd(video_id, "a video without expressions")
    return found


def _check_files(
    reader: DatasetReader, video_id: str, error: InputError | OSError, check: DatasetCheck
) -> None:
    """Looks at every file of a video that cannot be opened as a whole."""
    before = len(check.findings)
    try:
        paths = reader.frame_files(video_id) if isinstance(reader, IndexedReader) else []
    except _PROBLEMS:
        paths = []
    for path in paths:
        try:
            read_image(path)
        except _PROBLEMS as found:
            check.add(found, path)
    if len(check.findings) == before:
        check.add(error, video_id)


def _check_frames(reader: DatasetReader, video: VideoRef, check: DatasetCheck) -> None:
    for index in range(len(video)):
        try:
            reader.frame(video, FrameIndex(index))
        except _PROBLEMS as error:
            check.add(error, video.paths[index])


def _check_truth(
    reader: DatasetReader, video: VideoRef, expressions: list[Expression], check: DatasetCheck
) -> None:
    """Reads all masks of a video, each target's once."""
    targets: dict[tuple[str, ...], Expression] = {}
    for item in expressions:
        if item.object_ids:
            targets.setdefault(item.object_ids, item)
    named = [item for item in expressions if not item.no_target]
    check.counts["expressions without a target"] += len(expressions) - len(named)
    without = [item.key.expression for item in named if not item.object_ids]
    if without and len(without) < len(named):
        check.odd(
            video.id,
            f"expressions {', '.join(without)} name no object that is there; kept without truth",
        )
    for item in targets.values():
        states = list(_visible(reader, video, item, check))
        known = [state for state in states if state is not None]
        check.counts["masks"] += sum(known)
        check.shown.append(sum(known) if known else 0)
        what = f"{video.id}, objects {', '.join(item.object_ids)}"
        if known and not any(known):
            check.odd(what, "in no annotated frame")
        if known and states[-1] is None and reader.name == "jhmdb":
            last = max(index for index, state in enumerate(states) if state is not None)
            check.odd(what, f"masks end after {last + 1} of {len(video)} frames")
    if not targets:
        check.shown += [len(video)] * len(expressions)
    if isinstance(reader, A2DSentences):
        for path in _annotation_files(reader, video, check):
            try:
                words = odd_instances(path)
            except _PROBLEMS as error:
                check.add(error, path)
            else:
                if words:
                    check.odd(path, words)


def _annotation_files(reader: A2DSentences, video: VideoRef, check: DatasetCheck) -> list[Path]:
    try:
        return reader.annotation_files(video.id)
    except _PROBLEMS as error:
        check.add(error, video.id)
        return []


def _visible(
    reader: DatasetReader, video: VideoRef, item: Expression, check: DatasetCheck
) -> Iterator[bool | None]:
    """For each frame whether the target is seen; None without ground truth."""
    for index in range(len(video)):
        try:
            truth = reader.truth(video, item, FrameIndex(index))
        except _PROBLEMS as error:
            check.add(error, f"{video.id}, frame {video.frames[index]}")
            yield None
        else:
            yield None if truth is None else bool(truth.any())
