"""Says whether weights on the disk are intact."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.planning.weight_digests import WeightDigests
from flows.weights.hub import partial_folder, read_manifest, size_of_folder
from flows.weights.needs import Need, is_there
from flows.weights.published import PUBLISHED
from flows.weights.request import Wanted
from pipeline.cache import cache_folder, weights_folder


@dataclass(frozen=True)
class State:
    """What is there of some weights.

    Attributes:
        there: whether they are complete.
        well: whether they are complete and not known to be damaged.
        words: what was found.
        size: bytes on the disk.
    """

    there: bool
    well: bool
    words: str
    size: int


def stored_digests() -> WeightDigests:
    """Returns the digests of files, stored in the cache folder so that each file is read once. In a
    folder that may not be written to, nothing is stored."""
    place = cache_folder()
    return WeightDigests(
        place / "digests.json", lambda checkpoint: [Path(checkpoint)], os.access(place, os.W_OK)
    )


def state_of(need: Need, digest_of: Callable[[Path], str]) -> State:
    """Returns what is there of some weights.

    Args:
        digest_of: returns the SHA-256 of a file, such as those of :func:`stored_digests`.
    """
    if not is_there(need):
        partial = _partial_size(need)
        if need.path.exists():
            return State(False, False, "incomplete", _size(need.path))
        words = f"missing; {partial / 1e6:,.0f} MB were fetched before a cut" if partial else ""
        return State(False, False, words or "missing", partial)
    damage = next(_damage(need, digest_of), None)
    size = _size(need.path)
    if damage:
        return State(True, False, damage, size)
    return State(True, True, "intact" if _is_known(need) else "there; no digest to check", size)


def cached_needs() -> list[Need]:
    """Returns the published weights that are in the cache folder, whole or in part."""
    found = [Need("", weights_folder() / item.file, tokenizer_only=True) for item in PUBLISHED]
    return [need for need in found if need.path.exists() or _partial_size(need)]


def _is_known(need: Need) -> bool:
    item = need.item
    if need.path.is_dir():
        return bool(read_manifest(need.path))
    return item is not None and bool(item.sha256 or item.digest_start)


def _damage(need: Need, digest_of: Callable[[Path], str]) -> Iterator[str]:
    if need.path.is_dir():
        for name, expected in read_manifest(need.path).items():
            path = need.path / name
            if not path.is_file():
                yield f"damaged: {name} is gone"
            elif (found := digest_of(path)) != expected:
                yield f"damaged: {name} has sha256 {found}; expected {expected}"
    elif need.item is not None:
        wanted = Wanted("", need.path, need.item.sha256, need.item.digest_start)
        found = digest_of(need.path)
        if not wanted.fits(found):
            expected = need.item.sha256 or f"{need.item.digest_start}…"
            yield f"damaged: sha256 {found}; expected {expected}"


def _partial_size(need: Need) -> int:
    return Wanted("", need.path).received() or size_of_folder(partial_folder(need))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else size_of_folder(path)
