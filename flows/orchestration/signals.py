"""Makes Ctrl-C and SIGTERM stop a run within seconds, whatever it is doing.

Products and receipts appear whole or not at all, so a process can end anywhere, and finished work
is kept. The first signal raises :class:`Stopped` in the main thread, which unwinds as usual. If the
main thread does not return in time, as from a long model call, a call of an endpoint, or a Prefect
server that does not answer, a watcher thread ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE_SECONDS = 7.0
"""From a signal to the end of the process, at most."""

SAME_SECONDS = 0.4
"""Signals closer together are one: a terminal, ``make`` and Prefect each pass theirs on."""

_installed = False


class Stopped(KeyboardInterrupt):
    """The run was asked to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(error: BaseException) -> int:
    """Returns the exit code after an interrupt: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


@contextmanager
def stoppable(last_words: Callable[[], None], grace: float = GRACE_SECONDS) -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise :class:`Stopped` in the block, and end the process in time.

    The limit also covers what runs at the exit of the interpreter. Use it once per process, in the
    main thread.

    Args:
        last_words: called before the watcher ends the process.
        grace: seconds from the first signal to the end of the process.
    """
    global _installed
    before = [signal.getsignal(number) for number in SIGNALS]
    with watched(last_words, grace) as let_go:
        _installed = True
        install_handlers()
        try:
            yield
        finally:
            if _installed:
                _installed = False
                for number, handler in zip(SIGNALS, before, strict=True):
                    signal.signal(number, handler)
                let_go()


@contextmanager
def watched(
    last_words: Callable[[], None], grace: float = GRACE_SECONDS
) -> Iterator[Callable[[], None]]:
    """Makes SIGINT and SIGTERM end the process in time, whatever their handlers do. Does nothing
    outside the main thread. Yields a function that ends the watch.

    Args:
        last_words: called before the watcher ends the process inside the block.
        grace: seconds from the first signal to the end of the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    in_block = threading.Event()
    in_block.set()

    def farewell() -> None:
        if in_block.is_set():
            last_words()

    watcher = threading.Thread(
        target=_watch, args=(reading, farewell, grace), name="stopping", daemon=True
    )
    watcher.start()

    def let_go() -> None:
        signal.set_wakeup_fd(woken)

    try:
        yield let_go
    except (Exception, SystemExit, GeneratorExit):
        let_go()
        raise
    else:
        let_go()
    finally:
        # After an interruption the process is ending, under the watcher's eyes.
        in_block.clear()


def install_handlers() -> None:
    """Installs the handlers again inside :func:`stoppable`, after a library has installed its own.
    Does nothing outside of it.
    """
    if _installed and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _raise_stopped)


def end_within(
    seconds: float,
    code: int,
    last_words: Callable[[], None] | None = None,
    after_main: bool = False,
) -> None:
    """Ends the process with ``code`` after some time, unless it has ended by then.

    Args:
        last_words: called before that.
        after_main: count the seconds from the end of the main thread, not from now.
    """

    def end() -> None:
        if after_main:
            threading.main_thread().join()
        time.sleep(seconds)
        if last_words is not None:
            last_words()
        _end(code)

    threading.Thread(target=end, name="ending", daemon=True).start()


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    global _installed
    # What follows is only the way out; a second raise would break into it.
    _installed = False
    for each in SIGNALS:
        signal.signal(each, _leave_to_watcher)
    raise Stopped(number)


def _leave_to_watcher(number: int, frame: FrameType | None) -> None:
    """Does nothing; a handler is needed, because an ignored signal does not reach the watcher."""


def _watch(pipe: int, last_words: Callable[[], None], grace: float) -> None:
    """Waits for signals. The system writes their numbers into the pipe even while the main thread
    is in a call that does not return to Python.
    """
    number = _next_signal(pipe)
    first = time.monotonic()
    end_within(grace, 128 + number, last_words)
    while True:
        again = _next_signal(pipe)
        if time.monotonic() - first > SAME_SECONDS:
            _end(128 + again)


def _next_signal(pipe: int) -> int:
    while True:
        for number in os.read(pipe, 1):
            if number in SIGNALS:
                return number


def _end(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
