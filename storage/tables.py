"""Reads and writes the Parquet tables of a run: augmentations, boxes, quality (``docs/format.md``).

A table is written whole to a partial file and renamed. Its footer states its kind and version.
Letters: Q boxes of a frame, T frames, K texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from itertools import groupby, islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.types import (
    QUALITY_FIGURES,
    Augmentation,
    Boxes,
    FrameQuality,
    Negative,
    Positive,
    Provenance,
    SampleKey,
)
from storage.files.atomic import replace_file
from storage.files.faults import is_files_fault

FORMAT_VERSION = 1
"""Version of every table here. Readers refuse newer ones."""

WRITING: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How every table is written."""

_QUALITY_BATCH = 65_536
_WORDS = pa.dictionary(pa.int32(), pa.string())

AUGMENT_SCHEMA = pa.schema(
    [
        ("video", _WORDS),
        ("expression", _WORDS),
        ("role", _WORDS),
        ("kind", _WORDS),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("similarity", pa.float64()),
        ("model", _WORDS),
        ("revision", _WORDS),
        ("prompt_version", _WORDS),
        ("seed", pa.int64()),
        ("noun", _WORDS),
    ]
)
"""One row per text. ``role`` is original, positive or negative; ``kind`` is of negatives, ``noun``
of the original. Older tables have no ``noun``."""

GROUND_SCHEMA = pa.schema(
    [
        ("video", _WORDS),
        ("frame", pa.int32()),
        ("text", _WORDS),
        ("rank", pa.int32()),
        ("x0", pa.float32()),
        ("y0", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("score", pa.float32()),
    ]
)
"""One row per box, ordered by video, frame, text, rank; one row group per video."""

QUALITY_SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("expression", pa.string()),
        ("frame", pa.int32()),
        ("frame_name", pa.string()),
        *((name, pa.float64()) for name in QUALITY_FIGURES),
        ("status", pa.int8()),
        ("reason", pa.string()),
    ]
)
"""One row per (video, expression, frame), with the fields of :class:`FrameQuality`."""

PROMISED = ("predicted_j", "lower_j")
"""Columns of a merged table about whose samples something is promised (``guarantee_table``)."""


def write_augmentations(
    path: Path, augmentations: Sequence[Augmentation], similarity: str = ""
) -> None:
    """Writes the augmentations of a shard, in order. All must be of one data set and split.

    Args:
        similarity: what measured the similarity of positives, and which were left out; empty if it
            was what wrote them.
    """
    places = {(item.key.dataset, item.key.split) for item in augmentations}
    if len(places) > 1:
        raise ValueError(f"augmentations of {sorted(places)}; expected one data set and split")
    dataset, split = next(iter(places), ("", ""))
    rows = [row for item in augmentations for row in _augmentation_rows(item)]
    table = pa.Table.from_pylist(rows, schema=AUGMENT_SCHEMA)
    about = {"dataset": dataset, "split": split}
    if similarity:
        about["similarity"] = similarity
    _write_table(path, table, "augment", about)


def read_augmentations(path: Path) -> dict[str, list[Augmentation]]:
    """Returns video id -> its augmentations, both in the order written.

    Raises:
        StoreError: the table is missing, damaged, newer, or a sample in it has no original.
    """
    with open_table(path, "augment") as file:
        place = table_about(file)
        rows = file.read().to_pylist()
    result: dict[str, list[Augmentation]] = {}
    for (video, expression), group in groupby(rows, lambda row: (row["video"], row["expression"])):
        key = SampleKey(place["dataset"], place["split"], video, expression)
        result.setdefault(video, []).append(_augmentation_from(path, key, list(group)))
    return result


