"""Checks names of a data set that become parts of paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError

MAX_NAME_BYTES = 200
"""File systems allow 255; suffixes and partial files need the rest."""

_MARK = "%"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USUAL = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9_.-]{{0,{MAX_NAME_BYTES - 1}}}")


def safe_name(name: object, source: Path | str, what: str) -> str:
    """Returns the name, if it is a single component of a path and not hidden.

    Args:
        name: id of a video, an expression or a frame, as in the file.
        source: the file it was read from, for the message.
        what: such as ``video id``, for the message.

    Raises:
        InputError: it is not text, is empty or too long, holds a separator or a control character,
            or starts with a dot.
    """
    problem = _problem(name)
    if problem is None:
        assert isinstance(name, str)
        return name
    raise InputError(
        source,
        f"{what} {str(name)[:80]!r} {problem}",
        "a plain name: no separators, no leading dot, at most 200 bytes",
        f"rename or remove this {what}",
    )


def is_safe_name(name: object) -> bool:
    """Whether :func:`safe_name` accepts a name."""
    return _problem(name) is None


def stored_name(name: str) -> str:
    """Returns the name under which a Zarr store keeps a video or an expression.

    Stores reserve names that start with two underscores, as ids of YouTube can, ``zarr.json``, and
    names of partial files. Such a name is put between two percent signs, and so is a name that
    starts with a percent sign, so that different names stay different.
    """
    reserved = name.startswith(("__", _MARK)) or name == "zarr.json" or name.endswith(".partial")
    return f"{_MARK}{name}{_MARK}" if reserved else name


def published_name(stored: str) -> str:
    """Returns the name from which :func:`stored_name` made a stored name."""
    return stored[1:-1] if stored.startswith(_MARK) else stored


def check_inside(path: Path, within: Sequence[Path] | None) -> None:
    """Raises InputError if a file or folder is a link that leads out of some folders.

    Args:
        path: a path whose own folder has been checked.
        within: the folders; None if links may lead anywhere.

    Raises:
        InputError: a link leads out of them, or links go round in a circle.
        OSError: the links cannot be followed.
    """
    if within is None or not path.is_symlink():
        return
    try:
        real = path.resolve()
    except RuntimeError as error:
        # Python 3.11 and 3.12 raise this for links that form a circle.
        raise InputError(
            path, "links that go round in a circle", "a file", "fix the links"
        ) from error
    if not any(real.is_relative_to(area.resolve()) for area in within):
        raise InputError(
            path,
            f"a link that leads out of the data set, to {real}",
            f"files inside {within[0]}, as dataset.links is 'inside'",
            "copy the files in, or set dataset.links to 'follow' if you trust the data set",
        )


def _problem(name: object) -> str | None:
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, not text"
    if _USUAL.fullmatch(name):
        return None
    if not name or name != name.strip():
        return "is empty or has spaces around it"
    if "/" in name or "\\" in name or ":" in name:
        return "holds a path separator"
    if name.startswith("."):
        return "starts with a dot, as hidden files do"
    if _CONTROL.search(name):
        return "holds a control character"
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    if length > MAX_NAME_BYTES:
        return "is too long"
    return None
