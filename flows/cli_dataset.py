"""``pseudolabels dataset``: is it all there, and what is in it."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Check a data set, or show what is in it.")


@app.callback()
def dataset() -> None:
    """Check a data set, or show what is in it."""
