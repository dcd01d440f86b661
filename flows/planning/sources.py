"""Computes and stores digests of the frames and of the ground truth that a run reads, per shard.

Files are digested before a stage reads them, and again only if their names, sizes or modification
times differ. So planning opens no file that is unchanged. Of a data set in an object store, the
tags of the objects count, which are the same on every machine: what one has digested, another one
neither downloads nor digests again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from flows.planning.shards import Shard
from pipeline.errors import InputError
from pipeline.fingerprint import digest
from pipeline.ports import DatasetReader
from pipeline.types import VideoSources
from storage.files.sealed_json import read_sealed, write_sealed
from storage.remote.data_copy import DataCopy
from storage.remote.mirror import mirror_of
from storage.source_files import content, signature

Kind = Literal["frames", "truth"]
KINDS: tuple[Kind, ...] = ("frames", "truth")
"""What a stage can read of the data set; the names are keys of ``made_from`` in receipts."""

OF_OBJECTS = "objects"
"""Folder in the ledger of the digests of a data set in an object store."""

Digests = Callable[[Shard, Kind], str]
"""Returns the digest of what a shard's videos are read from, as ``SourceDigests.of_shard`` does."""


class NotFetchedError(Exception):
    """A digest is not known without a download."""


class SourceDigests:
    """Digests of the files that the videos of shards are read from.

    Args:
        folder: of the run.
        reader: of the split.
        remember: store new digests; False writes nothing, and downloads nothing.
        copy: the local copy of a data set in an object store; None for one in a folder.

    Attributes:
        unknown: videos of shards whose digests were asked for, and take a download.
    """

    def __init__(
        self,
        folder: Path,
        reader: DatasetReader,
        remember: bool = True,
        copy: DataCopy | None = None,
    ) -> None:
        self._run, self._copy = folder, copy
        self._folder = folder / "ledger" / ("sources" if copy is None else OF_OBJECTS)
        self._reader, self._remember = reader, remember
        self.unknown: set[str] = set()
        self._files: dict[Path, tuple[str, str]] = {}

    def of_shard(self, shard: Shard, kind: Kind) -> str:
        """Returns one digest of the frames, or of the ground truth, of a shard's videos.

        Raises:
            NotFetchedError: it takes a download, and ``remember`` is False.
            ObjectStoreError: the store refuses or cannot be reached.
        """
        path = self._folder / f"{shard.name}-{kind}.json"
        try:
            known = read_sealed(path)
        except (OSError, ValueError):
            known = {}
        try:
            found = {video: self._of_video(video, kind, known.get(video)) for video in shard.videos}
        except NotFetchedError:
            self.unknown.update(shard.videos)
            raise
        if self._remember and found and found != known:
            write_sealed(path, found)
            if self._copy is not None and (mirror := mirror_of(self._run)) is not None:
                mirror.upload(path)
        return digest({video: value[1] for video, value in found.items()})

    def _of_video(self, video: str, kind: Kind, known: object) -> list[str]:
        """Returns [signature, digest of the content] of a video."""
        try:
            sources = self._reader.sources(video)
        except InputError as error:
            return ["", f"unreadable: {error.found}"]
        names, places = _parts(sources, kind)
        look = signature if self._copy is None else self._copy.signature
        now = look(names, places)
        if isinstance(known, list) and len(known) == 2 and known[0] == now:
            return [now, str(known[1])]
        if self._copy is not None:
            if not (self._remember or self._copy.has(places)):
                raise NotFetchedError(video)
            self._copy.fetch(places)
        return [now, self._content(names, places)]

    def _content(self, names: tuple[str, ...], places: tuple[Path, ...]) -> str:
        if len(places) != 1 or places[0].is_dir():
            return content(names, places)
        # A file that all videos share, such as that of MeViS, is digested once.
        [place] = places
        look = signature((), places)
        if self._files.get(place, ("", ""))[0] != look:
            self._files[place] = (look, content((), places))
        return self._files[place][1]


def digest_of_sources(digests: Digests, shards: Sequence[Shard], kind: Kind) -> str:
    """Returns one digest of what the videos of some shards are read from."""
    return digest({shard.name: digests(shard, kind) for shard in shards})


def _parts(sources: VideoSources, kind: Kind) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    return (sources.names, sources.frames) if kind == "frames" else ((), sources.truth)
