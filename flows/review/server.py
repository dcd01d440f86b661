"""The web application of `pseudolabels review`, for one person on this machine.

Every request needs the token of the address, and must come from the page itself: the cookie that
holds the token is not sent from elsewhere, and another origin or host name is refused.
"""

from __future__ import annotations

import base64
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from flows.review.pictures import Show
from flows.review.prompting import Relative
from flows.review.queue import DECISIONS, Filters
from flows.review.session import NoSampleError, Session
from pipeline.decisions import Action
from pipeline.drawn import LONGEST, Drawn
from pipeline.errors import PseudoLabelError

HOST = "127.0.0.1"
PAGE_ROWS = 50
MOST_ROWS = 200
MOST_POINTS = 100

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Text = Annotated[str, Query(max_length=400)]
Id = Annotated[str, Query(max_length=400)]
Share = Annotated[float, Field(ge=0, le=1)]


class DrawnMask(BaseModel):
    """A mask of a frame, as a COCO RLE."""

    model_config = ConfigDict(extra="forbid")

    frame: int = Field(ge=0)
    size: tuple[int, int]
    counts: str = Field(max_length=LONGEST)


class Shown(BaseModel):
    """Clicks and a box in a frame, in shares of its width and height."""

    model_config = ConfigDict(extra="forbid")

    video: str = Field(max_length=400)
    expression: str = Field(max_length=400)
    frame: int = Field(ge=0)
    points: list[tuple[Share, Share, bool]] = Field([], max_length=MOST_POINTS)
    box: tuple[Share, Share, Share, Share] | None = None
    width: int = Field(640, ge=32, le=1920)


class Wish(BaseModel):
    """A decision as the page sends it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    video: str = Field(max_length=400)
    expression: str = Field(max_length=400)
    action: Action
    first: int = Field(0, ge=0, alias="from")
    last: int | None = Field(None, ge=0, alias="to")
    track: int | None = Field(None, ge=0)
    drawn: DrawnMask | None = None


def build_app(session: Session, token: str, port: int) -> FastAPI:
    """Returns the application.

    Args:
        session: the review that it shows.
        token: that every request needs, in the address, the cookie or the header
            ``X-Review-Token``.
        port: where it listens; a part of its own origin.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guard = _Guard(token, port)
    app.middleware("http")(guard.checked)
    page = _page_files()

    @app.exception_handler(ValueError)
    def explain(request: Request, error: ValueError) -> JSONResponse:
        status = 500 if isinstance(error, PseudoLabelError) else 422
        return JSONResponse(
            {"error": str(error)}, 404 if isinstance(error, NoSampleError) else status
        )

    @app.get("/")
    def index(request: Request) -> Response:
        if "token" in request.query_params:
            # The address bar must not keep the token; the filters stay.
            rest = request.url.remove_query_params("token")
            answer = RedirectResponse(f"/?{rest.query}" if rest.query else "/", 303)
            answer.set_cookie(guard.cookie, token, httponly=True, samesite="strict")
            return answer
        return page["index.html"]()

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/page/{name}")
    def part_of_page(name: str) -> Response:
        make = page.get(name)
        return Response(status_code=404) if make is None else make()

    _add_lists(app, session)
    _add_samples(app, session)
    return app


def _add_lists(app: FastAPI, session: Session) -> None:
    @app.get("/api/run")
    def run() -> dict[str, Any]:
        kinds, reasons = session.queue.kinds_and_reasons()
        return {
            "name": session.name,
            "who": session.who,
            "problems": session.problems,
            "kinds": kinds,
            "reasons": reasons,
            "decisions": list(DECISIONS),
        }

    @app.get("/api/samples")
    def samples(
        text: Text = "",
        kind: Text = "",
        low: Annotated[float, Query(ge=0, le=1)] = 0.0,
        high: Annotated[float, Query(ge=0, le=1)] = 1.0,
        reason: Text = "",
        video: Id = "",
        decision: Text = "",
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=MOST_ROWS)] = PAGE_ROWS,
    ) -> dict[str, Any]:
        filters = Filters(text, kind, low, high, reason, video, decision)
        rows, total = session.page(filters, start, count)
        return {
            "rows": [asdict(row) for row in rows],
            "total": total,
            "all": len(session.queue),
            "counts": session.queue.counts(),
        }


