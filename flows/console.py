"""All output goes through this module.

Data, such as paths, ids, sentences and errors, are printed as they are. They are never interpreted
as markup or as terminal commands. Characters that the output's encoding lacks are replaced.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

_LEFT_AS_THEY_ARE = "\n\t"
_CONTROLS = {
    number: f"\\x{number:02x}"
    for number in (*range(32), *range(127, 160))
    if chr(number) not in _LEFT_AS_THEY_ARE
}
"""Control character -> what is printed for it."""

_PLAIN = {"✓": "+", "✗": "x", "–": "-", "−": "-", "→": "->", "…": "...", "×": "x", "’": "'"}
"""Non-ASCII characters that this project prints -> their ASCII replacement."""

_ERRORS = "pseudolabels.plainly"


class Output(Console):
    """A console without markup that ends the process if nobody reads its output any more.

    Args:
        stderr: print to standard error.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Ends the process with a message on standard error."""
        self.quiet = True
        # The rest of the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        if not self.stderr:
            text = (
                "error: the program that reads the output has ended, as `| head` does, so this"
                " command ends too. Finished work is kept; give the same command to continue"
            )
            say(Output(stderr=True), text)
        raise SystemExit(1)


class LogLines(logging.Handler):
    """Prints what is logged, a line a record.

    Args:
        before: what each line begins with.
    """

    def __init__(self, console: Console, before: str = "") -> None:
        super().__init__()
        self._console, self._before = console, before

    def emit(self, record: logging.LogRecord) -> None:
        say(self._console, f"{self._before}{record.getMessage()}")


def make_printable() -> None:
    """Makes standard output and error accept every character, whatever their encoding. Characters
    that it lacks are replaced by a similar one or by their code.
    """
    codecs.register_error(_ERRORS, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def say(console: Console, text: object, style: str = "", *, label: str = "") -> None:
    """Prints a line without wrapping it, so that it can be copied.

    Args:
        style: of rich, such as ``yellow``; applies to the label only, if there is one.
        label: printed before the text.
    """
    line = plain(text) if label else plain(text, style)
    console.print(Text.assemble((label, style), " ", line) if label else line, soft_wrap=True)


def write(console: Console, text: str) -> None:
    """Writes text for other programs, unchanged."""
    try:
        console.file.write(text)
        console.file.flush()
    except BrokenPipeError:
        console.on_broken_pipe()


def plain(value: object, style: str = "") -> Text:
    """Returns data as text, with control characters replaced by their codes."""
    return Text(str(value).translate(_CONTROLS), style)


def grid(
    *columns: tuple[str, Literal["left", "right"]], title: str = "", header: bool = True
) -> Table:
    """Returns a table without rows; :func:`add_row` adds them.

    Args:
        columns: name and alignment of each.
    """
    table = Table(
        title=plain(title) if title else None,
        title_justify="left",
        header_style="bold",
        show_header=header,
    )
    for name, side in columns:
        table.add_column(plain(name), justify=side)
    return table


def add_row(table: Table, *cells: object, style: str | None = None) -> None:
    """Adds a row of data to a table."""
    table.add_row(*map(plain, cells), style=style)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    shown = (_PLAIN.get(letter) or _code_of(letter) for letter in letters)
    return "".join(shown), error.end


def _code_of(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode("ascii")
