"""Selects stages and videos: ``--from-stage``, ``--to-stage`` and ``--only-videos``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.planning.stages import STAGES
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.text import read_text


@dataclass(frozen=True)
class Scope:
    """The stages of a run to do.

    Attributes:
        stages: stages to do if they are not done; starts with the first stage of the pipeline.
        again: those of them to do even if they are done.
    """

    stages: tuple[str, ...] = STAGES
    again: tuple[str, ...] = ()


def scope_of(config: RunConfig, from_stage: str | None, to_stage: str | None) -> Scope:
    """Returns the scope of the two options.

    Raises:
        ConfigError: there is no such stage, or the first comes after the second.
    """
    for option, stage in (("--from-stage", from_stage), ("--to-stage", to_stage)):
        if stage is not None and stage not in STAGES:
            raise ConfigError(f"{option} {stage}: no such stage; give one of {', '.join(STAGES)}")
        if stage == "student" and not config.student.enabled:
            raise ConfigError(
                f"{option} student: student.enabled is false, so the run has no such stage; set"
                " student.enabled=true or give another stage"
            )
        if stage == "judge" and not config.judge.is_on:
            raise ConfigError(
                f"{option} judge: judge.source is 'none', so the run has no such stage; set"
                " judge.source or give another stage"
            )
    last = len(STAGES) - 1 if to_stage is None else STAGES.index(to_stage)
    first = len(STAGES) if from_stage is None else STAGES.index(from_stage)
    if from_stage is not None and first > last:
        raise ConfigError(
            f"--from-stage {from_stage} comes after --to-stage {to_stage}; the order is"
            f" {', '.join(STAGES)}"
        )
    return Scope(STAGES[: last + 1], STAGES[first : last + 1])


def videos_asked_for(values: Sequence[str]) -> tuple[str, ...]:
    """Returns the ids of ``--only-videos``: an id, or ``@path`` of a file with one id per line.

    Raises:
        ConfigError: a file cannot be read or holds no id.
    """
    ids: dict[str, None] = {}
    for value in values:
        ids.update(
            dict.fromkeys(_from_file(Path(value[1:]).expanduser()) if value[:1] == "@" else [value])
        )
    return tuple(ids)


def _from_file(path: Path) -> list[str]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--only-videos @{path}: not readable ({error}); expected a text file with one video id"
            " per line"
        ) from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ConfigError(f"--only-videos @{path}: empty; expected one video id per line")
    return ids
