"""Computes one digest of a run: masks, weights, statuses, quality, sentences and boxes.

It depends on the content only, not on shards, order, time, chunks, compression or the run's path.
Two runs of one configuration have the same digest if their arithmetic is the same: batch sizes,
device, number of threads and attention kernels change results within rounding, and so the digest.
Only content with a receipt counts. Each video has a digest for each kind of content; the digest of
the run is that of their sorted list, so memory holds one shard's table and one video's masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.integrity.verify import check_run_folder
from flows.planning.mirrored import fetch_products
from flows.planning.run_paths import RunPaths
from pipeline.fingerprint import canonical_json
from pipeline.types import QUALITY_FIGURES, Augmentation, Boxes, FrameQuality
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import ground_videos, iter_quality, read_augmentations, read_ground


def content_digest(folder: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Returns the SHA-256 of a run's content, 64 hexadecimal digits.

    Args:
        folder: of the run.
        progress: called with numbers of videos whose masks were read.

    Raises:
        InputError: the folder is not a run.
        StoreError: a product is damaged.
    """
    check_run_folder(folder)
    lines = sorted(_lines(RunPaths(folder), progress))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lines(paths: RunPaths, progress: Callable[[int], None]) -> Iterator[str]:
    fetch_products(paths.folder, ("augment", "ground", "rank"))
    ledger = Ledger(paths.folder)
    for receipt in ledger.each("augment"):
        found = read_augmentations(paths.part("augment", receipt.shard))
        for video, texts in found.items():
            yield _line(video, "augment", _augmentations(texts))
    for receipt in ledger.each("ground"):
        path = paths.part("ground", receipt.shard)
        for video in ground_videos(path):
            yield _line(video, "ground", _ground(*read_ground(path, video)))
    store = MaskStore(paths.masks)
    for receipt in ledger.each("rank"):
        rows = sorted(
            iter_quality(paths.part("rank", receipt.shard)),
            key=lambda row: (row.video, row.expression, row.frame),
        )
        for video, mine in groupby(rows, lambda row: row.video):
            yield _line(video, "quality", _quality(list(mine)))
        for video in receipt.videos:
            if video in store:
                yield _line(video, "masks", _masks(store, video))
            progress(1)


def _line(video: str, kind: str, parts: Iterator[bytes]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        # Include the length of each part, so that different parts never give the same bytes.
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return canonical_json([video, kind, sha.hexdigest()])


def _augmentations(items: Sequence[Augmentation]) -> Iterator[bytes]:
    for item in sorted(items, key=lambda item: item.key.expression):
        yield canonical_json(asdict(item)).encode()


def _ground(texts: Sequence[str], boxes: Sequence[Boxes]) -> Iterator[bytes]:
    yield canonical_json([list(texts), len(boxes)]).encode()
    for frame in boxes:
        yield _bytes(frame.text, "<i4")
        yield _bytes(frame.rank, "<i4")
        yield _bytes(frame.xyxy, "<f4")
        yield _bytes(frame.score, "<f4")


def _quality(rows: Sequence[FrameQuality]) -> Iterator[bytes]:
    words = [[row.expression, row.frame, row.frame_name, row.status, row.reason] for row in rows]
    yield canonical_json(words).encode()
    figures = np.array(
        [[getattr(row, name) for name in QUALITY_FIGURES] for row in rows], np.float64
    )
    # All NaN count as equal.
    figures[np.isnan(figures)] = np.nan
    yield _bytes(figures, "<f8")


def _masks(store: MaskStore, video: str) -> Iterator[bytes]:
    expressions, texts = store.expressions(video), store.texts(video)
    yield canonical_json([list(store.frames(video)), list(store.size(video))]).encode()
    for expression, text in sorted(zip(expressions, texts, strict=True)):
        mask, weight, status = store.read(video, expression)
        yield canonical_json([expression, text]).encode()
        yield np.packbits(mask).tobytes()
        yield _bytes(weight, "<f4")
        yield _bytes(status, "<u1")


def _bytes(values: NDArray[Any], dtype: str) -> bytes:
    return np.ascontiguousarray(values, dtype=dtype).tobytes()
