"""Reads tags that people gave to detections in FiftyOne, from a folder that it exported.

The folder is a ``FiftyOneVideoLabelsDataset``, as `export --to fiftyone` writes it: labels in
``labels/<video>.json``, with the expression of a detection among its attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.decisions import Sample
from pipeline.errors import InputError

_EXPECTED = "a FiftyOneVideoLabelsDataset with labels/<video>.json"
_REMEDY = "export the dataset again, with its detections as frame labels"


def is_fiftyone(path: Path) -> bool:
    """Returns whether a folder may be one of FiftyOne's."""
    return (path / "manifest.json").is_file() and (path / "labels").is_dir()


def read_tags(folder: Path) -> Iterator[tuple[Sample, set[str]]]:
    """Yields the tags that the detections of each sample have, of samples that have any.

    Raises:
        InputError: a file is none of FiftyOne's labels.
    """
    for path in sorted((folder / "labels").glob("*.json")):
        try:
            found = _tags(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                path, f"not readable ({type(error).__name__}: {error})", _EXPECTED, _REMEDY
            ) from error
        for expression, tags in found.items():
            yield (path.stem, expression), tags


def _tags(labels: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for frame in labels["frames"].values():
        for item in (frame.get("objects") or {}).get("objects", ()):
            tags = {str(tag) for tag in item.get("tags") or ()}
            attributes = (item.get("attrs") or {}).get("attrs", ())
            named = [str(one["value"]) for one in attributes if one["name"] == "expression"]
            if tags and named:
                found.setdefault(named[0], set()).update(tags)
    return found
