"""Reads and writes people's decisions: ``review.jsonl`` of a run, and CSV tables of them.

The file grows by whole lines, each flushed to the disk under a lock of the file, so that several
processes can add to it. A line that was torn by a crash is left as it is, and reported.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.decisions import Decision
from pipeline.errors import InputError
from storage.files.atomic import explain_disk_errors, replace_file
from storage.files.csv_files import read_csv_rows
from storage.remote.mirror import mirror_of
from storage.remote.objects import ConflictError

FORMAT_VERSION = 1

_TRIES = 5
"""Times that decisions are added to those of a store, while others add theirs."""

_COLUMNS = ("who", "when", "video", "expression", "action", "from", "to", "track", "masks", "drawn")
_NUMBERS = frozenset({"from", "to", "track"})
_EXPECTED = f"a table with the columns {', '.join(_COLUMNS)}"


@dataclass(frozen=True)
class DecisionLog:
    """The decisions of a file.

    Attributes:
        decisions: in the order of the file.
        problems: lines that could not be read, a sentence each.
    """

    decisions: list[Decision] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_decisions(path: Path) -> DecisionLog:
    """Returns the decisions of ``review.jsonl``; none if there is no file.

    Raises:
        InputError: the file cannot be opened.
    """
    log = DecisionLog()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _add_line(log, path, number, line)
    except FileNotFoundError:
        return log
    except OSError as error:
        raise InputError(
            path, error.strerror or str(error), "decisions of reviewers", "check its permissions"
        ) from error
    return log


def append_decisions(path: Path, decisions: Sequence[Decision]) -> tuple[int, int]:
    """Adds decisions to ``review.jsonl``. When it returns, they are on the disk.

    Returns:
        The size of the file before and after, in bytes.

    Raises:
        NoRoomError: no space is left, or the folder may not be written to.
    """
    lines = [
        json.dumps({"version": FORMAT_VERSION, **item.as_json()}, ensure_ascii=False) + "\n"
        for item in decisions
    ]
    content = "".join(lines).encode("utf-8", "backslashreplace")
    with explain_disk_errors(path):
        return _append(path, content)


def _append(path: Path, content: bytes) -> tuple[int, int]:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A torn last line must not swallow the next one.
        end = file.seek(0, os.SEEK_END)
        if end and (os.pread(descriptor, 1, end - 1) != b"\n"):
            content = b"\n" + content
        after = end + len(content)
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    return end, after


def share_decisions(path: Path) -> None:
    """Adds the decisions of a run in an object store to the local copy, and those of the copy to
    the store. Does nothing for a run in a folder.

    Raises:
        ObjectStoreError: the store refuses or cannot be reached.
    """
    mirror = mirror_of(path.parent)
    for _ in range(_TRIES if mirror is not None else 0):
        assert mirror is not None
        name = mirror.name(path)
        try:
            there, version = mirror.objects.get(name)
        except FileNotFoundError:
            there, version = b"", None
        here = path.read_bytes() if path.exists() else b""
        new = _lines_without(there, here)
        if new:
            with explain_disk_errors(path):
                _append(path, new)
        content = there + _lines_without(here, there)
        if content == there:
            return
        try:
            if version is None:
                mirror.objects.create(name, content)
            else:
                mirror.objects.update(name, content, version)
        except ConflictError:
            # Another reviewer was quicker.
            continue
        return


def _lines_without(content: bytes, others: bytes) -> bytes:
    """Returns the whole lines of a file that another one lacks."""
    known = set(others.splitlines())
    lines = [line for line in content.splitlines() if line.strip() and line not in known]
    return b"".join(line + b"\n" for line in lines)


def write_decision_table(path: Path, decisions: Iterable[Decision]) -> int:
    """Writes decisions as a CSV table. Returns their number."""
    count = 0
    with replace_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for item in decisions:
            values = item.as_json()
            if "drawn" in values:
                values["drawn"] = json.dumps(values["drawn"], separators=(",", ":"))
            cells = (values.get(name) for name in _COLUMNS)
            writer.writerow(["" if cell is None else cell for cell in cells])
            count += 1
    return count


def read_decision_file(path: Path) -> DecisionLog:
    """Returns the decisions of a CSV table, or of another run's ``review.jsonl``.

    Raises:
        InputError: the file is missing, or a row of a table is wrong.
    """
    if path.suffix.lower() != ".csv":
        if not path.is_file():
            raise InputError(path, "no such file", "review.jsonl or a CSV table", "check the path")
        return read_decisions(path)
    rows = read_csv_rows(path, _EXPECTED)
    header = rows[0] if rows else []
    if not {"who", "when", "video", "expression", "action"} <= set(header):
        raise InputError(
            path, f"the columns {', '.join(header)[:120] or 'none'}", _EXPECTED, "name them so"
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        try:
            found.append(Decision.from_json(_values(header, row)))
        except ValueError as error:
            raise InputError(
                path, f"row {number}: {error}", "a decision in every row", "fix or remove the row"
            ) from error
    return DecisionLog(found)


def _values(header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise ValueError(f"{len(row)} cells for {len(header)} columns")
    values: dict[str, Any] = dict(zip(header, row, strict=True))
    if values.get("drawn"):
        values["drawn"] = json.loads(values["drawn"])
    for name in _NUMBERS & values.keys():
        values[name] = int(str(values[name])) if values[name] else None
    return values


def _add_line(log: DecisionLog, path: Path, number: int, line: bytes) -> None:
    try:
        values = json.loads(line)
        if isinstance(values, dict) and values.get("version", 0) > FORMAT_VERSION:
            raise ValueError(f"of version {values['version']}, newer than this release")
        log.decisions.append(Decision.from_json(values))
    except (ValueError, TypeError, RecursionError) as error:
        torn = "" if line.endswith(b"\n") else ", torn at the end of the file"
        log.problems.append(
            f"{path}: line {number} is no decision and was left out{torn} ({error})"
        )
