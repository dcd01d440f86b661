"""Makes one request for a file, and writes what the server answers behind what is there.

A file that is not complete is ``.NAME.part``. Beside it, ``.NAME.part.json`` has the address and
the server's mark (ETag or date) of the version that the bytes are of. A later request asks for the
rest of this version only; if the server has another one by now, it sends that from the start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import httpx

from pipeline.errors import CheckpointError, ConfigError, NoRoomError
from storage.files.atomic import replace_file

LONGEST_WAIT = 120.0
"""Seconds. A server that asks for a longer pause is reported."""

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class StoppedError(Exception):
    """The user has ended the download. What is there stays for the next one."""


class UnreachableError(CheckpointError):
    """No connection to a server can be made."""


@dataclass(frozen=True)
class Wanted:
    """A file to download.

    Attributes:
        url: its address.
        place: where it belongs.
        sha256: its digest; None if it is not known.
        digest_start: first digits of the digest; "" if they are not known.
    """

    url: str
    place: Path
    sha256: str | None = None
    digest_start: str = ""

    @property
    def partial(self) -> Path:
        return self.place.with_name(f".{self.place.name}.part")

    @property
    def note(self) -> Path:
        return self.place.with_name(f".{self.place.name}.part.json")

    def fits(self, digest: str) -> bool:
        """Returns whether a file with this digest is the one that is wanted."""
        return digest.startswith(self.digest_start) and self.sha256 in (None, digest)

    def received(self) -> int:
        """Returns the number of bytes that a later try need not fetch again."""
        return size_of(self.partial) if self.note.is_file() else 0


@dataclass
class PassingError(Exception):
    """A try failed for a reason that may pass.

    Attributes:
        found: what happened.
        after: seconds that the server asks to wait; None if it does not say.
        connected: whether the server answered at all.
    """

    found: str
    after: float | None = None
    connected: bool = True


@dataclass
class Downloads:
    """What the downloads of one command share.

    Attributes:
        client: for the requests.
        advance: is told the number of new bytes; negative where bytes are fetched again.
        say: prints a line.
        stop: ends all downloads when it is set.
    """

    client: httpx.Client
    advance: Callable[[int], None] = lambda count: None
    say: Callable[[str], None] = lambda text: None
    stop: Event = field(default_factory=Event)


def open_client() -> httpx.Client:
    """Returns a client with short times to connect, which follows redirects."""
    times = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    return httpx.Client(
        follow_redirects=True, timeout=times, headers={"User-Agent": "pseudolabels"}
    )


def size_at(client: httpx.Client, url: str) -> int | None:
    """Returns the size that a server gives for a file; None if it gives none.

    Raises:
        UnreachableError: there is no connection.
    """
    try:
        response = client.head(url, headers={"Accept-Encoding": "identity"})
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise _wrong_address(url, error) from error
    except httpx.TransportError as error:
        raise unreachable(url, error) from error
    except httpx.HTTPError:
        return None  # The download says what is wrong.
    size = response.headers.get("Content-Length", "")
    return int(size) if response.status_code == 200 and size.isdigit() else None


def unreachable(url: str, error: object) -> UnreachableError:
    """Returns the error of a server without a connection."""
    return UnreachableError(
        urlsplit(url).netloc or url,
        f"no connection ({error})",
        "a server that answers",
        "connect this machine or set a mirror (PSEUDOLABELS_MIRROR, HF_ENDPOINT); for a machine"
        " without a network, fetch on another one and copy its cache folder"
        " (`pseudolabels weights list` names it)",
    )


def request(shared: Downloads, wanted: Wanted) -> None:
    """One request, which goes on where the partial file ends."""
    if shared.stop.is_set():
        raise StoppedError
    mark = _mark_of(wanted)
    have = size_of(wanted.partial) if mark else 0
    headers = {"Accept-Encoding": "identity"}
    if mark and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    try:
        with shared.client.stream("GET", wanted.url, headers=headers) as response:
            _receive(shared, wanted, response, have)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise _wrong_address(wanted.url, error) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise PassingError(str(error) or "no answer", connected=False) from error
    except httpx.TransportError as error:
        raise PassingError(f"the connection broke ({error})") from error
    except httpx.HTTPError as error:
        raise _refused(wanted, str(error)) from error


def _receive(shared: Downloads, wanted: Wanted, response: httpx.Response, have: int) -> None:
    """Writes the body of an answer behind the ``have`` bytes that are there."""
    start, total = _span(shared, wanted, response, have)
    if total is not None and start == total:
        return
    _check_room(wanted, start, total)
    if start == 0:
        shared.advance(-discard(wanted))
        _write_mark(wanted, response)
    with wanted.partial.open("ab") as file:
        for block in response.iter_raw():
            if shared.stop.is_set():
                raise StoppedError
            file.write(block)
            shared.advance(len(block))
        file.flush()
        os.fsync(file.fileno())
    size = size_of(wanted.partial)
    if total is not None and size < total:
        raise PassingError(f"the answer ended after {size:,} of {total:,} bytes")


def _span(
    shared: Downloads, wanted: Wanted, response: httpx.Response, have: int
) -> tuple[int, int | None]:
    """Returns the place of the body's first byte in the file, and the file's size if it is known.

    Raises:
        PassingError: the server is busy or answers something else than what was asked.
        CheckpointError: it refuses.
    """
    status = response.status_code
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    if status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found and int(found[1]) == have:
            return have, int(found[2]) if found[2].isdigit() else None
    if status == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
        return have, have
    if status in (206, 416):
        shared.advance(-discard(wanted))
        raise PassingError("the server sent another part of the file than was asked for")
    if status in (408, 429) or status >= 500:
        raise PassingError(
            f"the server answers {_status(response)}", _retry_after(wanted, response)
        )
    raise _refused(wanted, f"the server answers {_status(response)}")


def _retry_after(wanted: Wanted, response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if not text.isdigit():
        return None
    if float(text) > LONGEST_WAIT:
        raise _refused(wanted, f"the server answers {_status(response)}, to wait {text} s")
    return float(text)


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _refused(wanted: Wanted, found: str) -> CheckpointError:
    return CheckpointError(
        wanted.url,
        found,
        "the file",
        f"try again later, set PSEUDOLABELS_MIRROR, or put the file at {wanted.place} yourself",
    )


def _wrong_address(url: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{url}: not an address ({error}); expected one that begins with http:// or https://;"
        " correct PSEUDOLABELS_MIRROR"
    )


def _check_room(wanted: Wanted, start: int, total: int | None) -> None:
    free = shutil.disk_usage(wanted.place.parent).free
    if total is not None and total - start > free:
        raise NoRoomError(no_room(wanted.place.parent, total - start, free))


def no_room(folder: Path, needed: int, free: int) -> str:
    """Returns the message about a disk that is too small."""
    return (
        f"{folder}: {free / 1e9:.1f} GB free; expected {needed / 1e9:.1f} GB for the weights; free"
        " some space, or set PSEUDOLABELS_CACHE to a folder on another disk"
    )


def _mark_of(wanted: Wanted) -> str | None:
    """Returns the server's mark of the version that the partial file is of; None without one."""
    try:
        note = json.loads(wanted.note.read_text(encoding="utf-8"))
        return str(note["mark"]) if note["url"] == wanted.url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_mark(wanted: Wanted, response: httpx.Response) -> None:
    mark = response.headers.get("ETag", "")
    # A weak mark does not say that the bytes are equal.
    if not mark or mark.startswith("W/"):
        mark = response.headers.get("Last-Modified", "")
    if mark:
        with replace_file(wanted.note, "w") as file:
            json.dump({"url": wanted.url, "mark": mark}, file)


def discard(wanted: Wanted) -> int:
    """Removes the partial file. Returns its size."""
    size = size_of(wanted.partial)
    wanted.note.unlink(missing_ok=True)
    wanted.partial.unlink(missing_ok=True)
    return size


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
