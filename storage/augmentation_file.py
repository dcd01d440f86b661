"""Reads and writes WSRVOS augmentation files: positives and negatives of each sample.

::

    {"ytvos:<video>:<expression>": {"positive_texts": [...], "positive_confidences": [...],
                                    "negative_texts": [...]}, ...}

The first positive is the original, with confidence 1. Sample ids of A2D-Sentences are
``a2d:<video>:<frame>:<instance>`` and of JHMDB-Sentences ``jhmdb:<video>:<frame>``; all other data
sets use the form of Ref-YouTube-VOS, whose loader reads their exports. The additional key
``negative_kinds``, which WSRVOS ignores, has the types of the negatives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.fingerprint import file_digest
from pipeline.types import (
    NEGATIVE_KINDS,
    Augmentation,
    Negative,
    NegativeKind,
    Positive,
    Provenance,
    SampleKey,
)
from storage.files.atomic import replace_file
from storage.files.json_files import list_at, object_at, read_json_object

_LAYOUT = '{id: {"positive_texts": [...], "positive_confidences": [...], "negative_texts": [...]}}'
_REMEDY = "fix the entry, or write the file again"


def write_augmentation_file(
    path: Path,
    augmentations: Iterable[Augmentation],
    frames: Mapping[SampleKey, Sequence[int]] | None = None,
) -> int:
    """Writes augmentations, one entry per sample id, sorted. Returns the number of entries.

    Args:
        path: the JSON file.
        augmentations: of any data sets and videos.
        frames: for ``a2d`` and ``jhmdb``, whose samples are frames: a sample's annotated frames.

    Raises:
        ValueError: a sample of ``a2d`` or ``jhmdb`` has no frames.
    """
    entries: dict[str, Any] = {}
    for item in augmentations:
        entry = {
            "positive_texts": [positive.text for positive in item.positives],
            "positive_confidences": [positive.confidence for positive in item.positives],
            "negative_texts": [negative.text for negative in item.negatives],
            "negative_kinds": [negative.kind for negative in item.negatives],
        }
        for sample_id in sample_ids(item.key, (frames or {}).get(item.key, ())):
            entries[sample_id] = entry
    with replace_file(path, "w") as file:
        json.dump(entries, file, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    return len(entries)


def read_augmentation_file(path: Path, dataset: str, split: str) -> dict[SampleKey, Augmentation]:
    """Returns the augmentations of a file by sample. Ignores entries of other data sets.

    If a sample has one entry per frame, the first id in order counts. Kinds and confidences are
    checked; a negative without a kind has None.

    Args:
        path: the JSON file.
        dataset: the data set that its ids are of, as the project names it.
        split: of that data set.

    Raises:
        InputError: the file is missing or malformed, or an entry is.
    """
    provenance = Provenance("file", file_digest(path)[:16] if path.is_file() else "", "file-1", 0)
    result: dict[SampleKey, Augmentation] = {}
    for sample_id, value in sorted(read_json_object(path, _LAYOUT).items()):
        key = _key(sample_id, dataset, split)
        if key is not None and key not in result:
            entry = object_at(value, path, f"entry {sample_id}", _LAYOUT)
            result[key] = _augmentation(path, sample_id, key, entry, provenance)
    return result


def sample_ids(key: SampleKey, frames: Sequence[int] = ()) -> list[str]:
    """Returns the ids of a sample in the file: one, or one per frame."""
    if key.dataset not in ("a2d", "jhmdb"):
        return [f"ytvos:{key.video}:{key.expression}"]
    if not frames:
        raise ValueError(f"{key}: no frames; expected the annotated frames of the sample")
    if key.dataset == "a2d":
        return [f"a2d:{key.video}:{frame}:{key.expression}" for frame in frames]
    return [f"jhmdb:{key.video}:{frame}" for frame in frames]


def _key(sample_id: str, dataset: str, split: str) -> SampleKey | None:
    """Returns the sample of an id; None if it is not an id of this data set."""
    prefix, *parts = sample_id.split(":")
    if dataset == "a2d" and prefix == "a2d" and len(parts) == 3:
        return SampleKey(dataset, split, parts[0], parts[2])
    if dataset == "jhmdb" and prefix == "jhmdb" and len(parts) == 2:
        return SampleKey(dataset, split, parts[0], "0")
    if dataset not in ("a2d", "jhmdb") and prefix == "ytvos" and len(parts) == 2:
        return SampleKey(dataset, split, parts[0], parts[1])
    return None


def _augmentation(
    path: Path, sample_id: str, key: SampleKey, entry: Mapping[str, Any], provenance: Provenance
) -> Augmentation:
    texts = _texts(path, sample_id, entry, "positive_texts")
    negatives = _texts(path, sample_id, entry, "negative_texts")
    what = f"positive_confidences of {sample_id}"
    confidences = list_at(entry.get("positive_confidences"), path, what, _LAYOUT)
    kinds = list_at(entry.get("negative_kinds", [None] * len(negatives)), path, sample_id, _LAYOUT)
    if not texts or len(confidences) != len(texts) or len(kinds) != len(negatives):
        raise InputError(
            path,
            f"{sample_id} has {len(texts)} positives with {len(confidences)} confidences and"
            f" {len(negatives)} negatives with {len(kinds)} kinds",
            "the original first, and one confidence a positive",
            _REMEDY,
        )
    for confidence in confidences:
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            confidence = -1
        if not 0 <= confidence <= 1:
            raise InputError(path, f"{what} is {confidences}", "numbers in 0..1", _REMEDY)
    return Augmentation(
        key=key,
        positives=tuple(
            Positive(text, float(confidence))
            for text, confidence in zip(texts, confidences, strict=True)
        ),
        negatives=tuple(
            Negative(text, _kind(path, sample_id, kind))
            for text, kind in zip(negatives, kinds, strict=True)
        ),
        provenance=provenance,
    )


def _texts(path: Path, sample_id: str, entry: Mapping[str, Any], name: str) -> list[str]:
    values = list_at(entry.get(name), path, f"{name} of {sample_id}", _LAYOUT)
    for value in values:
        if not isinstance(value, str) or not value.strip() or not _is_utf8(value):
            raise InputError(
                path, f"{name} of {sample_id} holds {value!r:.80}", "sentences", _REMEDY
            )
    return [value.strip() for value in values]


def _is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(path: Path, sample_id: str, value: object) -> NegativeKind | None:
    for kind in NEGATIVE_KINDS:
        if value == kind:
            return kind
    if value is None:
        return None
    raise InputError(
        path,
        f"negative_kinds of {sample_id} holds {value!r}",
        f"null or one of {', '.join(NEGATIVE_KINDS)}",
        _REMEDY,
    )
