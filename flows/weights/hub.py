"""Fetches the folder of a model from Hugging Face, or from the mirror that HF_ENDPOINT names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from threading import Event, Thread
from typing import Any

from flows.weights.download import alone
from flows.weights.needs import Need, is_there
from flows.weights.request import Downloads, no_room, unreachable
from pipeline.errors import CheckpointError, NoRoomError
from pipeline.fingerprint import file_digest
from storage.files.atomic import explain_disk_errors, replace_file

MANIFEST = ".pseudolabels.json"
"""In a fetched folder: its repository and revision, and the digest of each file."""

TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
MODEL = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")

SECONDS = 15.0
"""Time for an answer about a repository."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        size: bytes.
        sha256: as the server gives it; None for a small file.
    """

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class HubFolder:
    """The files of a repository that a need asks for.

    Attributes:
        repository: such as ``FacebookAI/roberta-base``.
        revision: the commit.
    """

    repository: str
    revision: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.files)


def ask_hub(need: Need) -> HubFolder:
    """Returns which files of its repository a need asks for, as the server lists them.

    Raises:
        CheckpointError: the server refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    repository = _repository(need)
    patterns = TOKENIZER if need.tokenizer_only else MODEL
    with _explained(repository):
        info = HfApi(endpoint()).model_info(repository, files_metadata=True, timeout=SECONDS)
    files = tuple(
        HubFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or ()
        if "/" not in item.rfilename and any(fnmatch(item.rfilename, p) for p in patterns)
    )
    return HubFolder(repository, info.sha or "main", files)


def endpoint() -> str:
    """Returns the address of Hugging Face, or of the mirror that is set."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def fetch_folder(shared: Downloads, need: Need, folder: HubFolder) -> None:
    """Downloads a folder, checks its files, and puts it in place whole.

    Raises:
        CheckpointError: the server refuses, cannot be reached, or sends other files.
        NoRoomError: the folder does not fit on the disk.
        StoppedError: the user ended it before it began.
    """
    with explain_disk_errors(need.path):
        need.path.parent.mkdir(parents=True, exist_ok=True)
        with alone(shared, need.path):
            if _is_intact(need):
                shared.say(f"{need.path.name}: another process has fetched it")
                return
            _check_replaceable(need)
            _download(shared, need, folder)
            if need.path.exists():
                shutil.rmtree(need.path)
            partial_folder(need).rename(need.path)


def _download(shared: Downloads, need: Need, folder: HubFolder) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    partial = partial_folder(need)
    partial.mkdir(exist_ok=True)
    _check_room(partial, folder)
    disable_progress_bars()
    with _watched(partial, shared.advance), _explained(folder.repository):
        snapshot_download(
            folder.repository,
            revision=folder.revision,
            local_dir=partial,
            endpoint=endpoint(),
            allow_patterns=[item.name for item in folder.files],
            etag_timeout=SECONDS,
            max_workers=4,
        )
    digests = _checked(partial, folder)
    with replace_file(partial / MANIFEST, "w") as file:
        source = {"repository": folder.repository, "revision": folder.revision}
        json.dump({**source, "files": digests}, file, indent=1)
    shutil.rmtree(partial / ".cache", ignore_errors=True)


def partial_folder(need: Need) -> Path:
    """Returns where a folder is fetched before it is whole."""
    return need.path.with_name(f".{need.path.name}.part")


def read_manifest(folder: Path) -> dict[str, str]:
    """Returns the digest of each file of a fetched folder; empty for a folder of the user's own."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _repository(need: Need) -> str:
    found = need.item.repository if need.item is not None else None
    assert found is not None, "only published folders come from the hub"
    return found


def _is_intact(need: Need) -> bool:
    """Returns whether a folder is complete, and its files are those that were fetched."""
    return is_there(need) and all(
        (need.path / name).is_file() and file_digest(need.path / name) == digest
        for name, digest in read_manifest(need.path).items()
    )


def _check_replaceable(need: Need) -> None:
    place = need.path
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() and not (place / MANIFEST).is_file():
        raise CheckpointError(
            place,
            "an incomplete folder that this command did not write",
            "no folder, or a complete one",
            f"add its missing files from {need.item.source if need.item else 'its source'},"
            " or remove it",
        )


def _check_room(partial: Path, folder: HubFolder) -> None:
    free = shutil.disk_usage(partial).free
    needed = folder.size - size_of_folder(partial)
    if needed > free:
        raise NoRoomError(no_room(partial.parent, needed, free))


def _checked(partial: Path, folder: HubFolder) -> dict[str, str]:
    """Returns the digest of each file.

    Raises:
        CheckpointError: a file is not the one that the server lists. It is removed.
    """
    digests = {}
    for item in folder.files:
        path = partial / item.name
        digests[item.name] = found = file_digest(path)
        if path.stat().st_size == item.size and item.sha256 in (None, found):
            continue
        words = f"{path.stat().st_size:,} bytes with sha256 {found}"
        path.unlink()
        raise CheckpointError(
            f"{folder.repository}/{item.name}",
            words,
            f"{item.size:,} bytes" + (f" with sha256 {item.sha256}" if item.sha256 else ""),
            "the folder was not put in place; give the same command again",
        )
    return digests


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns the hub's errors into one message each."""
    from huggingface_hub import errors

    source = f"{endpoint()}/{repository}"
    # The errors of the client that this version of the hub uses, httpx or a successor.
    kinds = {kind.__name__: kind for kind in errors.HfHubHTTPError.__mro__}
    network: Any = kinds.get("HTTPError", ConnectionError)
    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError)
    try:
        yield
    except errors.GatedRepoError as error:
        raise _refused(source, "its licence must be accepted first", error) from error
    except errors.RepositoryNotFoundError as error:
        raise _refused(source, "no such repository, or a private one", error) from error
    except errors.HfHubHTTPError as error:
        raise _refused(source, "the server refuses", error) from error
    except (*offline, network) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise unreachable(endpoint(), reason) from error


def _refused(source: str, what: str, error: Any) -> CheckpointError:
    answer = getattr(error, "response", None)
    status = f" ({answer.status_code})" if answer is not None else ""
    return CheckpointError(
        source,
        f"{what}{status}",
        "a repository that this machine may read",
        "set HF_TOKEN to a token that may read it, or HF_ENDPOINT to another server",
    )


@contextmanager
def _watched(folder: Path, advance: Callable[[int], None]) -> Iterator[None]:
    """Tells how a folder grows while it is downloaded into."""
    ended = Event()
    seen = size_of_folder(folder)

    def watch() -> None:
        nonlocal seen
        last = False
        while not last:
            last = ended.wait(1.0)
            size = size_of_folder(folder)
            advance(size - seen)
            seen = size

    thread = Thread(target=watch, name="download progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def size_of_folder(folder: Path) -> int:
    """Returns the bytes of all files in a folder; 0 if there is none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # It has been renamed in the meantime.
    return total