class GroundWriter:
    """Writes the boxes of a shard, one video at a time. The file appears when the block ends.

    ::

        with GroundWriter(path) as writer:
            writer.write_video("clip", texts, boxes_of_every_frame)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._videos: dict[str, dict[str, Any]] = {}
        self._groups = 0

    def __enter__(self) -> GroundWriter:
        file = self._stack.enter_context(replace_file(self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(file, GROUND_SCHEMA, **WRITING))
        return self

    def write_video(
        self,
        video_id: str,
        texts: Sequence[str],
        boxes: Sequence[Boxes],
        key_frames: Sequence[int] | None = None,
    ) -> None:
        """Adds a video.

        Args:
            video_id: not yet in this table.
            texts: the K texts that the boxes answer, no two equal.
            boxes: of each of the T frames; sorted by (text, rank) here if they are not.
            key_frames: positions of the frames that a model saw; the boxes of the others were
                interpolated. None if it saw all.
        """
        if video_id in self._videos or len(set(texts)) != len(texts):
            raise ValueError(f"video {video_id}: written twice, or two of its texts are equal")
        sorted_boxes = [sort_boxes(frame) for frame in boxes]
        rows = sum(len(frame) for frame in sorted_boxes)
        self._videos[video_id] = {
            "texts": list(texts),
            "frames": len(boxes),
            "row_group": self._groups if rows else None,
        }
        if key_frames is not None:
            self._videos[video_id]["key_frames"] = [int(frame) for frame in key_frames]
        if rows:
            table = _ground_table(video_id, texts, sorted_boxes)
            self._writer.write_table(table, row_group_size=rows)
            self._groups += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._writer.add_key_value_metadata(footer("ground", {"videos": self._videos}))
        self._stack.__exit__(kind, error, trace)


def ground_videos(path: Path) -> list[str]:
    """Returns the videos of a ground table, in the order written. Raises StoreError."""
    with open_table(path, "ground") as file:
        return list(table_entries(file))


def read_ground(path: Path, video_id: str) -> tuple[tuple[str, ...], list[Boxes]]:
    """Returns the texts of a video and, for each of its frames, the boxes in the table's order.

    Raises:
        StoreError: the table is missing, damaged or newer, or does not hold the video.
    """
    with open_table(path, "ground") as file:
        entry = _entry(path, file, video_id)
        group = entry["row_group"]
        table = GROUND_SCHEMA.empty_table() if group is None else file.read_row_group(group)
        return _boxes_from(table, tuple(entry["texts"]), int(entry["frames"]))


def _entry(path: Path, file: Any, video_id: str) -> dict[str, Any]:
    """Returns the entry of a video in the footer."""
    videos = table_entries(file)
    if video_id not in videos:
        raise StoreError(
            f"{path}: no video {video_id}; expected one of {len(videos)}; run ground again"
        )
    return videos[video_id]


def sort_boxes(boxes: Boxes) -> Boxes:
    """Returns boxes sorted by (text, rank), as in a ground table."""
    order = np.lexsort((boxes.rank, boxes.text))
    return Boxes(boxes.xyxy[order], boxes.score[order], boxes.text[order], boxes.rank[order])


def write_quality(path: Path, rows: Iterable[FrameQuality]) -> None:
    """Writes quality rows in batches. Memory does not grow with their number."""
    iterator = iter(rows)
    with (
        replace_file(path) as file,
        pq.ParquetWriter(file, QUALITY_SCHEMA, **WRITING) as writer,
    ):
        while batch := list(islice(iterator, _QUALITY_BATCH)):
            table = pa.Table.from_pylist([asdict(row) for row in batch], schema=QUALITY_SCHEMA)
            writer.write_table(table)
        writer.add_key_value_metadata(footer("quality", {}))


def merge_quality(
    parts: Sequence[Path],
    out: Path,
    promised: Mapping[tuple[str, str], tuple[float, float]] | None = None,
) -> int:
    """Joins quality tables in order, many rows at a time. Returns the number of rows.

    Args:
        promised: (video, expression) -> values of the columns ``PROMISED``; NaN for a sample that
            is left out. None writes no such columns.

    Raises:
        StoreError: a part is missing, damaged or newer.
    """
    rows, schema = 0, QUALITY_SCHEMA
    for name in PROMISED if promised is not None else ():
        schema = schema.append(pa.field(name, pa.float64()))
    with (
        replace_file(out) as file,
        pq.ParquetWriter(file, schema, **WRITING) as writer,
    ):
        for table in _joined(batch for part in parts for batch in _quality_batches(part)):
            writer.write_table(table if promised is None else _with_promises(table, promised))
            rows += table.num_rows
        writer.add_key_value_metadata(footer("quality", {}))
    return rows


def _joined(batches: Iterable[Any]) -> Iterator[Any]:
    """Yields batches of a few rows as tables of many, because every row group of a file takes
    memory and room of its own."""
    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= _QUALITY_BATCH:
            yield pa.Table.from_batches(held).combine_chunks()
            held, count = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _with_promises(table: Any, promised: Mapping[tuple[str, str], tuple[float, float]]) -> Any:
    samples = zip(table["video"].to_pylist(), table["expression"].to_pylist(), strict=True)
    unknown = (np.nan,) * len(PROMISED)
    values = np.array([promised.get(sample, unknown) for sample in samples], np.float64)
    for name, column in zip(PROMISED, values.reshape(-1, len(PROMISED)).T, strict=True):
        table = table.append_column(name, pa.array(column))
    return table


def quality_columns(path: Path) -> list[tuple[str, str]]:
    """Returns the names and types of the columns of a quality table. Raises StoreError."""
    with open_table(path, "quality") as file:
        return [(column.name, str(column.type)) for column in file.schema_arrow]


def iter_quality(path: Path) -> Iterator[FrameQuality]:
    """Yields the rows of a quality table, with one batch in memory. Raises StoreError."""
    names = [field.name for field in fields(FrameQuality)]
    for batch in _quality_batches(path, names):
        columns = [batch.column(name).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            yield FrameQuality(*values)


@contextmanager
def open_table(path: Path, kind: str) -> Iterator[Any]:
    """Opens the Parquet file of a table.

    Raises:
        StoreError: it is missing, newer, or another table; or what is read of it in the block is
            damaged.
    """
    stage = "rank" if kind == "quality" else kind
    remedy = f"remove it and its receipt, and run {stage} again"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_kind(path, file, kind)
            yield file
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such table; expected the {kind} table; {remedy}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if not is_files_fault(error):
            raise
        words = " ".join(str(error).split())
        raise StoreError(
            f"{path}: damaged, or no Parquet file ({words}); expected the {kind} table; {remedy}"
        ) from error


def _quality_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    with open_table(path, "quality") as file:
        yield from file.iter_batches(_QUALITY_BATCH, columns=columns)


def _augmentation_rows(item: Augmentation) -> Iterator[dict[str, Any]]:
    shared = {"video": item.key.video, "expression": item.key.expression, **asdict(item.provenance)}
    for index, positive in enumerate(item.positives):
        role = "positive" if index else "original"
        noun = None if index else item.noun
        yield shared | {"role": role, "kind": None, "noun": noun, **asdict(positive)}
    for negative in item.negatives:
        yield shared | {"role": "negative", **asdict(negative)}


def _augmentation_from(path: Path, key: SampleKey, rows: list[dict[str, Any]]) -> Augmentation:
    first = rows[0]
    if first["role"] != "original":
        raise StoreError(f"{path}: {key} starts with a {first['role']}; expected its original")
    return Augmentation(
        key=key,
        positives=tuple(
            Positive(row["text"], row["confidence"], row["similarity"])
            for row in rows
            if row["role"] != "negative"
        ),
        negatives=tuple(
            Negative(row["text"], row["kind"]) for row in rows if row["role"] == "negative"
        ),
        provenance=Provenance(
            first["model"], first["revision"], first["prompt_version"], first["seed"]
        ),
        noun=first.get("noun"),
    )


def _boxes_from(
    table: Any, texts: tuple[str, ...], frames: int
) -> tuple[tuple[str, ...], list[Boxes]]:
    row_of = {text: row for row, text in enumerate(texts)}
    frame = table["frame"].to_numpy()
    xyxy = np.stack([table[name].to_numpy() for name in ("x0", "y0", "x1", "y1")], axis=1)
    words = table["text"].cast(pa.string()).combine_chunks().dictionary_encode()
    rows = np.array([row_of[word] for word in words.dictionary.to_pylist()], dtype=np.int32)
    text = rows[words.indices.to_numpy()]
    score, rank = table["score"].to_numpy(), table["rank"].to_numpy()
    bounds = np.searchsorted(frame, np.arange(frames + 1))
    return texts, [
        Boxes(xyxy=xyxy[low:high], score=score[low:high], text=text[low:high], rank=rank[low:high])
        for low, high in pairwise(bounds.tolist())
    ]


def _ground_table(video_id: str, texts: Sequence[str], boxes: Sequence[Boxes]) -> Any:
    xyxy = np.concatenate([np.asarray(item.xyxy, dtype=np.float32) for item in boxes])
    text = np.concatenate([item.text for item in boxes]).astype(np.int32)
    frame = np.repeat(np.arange(len(boxes), dtype=np.int32), [len(item) for item in boxes])
    rows = len(frame)
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [video_id]),
        frame,
        pa.DictionaryArray.from_arrays(pa.array(text), pa.array(texts, pa.string())),
        np.concatenate([item.rank for item in boxes]).astype(np.int32),
        *np.ascontiguousarray(xyxy.T),
        np.concatenate([item.score for item in boxes]).astype(np.float32),
    ]
    return pa.Table.from_arrays(columns, schema=GROUND_SCHEMA)


def _write_table(path: Path, table: Any, kind: str, about: dict[str, Any]) -> None:
    with replace_file(path) as file:
        pq.write_table(table.replace_schema_metadata(footer(kind, about)), file, **WRITING)


def footer(kind: str, about: dict[str, Any]) -> dict[str, str]:
    """Returns the metadata of a table: its kind, its version, and more about it."""
    return {
        "pseudolabels.table": kind,
        "pseudolabels.version": str(FORMAT_VERSION),
        "pseudolabels.about": json.dumps(about),
    }


def _check_kind(path: Path, file: Any, kind: str) -> None:
    metadata = file.metadata.metadata or {}
    found = metadata.get(b"pseudolabels.table", b"another table").decode()
    version = int(metadata.get(b"pseudolabels.version", b"0"))
    if found != kind or version > FORMAT_VERSION:
        raise StoreError(
            f"{path}: {found}, version {version}; expected {kind} of version {FORMAT_VERSION} or"
            " earlier; use the release that wrote it"
        )


def table_entries(file: Any) -> dict[str, dict[str, Any]]:
    """Returns video id -> its entry in the footer of an open table of boxes or tracks."""
    entries: dict[str, dict[str, Any]] = table_about(file)["videos"]
    return entries


def table_about(file: Any) -> dict[str, Any]:
    """Returns what the footer of an open table says about it."""
    about: dict[str, Any] = json.loads(file.metadata.metadata[b"pseudolabels.about"])
    return about
