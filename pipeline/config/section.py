"""What every section of the configuration shares: its base class, and types of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

from pipeline.cache import PUBLISHED, resolve_published
from pipeline.store_urls import is_address, local_place, shown

EXECUTION = frozenset(
    {
        "attention",
        "batch_frames",
        "batch_pairs",
        "batch_texts",
        "checkpoint_every",
        "compile",
        "concurrency",
        "gradient_accumulation_steps",
        "workers",
    }
)
"""Settings that change no result. Fingerprints leave them out."""

MAX_SEED = (1 << 32) - 1
"""The largest seed that every generator of random numbers accepts. The smallest is 0."""


def _users_path(value: Path) -> Path:
    """Returns a path with ``~`` replaced by the user's home folder, and ``published:NAME`` by the
    path of these weights in the cache folder."""
    if is_address(value):
        raise ValueError(
            f"{value}: an address; expected a folder or file; only out and dataset.root take one"
        )
    if "\0" in str(value):
        raise ValueError("contains a null character; expected a path")
    try:
        return Path(resolve_published(str(value))).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}; give the whole path, or set HOME") from error


def _checkpoint(value: str) -> str:
    return str(_users_path(Path(value))) if value.startswith(("~", PUBLISHED)) else value


def _place(value: Path) -> Path:
    """Returns a user's path, or the folder that stands for the address of an object store."""
    return _users_path(local_place(value))


UsersPath = Annotated[Path, AfterValidator(_users_path)]
Place = Annotated[Path, AfterValidator(_place), PlainSerializer(shown, when_used="json")]
"""A folder, or an address such as ``s3://bucket/prefix``. It is written as the user gave it."""

Checkpoint = Annotated[str, AfterValidator(_checkpoint)]


Links = Literal["follow", "inside"]
"""Which links in a data set are read: ``follow`` reads all, ``inside`` only those within it."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def plain_address(value: str | None) -> str | None:
    """Refuses the address of a server that is none, or that holds a secret."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address that begins with http:// or https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The message leaves the value out, since it may be a secret.
        raise ValueError(
            "the address contains a user name, a password or a query, which would be stored"
            " with the run and shown in its report; give the plain address, up to and with /v1,"
            " and put the key into the environment variable OPENAI_API_KEY, or into the one"
            " that api_key_env names"
        )
    return value
