"""A folder that says of itself that it is an export, so that it may be replaced by another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.files.atomic import fresh_folder

MARKER = "export.json"
FORMAT = "pseudolabels.export"


@contextmanager
def export_folder(out: Path, kind: str) -> Iterator[Path]:
    """An empty folder that takes the place of ``out`` when the block ends without an error, with a
    file ``export.json`` in it.

    Args:
        kind: name of the export format.

    Raises:
        NoRoomError: no space is left, or the folder may not be written to.
    """
    with fresh_folder(out) as folder:
        yield folder
        text = json.dumps({"format": FORMAT, "kind": kind}, indent=1)
        (folder / MARKER).write_text(f"{text}\n", encoding="utf-8")


def is_export(folder: Path) -> bool:
    """Whether a folder was written by an export."""
    try:
        values = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT
