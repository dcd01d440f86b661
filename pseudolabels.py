"""The Python interface of the project, and the entry point of its command line.

::

    import pseudolabels

    result = pseudolabels.label("dog.mp4", "the brown dog on the left", preset="small")
    result[0].masks, result[0].weight, result[0].status, result[0].boxes
    result[0].save("overlay.mp4")

What ``__all__`` lists is loaded when it is first used. :func:`main` starts the command line: it
checks what must hold before a part of the project is imported, which takes seconds. An interrupt
ends even the imports with a message, warnings of libraries end nothing, and a file that takes the
place of a part of the project is named.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.api import (
        Clip,
        ClipBatch,
        ClipDataset,
        LabelledExpression,
        LabelledRun,
        collate_clips,
        label,
        load_run,
    )

__all__ = [
    "Clip",
    "ClipBatch",
    "ClipDataset",
    "LabelledExpression",
    "LabelledRun",
    "collate_clips",
    "label",
    "load_run",
]

_PROCESS = os.getpid()

PACKAGES = ("pipeline", "stages", "storage", "flows")


def __getattr__(name: str) -> Any:
    """Loads a part of the interface. ``import pseudolabels`` alone loads no library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import flows.api

    return getattr(flows.api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def main() -> None:
    """Runs the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stopped)
    signal.signal(signal.SIGTERM, _stopped)
    _settle_warnings()
    _keep_docstrings()
    problem = _removed_folder() or _shadowed()
    if problem is not None:
        sys.exit(f"error: {problem}")
    try:
        from flows.commands.main import main as command_line

        command_line()
    except (ImportError, AttributeError) as error:
        strays = ", ".join(_from_outside())
        if not strays:
            raise
        sys.exit(
            f"error: {error}; these files, which PYTHONPATH or the working folder gives, come"
            f" before the libraries of their names: {strays}; rename them, or leave their folder"
            " out of PYTHONPATH"
        )


def _stopped(number: int, frame: FrameType | None) -> None:
    """Ends the process in good order: what is half-written goes. A command that has more to say
    takes the signals itself (``flows/orchestration/signals.py``)."""
    if os.getpid() != _PROCESS:
        # A process that was forked, such as one that reads clips, has nothing to tidy up.
        os._exit(128 + number)
    sys.stderr.write("\nInterrupted.\n")
    raise SystemExit(128 + number)


def _settle_warnings() -> None:
    """Makes warnings of third parties, which a user can do nothing about, no errors."""
    asked = sys.warnoptions
    if not asked or any(option.startswith("error") for option in asked):
        warnings.simplefilter("ignore")
    # Of processes that are started here as well.
    if "error" in os.environ.get("PYTHONWARNINGS", ""):
        os.environ["PYTHONWARNINGS"] = "ignore"


def _keep_docstrings() -> None:
    """Starts Python again where the environment has it drop docstrings: libraries read them."""
    if sys.flags.optimize < 2:
        return
    if os.environ.pop("PYTHONOPTIMIZE", None) is None:
        sys.exit("error: Python runs with -OO, without docstrings, which libraries read; drop -OO")
    os.execv(sys.executable, sys.orig_argv)


def _removed_folder() -> str | None:
    """What is wrong with the working folder, in words; None if it is there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the working folder has been removed; change to one that exists"
    return None


def _shadowed() -> str | None:
    """What takes the place of a package of the project, in words; None where nothing does."""
    home = Path(__file__).resolve().parent
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None:
            return f"{home / name}: missing; expected a part of this project; install it again"
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        found = Path(places[0]).resolve()
        if found not in (home / name / "__init__.py", home / name):
            return (
                f"{found}: takes the place of this project's own {home / name}, for it comes first"
                " on Python's path (PYTHONPATH, or the working folder); rename it, or leave its"
                " folder out of PYTHONPATH"
            )
    return None


def _from_outside() -> Iterator[str]:
    """Files of modules that come from PYTHONPATH or the working folder."""
    named = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    outside = {Path(place).resolve() for place in (*named, ".")}
    outside.discard(Path(__file__).resolve().parent)
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None:
            path = Path(file).resolve()
            top = path.parent if path.name == "__init__.py" else path
            if top.parent in outside and "." not in module.__name__:
                yield str(path)


if __name__ == "__main__":
    main()
