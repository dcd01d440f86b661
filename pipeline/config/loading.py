"""Reads and writes a configuration: TOML files, and overrides on the command line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError

from pipeline.config.run import RunConfig
from pipeline.config.section import Section
from pipeline.config.student import model_of
from pipeline.errors import ConfigError
from pipeline.text import read_text


def given(name: str, value: object) -> str:
    """Returns the override that sets a setting to the value of an option."""
    return f"{name}={_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a TOML file and applies ``section.key=value`` overrides to it.

    Args:
        path: the file; None for the defaults, which use the demo models.
        overrides: such as ``rank.threshold=0.6``. A value that is not TOML is a string.

    Raises:
        ConfigError: the file is missing or is not TOML, or a name or a value is wrong.
    """
    values: dict[str, Any] = {}
    source = "the command line"
    if path is not None:
        source = str(path)
        try:
            values = tomllib.loads(read_text(path))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; give a TOML file to --config") from error
        except (ValueError, RecursionError) as error:
            # Not only TOMLDecodeError: a number of many thousand digits is a plain ValueError.
            raise ConfigError(f"{path}: not TOML ({error})") from error
    assigned = []
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"override {override!r}: expected section.key=value")
        assigned.append((name.strip(), _parse_value(text), override))
    named = [value for name, value, _ in assigned if name == "student.model"]
    if named and isinstance(values.get("student"), dict):
        values["student"] = _of_student(values["student"], named[-1])
    for name, value, override in assigned:
        _assign(values, name.split("."), value, override)
    return config_from(values, source)


def _of_student(section: dict[str, Any], model: object) -> dict[str, Any]:
    """Returns a file's section of the student for the student that the command line names.

    Sizes and rates of another student do not fit it, so nothing of its section is left but
    ``enabled``.
    """
    if section.get("model", model_of(section)) == model:
        return section
    return {name: value for name, value in section.items() if name == "enabled"}


def config_from(values: Mapping[str, Any], source: str) -> RunConfig:
    """Validates plain values.

    Raises:
        ConfigError: names the section and key of every wrong value, and ``source``.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            _problem(item["loc"], item["type"], item["msg"]) for item in error.errors()
        )
        # `from None` leaves the values out of the traceback too: one of them may be a secret.
        raise ConfigError(f"{source}: {problems}") from None


def _problem(place: Sequence[int | str], kind: str, message: str) -> str:
    student = None
    if place[:1] == ("student",) and len(place) > 1:
        # After the field, pydantic names the member of the union.
        student, place = place[1], (place[0], *place[2:])
    name = ".".join(map(str, place))
    if kind == "union_tag_invalid":
        return f"{name}.model: {message}"
    if kind == "extra_forbidden" and name in _settings(RunConfig):
        return (
            f"{name}: not a setting of the student {student!r}; set student.model to the student"
            " that it belongs to, or remove it"
        )
    if kind != "extra_forbidden":
        where = f"{name}: " if name else ""
        return where + message.removeprefix("Value error, ")
    return f"{name}: no such setting{_did_you_mean(name)}"


def _did_you_mean(name: str) -> str:
    """Returns the settings that are most similar to a wrong name, in words; empty for none."""
    every = list(dict.fromkeys(_settings(RunConfig)))
    # The right name in the wrong section, or in none.
    last = name.rpartition(".")[2]
    near = [setting for setting in every if setting.rpartition(".")[2] == last][:3]
    near = near or difflib.get_close_matches(name, every, 3, 0.8)
    near = near or difflib.get_close_matches(name, every, 1, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _settings(section: type[Section], within: str = "") -> Iterator[str]:
    """Yields the full name of every section and setting."""
    for name, info in section.model_fields.items():
        yield within + name
        kinds = get_args(info.annotation) if isinstance(info.annotation, UnionType) else ()
        for kind in kinds or (info.annotation,):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _settings(kind, f"{within}{name}.")


def dump_config(config: RunConfig) -> str:
    """Returns the configuration as TOML that :func:`load_config` reads back unchanged."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _assign(values: dict[str, Any], keys: Sequence[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {key} is not a section")
    values[keys[-1]] = value


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
