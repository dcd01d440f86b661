"""Addresses of object stores, and the local folders that hold copies of what lies there.

A run at ``s3://bucket/prefix/run`` is worked on in ``<cache>/stores/s3/bucket/prefix/run``. The
folder tells the address, so that a path is enough wherever a run's folder is asked for.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.cache import cache_folder

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and servers with its interface, Google Cloud Storage, Azure Blob Storage."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""An address. A ``Path`` has made one slash of its two."""

_FOLDER = "stores"


def local_place(value: str | Path) -> Path:
    """Returns the folder that stands for an address: the local copy of an object store's, and the
    folder itself of ``file://``. Another text is a path already.

    Raises:
        ValueError: the address is of another scheme, or names no bucket.
    """
    text = str(value)
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return Path(unquote(urlsplit(f"file:///{rest}").path))
    parts = rest.rstrip("/").split("/")
    if scheme not in SCHEMES:
        raise ValueError(
            f"{text}: an address with {scheme}://; expected a folder, or an address with"
            f" {', '.join(f'{name}://' for name in (*SCHEMES, 'file'))}"
        )
    if any(part in ("", ".", "..") or re.search(r"[\\?#@\x00-\x1f]", part) for part in parts):
        raise ValueError(
            f"{text}: not the address of a place in a bucket; expected {scheme}://bucket/prefix,"
            " without empty parts, user names and queries"
        )
    return stores_folder() / scheme / Path(*parts)


def stores_folder() -> Path:
    """Returns the folder of the local copies. It may not exist. Raises ValueError as
    :func:`pipeline.cache.cache_folder`."""
    return cache_folder() / _FOLDER


def url_of(folder: Path) -> str | None:
    """Returns the address that a local folder, or a file in it, is a copy of; None for others."""
    try:
        within = folder.absolute().relative_to(stores_folder()).parts
    except ValueError:
        return None
    return f"{within[0]}://{'/'.join(within[1:])}" if len(within) > 1 else None


def resolved(place: Path) -> Path:
    """Returns a path without symbolic links; a local copy's as it is, because it tells the
    address."""
    return place.absolute() if url_of(place) is not None else place.resolve()


def is_address(value: str | Path) -> bool:
    """Whether a text is the address of a place in an object store."""
    found = _ADDRESS.fullmatch(str(value))
    return found is not None and found[1].lower() in SCHEMES


def shown(place: Path) -> str:
    """Returns a path as people know it: the address of a local copy, else the path itself."""
    return url_of(place) or str(place)
