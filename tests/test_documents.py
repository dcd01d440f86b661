"""What the documents say exists: commands, options, targets and paths. And how they say it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from flows.commands.main import app
from pipeline.config import load_config
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
FOLDERS = ("pipeline", "stages", "storage", "flows", "benchmarks", "configs", "docs", "tests")
COMMAND = ".venv/bin/pseudolabels"
TORCHRUN = ".venv/bin/torchrun"
MODULE = ".venv/bin/python"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_AVOIDED = re.compile(
    r"set aside|turned down|\bmend(ed|s|ing)?\b|busy machine|at the beginning of that day",
    re.IGNORECASE,
)

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the fenced blocks that name no language."""
    for language, block in _FENCED.findall(text):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\w+=\S+ )*(make |\.venv/bin/)", line):
                words = shlex.split(line, comments=True)
                while "=" in words[0]:
                    words.pop(0)
                yield words


def problem(words: list[str]) -> str | None:
    """What of a command does not exist; None where all of it does."""
    match words:
        case ["make", *rest]:
            return make_problem(rest)
        case [str(name), *rest] if name == COMMAND:
            return options_problem(typer.main.get_command(app), rest)
        case [str(name), "--nproc-per-node", _, "-m", "flows", *rest] if name == TORCHRUN:
            return options_problem(typer.main.get_command(app), rest)
        case [str(name), "-m", module, *_] if name == MODULE:
            return missing(f"{module.replace('.', '/')}.py")
        case [str(name), script, *_] if name == MODULE:
            return missing(script)
    return f"{words[0]}: not a command of the project"


def make_problem(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, value = word.partition("=")
        kind = rf"^{name} \?=" if is_variable else rf"^{name}:.*## "
        if not re.search(kind, makefile, re.MULTILINE):
            return f"make {word}: no such {'variable' if is_variable else 'target'}"
        if name == "ARGS":
            run = ["run", *shlex.split(value)]
            return options_problem(typer.main.get_command(app), run)
    return None


def options_problem(command: Any, words: list[str]) -> str | None:
    """The first word that is no subcommand or option."""
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"{words[0]}: no such command"
        command, words = command.commands[words[0]], words[1:]
    known = {option for item in command.params for option in (*item.opts, *item.secondary_opts)} | {
        "--help"
    }
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name not in known:
            return f"{command.name} {name}: no such option"
    return None


def settings_problem(words: list[str]) -> str | None:
    """What is wrong with the settings of a command; None where nothing is."""
    for word in words:
        if word.startswith("ARGS="):
            words = [*words, *shlex.split(word.removeprefix("ARGS="))]
    settings = [word for word in words if re.match(r"[a-z_]+(\.[a-z_]+)*=", word)]
    if "--student" in words and "predict" not in words:
        settings.append(f"student.model={words[words.index('--student') + 1]}")
    try:
        load_config(None, settings)
    except ConfigError as error:
        return str(error)
    return None


def every_command(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(its words, command) of each command below a group."""
    if isinstance(command, TyperGroup):
        for name, item in command.commands.items():
            yield from every_command(item, (*words, name))
    else:
        yield " ".join(words), command


def missing(path: str) -> str | None:
    return None if (ROOT / path).exists() else f"{path}: no such file"


def named_paths(text: str) -> Iterator[str]:
    """Paths of the project that a document names in backticks or in commands."""
    words = [*_QUOTED.findall(text), *(word for line in commands(text) for word in line)]
    for word in words:
        if word.split("/")[0] in FOLDERS and "/" in word and not re.search(r"[<>*{ ]", word):
            yield word


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.replace("`", "")).lower() for title in titles)
    return {title.replace(" ", "-") for title in plain}


@each_document
def test_commands_exist(path: Path) -> None:
    found = [line for words in commands(path.read_text()) if (line := problem(words))]
    assert not found


@each_document
def test_settings_of_commands_are_accepted(path: Path) -> None:
    found = [line for words in commands(path.read_text()) if (line := settings_problem(words))]
    assert not found


@each_document
def test_paths_exist(path: Path) -> None:
    assert not [line for name in named_paths(path.read_text()) if (line := missing(name))]


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(path.read_text()):
        if link.startswith("http"):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_checks_find_what_is_wrong() -> None:
    wrong = {
        "make pseudolabel": "no such target",
        "make status RUNS=runs/x": "no such variable",
        'make pseudolabels ARGS="--no-such"': "no such option",
        f"{COMMAND} runn": "no such command",
        f"{COMMAND} evaluate nothing": "no such command",
        f"{COMMAND} train runs/x --models simrvos": "no such option",
        f"{MODULE} -m benchmarks.nothing": "no such file",
    }
    for line, words in wrong.items():
        [found] = commands(f"```\n{line}  # a comment\n```\n")
        assert words in (problem(found) or ""), line
    for line in (
        "run fuse.threshold=0.5",
        "train runs/x --student wsrvos student.simrvos.mil=true",
    ):
        [found] = commands(f"```\n{COMMAND} {line}\n```\n")
        assert settings_problem(found), line
    assert list(named_paths("`flows/gone.py` and `flows/<name>.py`")) == ["flows/gone.py"]


def test_every_command_has_an_example_that_exists() -> None:
    for words, command in every_command(typer.main.get_command(app)):
        start, _, example = (command.epilog or "").partition(": ")
        assert start == "Example" and example.startswith(f"pseudolabels {words}"), words
        [found] = commands(f"```\n.venv/bin/{example}\n```\n")
        assert problem(found) is None, example


def test_readme_and_architecture_stay_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 110


def test_architecture_names_at_most_four_places_of_a_stage() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    [row] = re.findall(r"^\| a stage \| (.+) \|$", text, re.MULTILINE)
    assert len(row.split(";")) <= 4


def test_words_that_the_project_avoids() -> None:
    kinds = {".py", ".md", ".toml", ".html", ".js", ".css", ".yml"}
    files = [path for path in ROOT.iterdir() if path.suffix in kinds] + [ROOT / "Makefile"]
    for folder in (*FOLDERS, ".github"):
        if folder != "tests":
            files += [path for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _AVOIDED.search(line)
    ]
    assert not found
