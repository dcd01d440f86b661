"""Finds or starts the Prefect server of a run, prints its address, and sets it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console

from flows.console import say
from flows.orchestration.servers import server


def mark_crashed() -> list[str]:
    """Marks flow runs as *Crashed* whose process is gone, if a Prefect server answers. Starts none.
    Returns their names.
    """
    server.quiet(os.environ)
    server.make_reachable(os.environ)
    local = server.running()
    api = os.environ.get("PREFECT_API_URL") or ("" if local is None else local.url)
    if not api or not server.is_healthy(api):
        return []
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.orchestration.watching.flow_runs import mark_crashed as mark

    with temporary_settings({PREFECT_API_URL: api}):
        return mark()


@contextmanager
def prefect_server(console: Console, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Gives the address of the API of the server that Prefect uses in the block.

    Args:
        console: the address of the UI is printed there.
        meanwhile: called while the server starts, which takes seconds.

    Raises:
        ServerError: it does not start, or there is no folder for Prefect's state.
    """
    server.quiet(os.environ)
    server.prefect_home()
    for name in server.make_reachable(os.environ):
        say(
            console,
            f"{name} cannot be used here (a proxy of a kind that needs a package, or a file that is"
            " not there); this command does without it",
            "yellow",
        )
    with (
        console.status("Starting the Prefect server and loading libraries"),
        ThreadPoolExecutor(1) as pool,
    ):
        address = pool.submit(server.ensure)
        meanwhile()
        os.environ["PREFECT_API_URL"] = api = address.result()
    if server.is_healthy(api):
        say(console, f"Prefect UI: {api.removesuffix('/api')}")
    from prefect.settings import PREFECT_API_URL, temporary_settings

    logging.getLogger("prefect").propagate = False
    with temporary_settings({PREFECT_API_URL: api}):
        yield api