def _add_samples(app: FastAPI, session: Session) -> None:
    @app.get("/api/sample")
    def sample(video: Id, expression: Id) -> dict[str, Any]:
        return session.details((video, expression))

    @app.get("/api/explain")
    def explain(video: Id, expression: Id, frame: Annotated[int, Query(ge=0)]) -> dict[str, Any]:
        return session.explain((video, expression), frame)

    @app.get("/api/frame")
    def image(
        video: Id,
        expression: Id,
        frame: Annotated[int, Query(ge=0)],
        show: Show = "mask",
        track: Annotated[int, Query(ge=0)] = 0,
        width: Annotated[int, Query(ge=32, le=1920)] = 640,
    ) -> Response:
        content = session.image((video, expression), frame, show, track, width)
        return Response(content, media_type="image/jpeg")

    @app.post("/api/prompt")
    def prompt(shown: Shown) -> dict[str, Any]:
        asked = Relative(shown.points, shown.box)
        sample = (shown.video, shown.expression)
        mask, image = session.prompted(sample, shown.frame, asked, shown.width)
        return {"mask": mask.as_json(), "jpeg": base64.b64encode(image).decode()}

    @app.post("/api/decisions")
    def decide(wish: Wish) -> dict[str, Any]:
        sample = (wish.video, wish.expression)
        drawn = None if wish.drawn is None else Drawn.from_json(wish.drawn.model_dump())
        session.decide(sample, wish.action, wish.first, wish.last, wish.track, drawn)
        return {"row": asdict(session.queue.find(sample))}


class _Guard:
    """Lets only this page's own requests pass, and those that know the token."""

    def __init__(self, token: str, port: int) -> None:
        self._token = token
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        # Cookies do not tell ports apart, names do.
        self.cookie = f"pseudolabels_review_{port}"

    async def checked(
        self, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        problem = self._problem(request)
        if problem:
            response: Response = JSONResponse({"error": problem}, 403)
        else:
            response = await answer(request)
        response.headers.update(_HEADERS)
        return response

    def _problem(self, request: Request) -> str:
        """Returns why a request is refused; empty if it is not."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self._hosts:
            return "this server answers on its own address alone"
        if origin is not None and origin != f"http://{host}":
            return "this request comes from another site"
        if (
            request.headers.get("sec-fetch-site", "none") == "cross-site"
            and request.method != "GET"
        ):
            return "this request comes from another site"
        given = (
            request.cookies.get(self.cookie),
            request.headers.get("x-review-token"),
            request.query_params.get("token") if request.url.path == "/" else None,
        )
        if any(_same(item, self._token) for item in given if item):
            return ""
        return "open the address that `pseudolabels review` printed"


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _page_files() -> dict[str, Callable[[], Response]]:
    """Returns name -> what makes the response with the file of that name."""
    found: dict[str, Callable[[], Response]] = {}
    for item in (files("flows.review") / "page").iterdir():
        kind = _TYPES.get(item.name.rpartition(".")[2])
        if kind is not None:
            content = item.read_bytes()
            found[item.name] = lambda content=content, kind=kind: Response(  # type: ignore[misc]
                content, media_type=kind
            )
    return found


def listening_socket(port: int) -> socket.socket:
    """Returns a socket that listens on this machine alone; port 0 takes a free one.

    Raises:
        PseudoLabelError: the port is taken.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise PseudoLabelError(
            f"port {port} of {HOST}: {error.strerror}; expected a free one; give another --port, or"
            " none"
        ) from error
    return found


def serve(session: Session, port: int, told: Callable[[str], None]) -> None:
    """Serves a review until it is interrupted.

    Args:
        port: where to listen; 0 for a free port.
        told: called with the address.
    """
    import uvicorn

    own = listening_socket(port)
    number = own.getsockname()[1]
    token = secrets.token_urlsafe(24)
    app = build_app(session, token, number)
    told(f"http://{HOST}:{number}/?token={token}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[own])
