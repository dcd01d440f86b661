"""Returns where weights lie that projects share."""

from __future__ import annotations

import os
from pathlib import Path

PUBLISHED = "published:"
"""Prefix of a path in a configuration: ``published:NAME`` is NAME in :func:`weights_folder`."""


def cache_folder() -> Path:
    """Returns ``PSEUDOLABELS_CACHE``, else the folder of this project in the user's cache folder
    (``XDG_CACHE_HOME``, else ``~/.cache``). It may not exist.

    Raises:
        ValueError: none of the variables is set, and the user has no home folder.
    """
    named = os.environ.get("PSEUDOLABELS_CACHE")
    try:
        if named:
            return Path(named).expanduser().absolute()
        # A relative path in the variable does not count, as the XDG specification says.
        shared = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "pseudolabels"
    except RuntimeError as error:
        raise ValueError(
            f"no cache folder ({error}); set PSEUDOLABELS_CACHE to a folder for weights"
        ) from error


def weights_folder() -> Path:
    """Returns the folder of the published weights. It may not exist."""
    return cache_folder() / "weights"


def resolve_published(value: str) -> str:
    """Returns the path that ``published:NAME`` stands for. Other text is returned as it is.

    Raises:
        ValueError: NAME is not a plain name, or there is no cache folder.
    """
    if not value.startswith(PUBLISHED):
        return value
    name = value.removeprefix(PUBLISHED)
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(
            f"{value!r}; expected published:NAME with the name of a file or folder;"
            " `pseudolabels weights list --all` lists them"
        )
    return str(weights_folder() / name)
