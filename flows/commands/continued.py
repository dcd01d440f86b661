"""Does work that can be interrupted, and prints the command that continues it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import typer

from flows.console import Output, say
from flows.orchestration import signals
from pipeline.errors import ConfigError, PseudoLabelError

errors = Output(stderr=True)


def do_continuable(work: Callable[[Callable[[], None]], None]) -> None:
    """Does the work of a command. An interruption or an error ends the command with a message.

    Args:
        work: is given a function that it calls once the work has begun.

    Raises:
        typer.Exit: with the exit code of the interruption or of the error.
    """
    started = Event()

    def say_interrupted() -> None:
        command = resume_command(started.is_set())
        say(errors, f"\nInterrupted. Finished work is kept. Continue with:\n  {command}")

    try:
        with signals.stoppable(say_interrupted):
            work(started.set)
    except KeyboardInterrupt as error:
        say_interrupted()
        raise typer.Exit(signals.exit_code(error)) from None
    except PseudoLabelError as error:
        say_error(error)
        # If the work could not begin, the same command would fail again.
        if started.is_set() and not isinstance(error, ConfigError):
            say(errors, f"Finished work is kept. Continue with:\n  {resume_command()}")
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None


def resume_command(started: bool = True) -> str:
    """Returns the command that continues this one: the command as it was typed.

    Args:
        started: whether the work has begun. If so, ``--from-stage`` has removed the receipts, and
            is left out, because it would start over.
    """
    words = sys.argv[1:]
    if started:
        words = [word for word in words if not word.startswith("--from-stage=")]
        while "--from-stage" in words:
            place = words.index("--from-stage")
            words = words[:place] + words[place + 2 :]
    name = Path(sys.argv[0]).name
    started_as = ["python", "-m", "flows"] if name == "__main__.py" else [name]
    return shlex.join([*started_as, *words])


def say_error(error: Exception) -> None:
    """Prints an error as one message."""
    say(errors, error, "bold red", label="error:")
