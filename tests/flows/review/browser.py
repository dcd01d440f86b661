"""A headless Chromium for tests; they skip where there is none, or no Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from flows.review.imports import Imports
from flows.review.server import HOST, build_app, listening_socket
from flows.review.session import Session

TOKEN = "a-secret-of-this-test"


@contextmanager
def chromium() -> Iterator[Any]:
    """Yields a browser that downloads nothing: the one that the machine has."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright; install the extra `browser`"
    )
    place = shutil.which("chromium") or shutil.which("chromium-browser")
    if place is None:
        pytest.skip("no `chromium` on this machine")
    # A page waits for PyTorch; here that is not part of what is timed out.
    Imports().wait()
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=place)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(session: Session) -> Iterator[str]:
    """Yields the address of a review that is served while the block lasts."""
    import uvicorn

    own = listening_socket(0)
    number = own.getsockname()[1]
    app = build_app(session, TOKEN, number)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    )
    thread = Thread(target=server.run, kwargs={"sockets": [own]})
    thread.start()
    try:
        yield f"http://{HOST}:{number}/?token={TOKEN}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """Yields a page of a review. Fails if the page raised an error or wrote one."""
    problems: list[str] = []
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
    page.on(
        "console",
        lambda told: problems.append(told.text) if told.type == "error" else None,
    )
    try:
        page.goto(address)
        page.locator("#state", has_text="weight").wait_for()
        yield page
        assert not problems, problems
    finally:
        context.close()
