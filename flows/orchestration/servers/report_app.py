"""Serves the reports of runs through HTTP, on this machine only, for links in the Prefect UI.

    python -m flows.orchestration.servers.report_app PORT

A browser refuses links from a page to a file on disk. This server reads; it changes nothing. It
knows runs by their key (:mod:`flows.orchestration.watching.known_runs`), and gives
``report/index.html`` of them and nothing else.
"""

from __future__ import annotations

import html
import stat
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route

from flows.orchestration.servers.background import HOST, prefect_home
from flows.orchestration.watching.known_runs import folder_of, key_of, known_runs
from flows.planning.run_paths import RunPaths

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def report_of(key: str) -> Path | None:
    """Returns the report of a run; None if there is no such run, or if the report is no plain file
    in the run's own folder, as a link that leads out of it.
    """
    folder = folder_of(key)
    if folder is None:
        return None
    path, root = RunPaths(folder).report, folder.resolve()
    try:
        inside = path.resolve(strict=True).is_relative_to(root)
        plain = stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return None
    return path if inside and plain else None


async def _report(request: Request) -> Response:
    path = report_of(request.path_params["key"])
    if path is None:
        return PlainTextResponse("No such report.", 404, _HEADERS)
    return FileResponse(path, headers=_HEADERS, media_type="text/html")


async def _index(request: Request) -> Response:
    rows = [
        f'<li><a href="/reports/{key}/">{html.escape(str(folder))}</a></li>'
        for folder in known_runs()
        if report_of(key := key_of(folder)) is not None
    ]
    found = "".join(rows) or "<li>none yet</li>"
    page = (
        f"<!doctype html><meta charset=utf-8><title>Reports</title><h1>Reports</h1><ul>{found}</ul>"
    )
    return HTMLResponse(page, headers=_HEADERS)


async def _settings(request: Request) -> Response:
    """The folder whose runs are served, so that another user's server is not taken for this one."""
    return JSONResponse({"home": str(prefect_home())}, headers=_HEADERS)


async def _health(request: Request) -> Response:
    return PlainTextResponse("true", headers=_HEADERS)


def app() -> Starlette:
    """Returns the server's application."""
    # A page of another site that points its name at this machine is not answered.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    routes = [
        Route("/", _index),
        Route("/reports/{key}/", _report),
        Route("/api/health", _health),
        Route("/api/admin/settings", _settings),
    ]
    return Starlette(routes=routes, middleware=[hosts])


def main() -> None:
    """Serves until the process is ended."""
    import uvicorn

    uvicorn.run(app(), host=HOST, port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
