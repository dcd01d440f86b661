"""The one place that prints.

Data, such as paths, ids, sentences and errors, are shown as they are: never read as markup, never
as commands to the terminal, and in letters that the output's encoding has.
"""

from __future__ import annotations

import codecs
import io
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
"""Characters that move a terminal's cursor or change its state, and what is shown for them."""

_PLAIN = {"✓": "+", "✗": "x", "–": "-", "−": "-", "→": "->", "…": "...", "×": "x", "’": "'"}
"""What this project prints beyond ASCII, for an output that lacks it."""

_ERRORS = "pseudolabels.plainly"


class Output(Console):
    """A console that takes no text for markup, and says so where its reader has gone.

    Args:
        stderr: prints to the error output.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Ends the process with a message, since nobody reads what it prints."""
        self.quiet = True
        # What is left in the buffer must not fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        if not self.stderr:
            text = (
                "error: whatever read the output has ended, as `| head` does; the command ends with"
                " it. What is done stays done: the same command goes on"
            )
            say(Output(stderr=True), text)
        raise SystemExit(1)


def make_printable() -> None:
    """Makes the standard outputs take every letter, whatever their encoding; of letters that it
    lacks they show a plain one, or the code."""
    codecs.register_error(_ERRORS, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def say(console: Console, text: object, style: str = "", *, label: str = "") -> None:
    """Prints a line, which is not broken at the terminal's width, so that it can be copied.

    Args:
        style: of rich, such as ``yellow``; of the label alone where there is one.
        label: is said before the text.
    """
    line = plain(text) if label else plain(text, style)
    console.print(Text.assemble((label, style), " ", line) if label else line, soft_wrap=True)


def write(console: Console, text: str) -> None:
    """Writes text that programs read, byte by byte as it is."""
    try:
        console.file.write(text)
        console.file.flush()
    except BrokenPipeError:
        console.on_broken_pipe()


def plain(value: object, style: str = "") -> Text:
    """Data as they are shown; characters that would steer the terminal by their code."""
    return Text(str(value).translate(_CONTROLS), style)


def grid(
    *columns: tuple[str, Literal["left", "right"]], title: str = "", header: bool = True
) -> Table:
    """A table without rows; :func:`add_row` adds them.

    Args:
        columns: name and side of each.
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
