"""The typed parameters of the flows, which are the fields of the forms in the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from flows.planning.presets import config_of_preset
from pipeline.config import RunConfig, given, load_config
from pipeline.errors import ConfigError

Dataset = Literal[
    "shapes",
    "refytvos",
    "refdavis",
    "a2d",
    "jhmdb",
    "mevis",
    "mevis_v2",
    "revos",
    "long_rvos",
    "refcoco",
    "refcoco+",
    "refcocog",
    "refcocog-google",
    "visor",
    "videos",
]
"""Names of data sets."""

Preset = Literal["default", "demo", "small", "base", "large"]
"""Names of presets; ``default`` for none."""

Stage = Literal[
    "augment",
    "ground",
    "segment",
    "track",
    "fuse",
    "judge",
    "rank",
    "merge",
    "student",
    "evaluate",
    "report",
]
"""Names of stages."""

FirstStage = Literal["what is due", Stage]
"""Names of stages to begin with; ``what is due`` for none."""

LastStage = Literal["the last", Stage]
"""Names of stages to end with; ``the last`` for none."""

Student = Literal["grounded", "simrvos", "referformer", "wsrvos", "groprompt"]
"""Names of students."""


def stage_or_none(choice: FirstStage | LastStage) -> str | None:
    """Returns the name of a stage; None for the choice that names none."""
    return None if choice in ("what is due", "the last") else choice


def preset_or_none(choice: Preset) -> str | None:
    """Returns the name of a preset; None for the choice that names none."""
    return None if choice == "default" else choice


def config_of_form(
    dataset: str | None,
    root: str,
    split: str,
    out: str,
    preset: str | None,
    config: str,
    only_videos: Sequence[str],
    overrides: Sequence[str],
) -> RunConfig:
    """Returns the configuration of what a form says, as the options of `run` do.

    Raises:
        ConfigError: a setting is wrong, or both a preset and a file are named.
    """
    if preset and config:
        raise ConfigError(
            f"config {config} with preset {preset}: both name a configuration; give one of them"
        )
    file = Path(config).expanduser() if config else config_of_preset(preset) if preset else None
    said = {"dataset.name": dataset, "dataset.root": root, "dataset.split": split, "out": out}
    words = [given(name, value) for name, value in said.items() if value]
    if only_videos:
        listed = ", ".join(given("", video).removeprefix("=") for video in only_videos)
        words.append(f"dataset.only_videos=[{listed}]")
    return load_config(file, [*words, *overrides])
