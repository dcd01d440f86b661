"""Reads and writes ``config.toml`` of a run, whose last line is a checksum of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.planning.mirrored import refresh
from flows.planning.run_paths import RunPaths
from pipeline.config import RunConfig, dump_config, given, load_config
from pipeline.errors import ConfigError
from pipeline.store_urls import local_place, resolved, shown
from storage.files.atomic import replace_file
from storage.files.checksums import bytes_digest
from storage.remote.mirror import mirror_of
from storage.run.lock import check_held

_SEAL = "# checksum of the lines above: "


def write_run_config(path: Path, config: RunConfig) -> None:
    """Writes the resolved configuration of the run or student whose folder it is for.

    Raises:
        StoreError: the disk is full.
        LockLostError: this process has lost the lock of that folder.
    """
    check_held(path.parent)
    text = dump_config(config)
    with replace_file(path, "w") as file:
        file.write(f"{text}{_SEAL}{bytes_digest(text.encode())}\n")
    if (mirror := mirror_of(path.parent)) is not None:
        mirror.upload(path)


def run_config_problem(path: Path) -> str | None:
    """Returns what is wrong with the bytes of a configuration file; None if nothing is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "missing; expected the configuration of the last run"
    except OSError as error:
        return f"not readable ({error.strerror})"
    body, seal, found = content.rpartition(_SEAL.encode())
    if seal and found == f"{bytes_digest(body)}\n".encode():
        return None
    if not seal:
        return "not as it was written; the line with its checksum is gone"
    return "not as it was written; its checksum does not fit"


def place_of_run(folder: Path | str) -> Path:
    """Returns the folder of a run that is named by its folder or address. Raises ConfigError for an
    address that is none."""
    try:
        return local_place(folder)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def config_of_run(
    folder: Path, words: Sequence[str] = (), config: Path | None = None, out: Path | None = None
) -> RunConfig:
    """Returns the configuration that a run was last made with.

    Args:
        folder: of the run, or its address in an object store.
        words: overrides, such as ``rank.threshold=0.6``.
        config: a file to use in place of the run's own.
        out: folder that holds runs; None for the one that holds this run now: it may have been
            moved since its configuration was written.

    Raises:
        ConfigError: the folder is not a run, or is not the run that its configuration names.
        ObjectStoreError: the store refuses or cannot be reached.
    """
    folder = place_of_run(folder)
    refresh(folder)
    stored = RunPaths(folder).config
    if not stored.is_file():
        raise ConfigError(
            f"{shown(folder)}: no config.toml; expected the folder of a run,"
            " <out>/<dataset>-<split>; give it, or --dataset, --split and --out"
        )
    found = load_config(config or stored, [given("out", out or resolved(folder).parent), *words])
    if found.run_folder.name != resolved(folder).name:
        raise ConfigError(
            f"{folder}: its config.toml is of {found.run_folder.name}; expected a folder of that"
            " name; name it so again"
        )
    return found
