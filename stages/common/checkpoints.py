"""Finds the files of checkpoints and their digests. It imports no model library.

``demo:NAME`` is a checkpoint that ships with the project. Anything else is a path; the
configuration has replaced ``published:NAME`` by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CheckpointError
from pipeline.file_names import is_foreign

DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "weights"
DEMO_NAMES = ("ground", "segment", "track", "captioner")
WEIGHTS = "model.safetensors"
"""The file of a student's weights, in its folder."""

REMEDY = "`pseudolabels doctor` says what is missing and how to fetch it"

_BLOCK = 1 << 22
_SETTINGS = (".json", ".jinja", ".model", ".txt")


def resolve_checkpoint(checkpoint: str) -> Path:
    """Returns the file or folder that a configuration's ``checkpoint`` names.

    Raises:
        CheckpointError: it does not exist.
    """
    scheme, _, name = checkpoint.partition(":")
    if scheme == "demo":
        if name not in DEMO_NAMES:
            raise CheckpointError(
                checkpoint, "no such demo model", f"one of {', '.join(DEMO_NAMES)}", REMEDY
            )
        path = DEMO_FOLDER / name
        if not path.exists():
            raise CheckpointError(path, "missing", "a demo model", "train it: `make demo-models`")
        return path
    path = Path(checkpoint).expanduser()
    if not path.exists():
        raise CheckpointError(path, "missing", "a checkpoint", REMEDY)
    return path


def weight_files(checkpoint: str) -> list[Path]:
    """Returns the weight files of a checkpoint: the file, or the folder's safetensors, sorted.

    Raises:
        CheckpointError: there are none.
    """
    path = resolve_checkpoint(checkpoint)
    files = [path] if path.is_file() else _files_of(path, (".safetensors",))
    if not files:
        raise CheckpointError(path, "no *.safetensors in it", "weights", REMEDY)
    return files


def settings_files(folder: Path) -> list[Path]:
    """Returns the settings, tokenizer and template files of a model's folder, sorted.

    Files of measurements are left out, since they change no result.
    """
    return [path for path in _files_of(folder, _SETTINGS) if path.name != "figures.json"]


def _files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Returns the files of a folder with these suffixes, sorted, without hidden files."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in suffixes and not is_foreign(path.name) and path.is_file()
    )


def checkpoint_files(checkpoint: str) -> list[Path]:
    """Returns all files that a model's results depend on: its weights, and its folder's settings.

    Raises:
        CheckpointError: there are no weights.
    """
    path = resolve_checkpoint(checkpoint)
    return weight_files(checkpoint) + (settings_files(path) if path.is_dir() else [])


def weights_digest(checkpoint: str) -> str:
    """Returns the SHA-256 of a checkpoint's weights, file after file.

    Raises:
        CheckpointError: there are no weights.
    """
    digest = hashlib.sha256()
    for file in weight_files(checkpoint):
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def check_digest(checkpoint: str, expected: str | None) -> None:
    """Raises CheckpointError if the digest of the weights is not the one in the configuration."""
    if expected is None:
        return
    found = weights_digest(checkpoint)
    if found != expected.lower():
        raise CheckpointError(
            resolve_checkpoint(checkpoint),
            f"sha256 {found}",
            f"sha256 {expected}",
            "fetch the file again, or correct sha256 in the configuration",
        )


def weights_of_student(place: Path) -> Path:
    """Returns the file of a student's weights, given that file or the student's folder."""
    return place / WEIGHTS if place.is_dir() else place
