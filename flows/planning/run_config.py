"""Reads and writes ``config.toml`` of a run, whose last line is a checksum of the others."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import RunConfig, dump_config
from storage.files.atomic import replace_file
from storage.files.checksums import bytes_digest

_SEAL = "# checksum of the lines above: "


def write_run_config(path: Path, config: RunConfig) -> None:
    """Writes the resolved configuration. Raises StoreError if the disk is full."""
    text = dump_config(config)
    with replace_file(path, "w") as file:
        file.write(f"{text}{_SEAL}{bytes_digest(text.encode())}\n")


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
