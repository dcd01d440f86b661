"""One file from a server that cuts, lies, redirects, refuses and changes its mind."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.weights.download import TRIES, download
from flows.weights.request import Downloads, UnreachableError, Wanted, open_client, size_at
from pipeline.errors import CheckpointError, NoRoomError
from tests.fakes.weights_server import File, WeightsServer

CONTENT = bytes(range(256)) * 400
OTHER = CONTENT[::-1]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shared() -> Iterator[Downloads]:
    with open_client() as client:
        yield Downloads(client)


@pytest.fixture
def wanted(server: WeightsServer, tmp_path: Path) -> Wanted:
    server.files["a.pth"] = File(CONTENT)
    return Wanted(f"{server.url}/a.pth", tmp_path / "weights" / "a.pth", digest(CONTENT))


def leftovers(wanted: Wanted) -> set[str]:
    return {path.name for path in wanted.place.parent.iterdir()} - {".a.pth.lock"}


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [None]),
        (["cut"], [None, "bytes=51200-"]),
        (["cut", "cut"], [None, "bytes=51200-", "bytes=76800-"]),
        (["long"], [None, "bytes=102400-"]),
        (["cut", "ignore range"], [None, "bytes=51200-"]),
        (["cut", "wrong range"], [None, "bytes=51200-", None]),
        (["429", "503", "500"], [None] * 4),
        (["cut", "429"], [None, "bytes=51200-", "bytes=51200-"]),
    ],
)
def test_a_file_is_whole_whatever_the_server_does_once(
    server: WeightsServer,
    wanted: Wanted,
    shared: Downloads,
    faults: list[str],
    ranges: list[str | None],
) -> None:
    told: list[int] = []
    shared.advance = told.append
    server.files["a.pth"].faults = deque(faults)
    download(shared, wanted)
    assert wanted.place.read_bytes() == CONTENT
    assert [asked for _, _, asked in server.asked] == ranges
    assert sum(told) == len(CONTENT)
    assert leftovers(wanted) == {"a.pth"}


def test_a_later_process_resumes_what_was_cut(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.files["a.pth"].faults = deque(["cut", *["403"]])
    with pytest.raises(CheckpointError, match=r"403 Forbidden; expected the file; .*MIRROR"):
        download(shared, wanted)
    assert wanted.received() == len(CONTENT) // 2 and not wanted.place.exists()
    server.asked.clear()
    download(shared, wanted)
    assert [asked for _, _, asked in server.asked] == ["bytes=51200-"]
    assert wanted.place.read_bytes() == CONTENT


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changes_between_tries_is_fetched_again(
    server: WeightsServer, tmp_path: Path, shared: Downloads, honest: bool
) -> None:
    server.files["a.pth"] = file = File(OTHER, deque(["cut", "403"]))
    wanted = Wanted(f"{server.url}/a.pth", tmp_path / "a.pth", digest(CONTENT))
    with pytest.raises(CheckpointError):
        download(shared, wanted)
    if not honest:
        # A server that takes any mark for its own.
        mark = wanted.note.read_text().replace(file.etag.strip('"'), File(CONTENT).etag.strip('"'))
        wanted.note.write_text(mark)
    file.content = CONTENT
    download(shared, wanted)
    assert wanted.place.read_bytes() == CONTENT


def test_a_server_without_marks_sends_the_file_again(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.files["a.pth"].marks = False
    server.files["a.pth"].faults = deque(["cut"])
    download(shared, wanted)
    assert [asked for _, _, asked in server.asked] == [None, None]
    assert wanted.place.read_bytes() == CONTENT


def test_a_redirect_is_followed(server: WeightsServer, wanted: Wanted, shared: Downloads) -> None:
    moved = Wanted(f"{server.url}/moved/a.pth", wanted.place, wanted.sha256)
    download(shared, moved)
    assert moved.place.read_bytes() == CONTENT
    assert size_at(shared.client, moved.url) == len(CONTENT)


@pytest.mark.parametrize("fault", ["403", "404", "410"])
def test_a_refusal_is_one_message_and_is_not_tried_again(
    server: WeightsServer, wanted: Wanted, shared: Downloads, fault: str
) -> None:
    server.files["a.pth"].faults = deque([fault])
    with pytest.raises(CheckpointError) as caught:
        download(shared, wanted)
    assert f"{wanted.url}: the server answers {fault}" in str(caught.value)
    assert str(wanted.place) in str(caught.value)
    assert len(server.asked) == 1


def test_a_range_past_the_end_starts_over_and_one_at_the_end_is_whole(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    for extra, requests in ((b"", 1), (b"more", 2)):
        server.files["a.pth"].faults = deque(["cut", "403"])
        with pytest.raises(CheckpointError):
            download(shared, wanted)
        wanted.partial.write_bytes(CONTENT + extra)
        server.asked.clear()
        download(shared, wanted)
        assert wanted.place.read_bytes() == CONTENT
        assert len(server.asked) == requests
        wanted.place.unlink()


def test_a_server_that_stays_busy_is_given_up(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.files["a.pth"].faults = deque(["cut", *["503"] * 20])
    with pytest.raises(CheckpointError, match=r"503 .*5 times in a row.*51,200 bytes .*kept"):
        download(shared, wanted)
    assert len(server.asked) == 1 + TRIES - 1


def test_a_long_pause_is_said_and_not_waited_for(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.wait, server.files["a.pth"].faults = "3600", deque(["429"])
    with pytest.raises(CheckpointError, match=r"429 .*to wait 3600 s"):
        download(shared, wanted)


@pytest.mark.parametrize("content", [OTHER, CONTENT[:-10]])
def test_a_wrong_file_is_not_put_in_place(
    server: WeightsServer, wanted: Wanted, shared: Downloads, content: bytes
) -> None:
    server.files["a.pth"].content = content
    with pytest.raises(CheckpointError) as caught:
        download(shared, wanted)
    for part in (wanted.url, digest(content), digest(CONTENT), "not put at", str(wanted.place)):
        assert part in str(caught.value)
    assert leftovers(wanted) == set()
    assert len(server.asked) == 1


def test_a_length_that_is_too_small_is_a_wrong_digest(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.files["a.pth"].faults = deque(["short"] * 3)
    with pytest.raises(CheckpointError, match="not put at"):
        download(shared, wanted)
    assert not wanted.place.exists()


def test_the_first_digits_of_a_digest_are_checked(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    start = digest(CONTENT)[:8]
    download(shared, Wanted(wanted.url, wanted.place, digest_start=start))
    wanted.place.unlink()
    with pytest.raises(CheckpointError, match="00000000…"):
        download(shared, Wanted(wanted.url, wanted.place, digest_start="00000000"))


def test_no_connection_is_one_error_after_two_tries(tmp_path: Path, shared: Downloads) -> None:
    wanted = Wanted("http://127.0.0.1:1/a.pth", tmp_path / "a.pth")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1: no connection"):
        download(shared, wanted)
    with pytest.raises(UnreachableError):
        size_at(shared.client, wanted.url)


def test_a_full_disk_is_said_before_the_first_byte(
    server: WeightsServer, wanted: Wanted, shared: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NoRoomError, match=r"GB free; expected .*PSEUDOLABELS_CACHE"):
        download(shared, wanted)
    assert leftovers(wanted) == set()


def test_two_fetches_of_one_file_download_it_once(
    server: WeightsServer, wanted: Wanted, shared: Downloads
) -> None:
    server.gate = threading.Event()
    said: list[str] = []
    waiting = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            waiting.set()

    shared.say = say
    threads = [threading.Thread(target=download, args=(shared, wanted)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waiting.wait(10)
    server.gate.set()
    for thread in threads:
        thread.join(10)
    assert wanted.place.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert said[-1] == "a.pth: another process has fetched it"
