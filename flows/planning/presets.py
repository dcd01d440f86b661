"""Finds the configuration of a preset, the preset that fits a machine, and papers' settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import given
from pipeline.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
"""The folder of the presets, beside the packages: in the repository, and where it is installed."""

GIB = 1 << 30

DEMO, ON_CPU = "demo", "small"

GPU_MEMORY = {"demo": 0, "small": 7 * GIB, "base": 22 * GIB, "large": 76 * GIB}
"""Preset -> bytes of GPU memory that it needs, smallest first. The figures are those that cards of
8, 24 and 80 GB report, which is less than their name says. ``demo`` and ``small`` run on a CPU too.
"""

PRESETS = tuple(GPU_MEMORY)

PAPERS = ("simrvos", "referformer", "wsrvos", "groprompt")
"""Papers whose settings are in ``configs/papers``."""


def config_of_preset(name: str) -> Path:
    """Returns the configuration file of a preset, whatever the working folder is.

    Raises:
        ConfigError: there is no such preset, or its file is missing.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, 1)
        raise ConfigError(
            f"--preset {name}: no such preset; expected one of {', '.join(PRESETS)}"
            + (f"; did you mean {near[0]}?" if near else "; give --config for a file of your own")
        )
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(
            f"{path}: missing; expected the configuration of the preset {name}; install the"
            " project again"
        )
    return path


def fitting_preset(gpu_memory: int | None, weights_present: Callable[[Path], bool]) -> str:
    """Returns the largest preset that fits a machine.

    Presets whose weights are there come first: they work at once. If there are none, a machine with
    a GPU gets the largest preset that fits its memory, whose weights can be fetched, and a machine
    without a GPU gets ``demo``.

    Args:
        gpu_memory: bytes; None without a GPU.
        weights_present: whether all weights of a configuration file are there.
    """
    if gpu_memory is None or gpu_memory < GPU_MEMORY[ON_CPU]:
        return ON_CPU if weights_present(config_of_preset(ON_CPU)) else DEMO
    fits = [name for name in PRESETS if name != DEMO and GPU_MEMORY[name] <= gpu_memory]
    ready = [name for name in fits if weights_present(config_of_preset(name))]
    return (ready or fits)[-1]


def settings_of_paper(name: str) -> list[str]:
    """Returns the settings of a student as its paper gives them, as ``section.key=value``.

    Raises:
        ConfigError: there is no such paper here.
    """
    if name not in PAPERS:
        raise ConfigError(f"--paper {name}: unknown; expected one of {', '.join(PAPERS)}")
    written = tomllib.loads((CONFIGS / "papers" / f"{name}.toml").read_text())
    return [given(key, value) for key, value in _flat(written)]


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
