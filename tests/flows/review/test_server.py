"""The review's web application: who may ask, what it answers, and what hostile input comes to."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flows.context import RunContext
from flows.planning.run_paths import RunPaths
from flows.review.guarantee import run_signals
from flows.review.server import build_app, listening_socket
from flows.review.session import Session
from pipeline.errors import PseudoLabelError
from storage.arrays.masks import MaskStore
from storage.decisions import read_decisions
from tests.fakes.stages import fake_parts
from tests.flows.conftest import HOSTILE, Site, finish

PORT = 4711
TOKEN = "a-secret-of-this-test"
BASE = f"http://127.0.0.1:{PORT}"
CLIP = {"video": "clip00", "expression": "0"}


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    with TestClient(build_app(session, TOKEN, PORT), base_url=BASE) as made:
        assert made.get(f"/?token={TOKEN}").status_code == 200
        yield made


def stranger(session: Session) -> TestClient:
    return TestClient(build_app(session, TOKEN, PORT), base_url=BASE, follow_redirects=False)


PATHS = ("/", "/page/main.js", "/api/run", "/api/samples", "/api/frame?frame=0", "/favicon.ico")


def test_without_the_token_nothing_is_answered(session: Session) -> None:
    for path in PATHS:
        assert stranger(session).get(path).status_code == 403, path
    assert stranger(session).get("/?token=wrong").status_code == 403
    assert stranger(session).get(f"/api/run?token={TOKEN}").status_code == 403
    assert stranger(session).post("/api/decisions", json={}).status_code == 403
    header = {"X-Review-Token": TOKEN}
    assert stranger(session).get("/api/run", headers=header).status_code == 200


def test_the_token_leaves_the_address_and_stays_in_a_strict_cookie(session: Session) -> None:
    answer = stranger(session).get(f"/?text=a+b&token={TOKEN}&at=x")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?text=a+b&at=x"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and str(PORT) in cookie


def test_a_foreign_site_is_refused_even_with_the_cookie(client: TestClient, ran: Site) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:4712"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:4712"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = client.post("/api/decisions", json={**CLIP, "action": "reject"}, headers=headers)
        assert answer.status_code == 403, headers
    assert not (ran.folder / "review.jsonl").exists()


def test_every_answer_forbids_foreign_scripts_and_frames(client: TestClient) -> None:
    for path in ("/", "/api/run", "/page/nothing", "/api/sample?video=x&expression=y"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy


def test_the_page_is_modules_without_inline_code(client: TestClient) -> None:
    page = client.get("/").text
    assert '<html lang="en">' in page and page.count("<script") == 1
    assert 'type="module" src="/page/main.js"' in page
    assert "style=" not in page and " on" + "click" not in page
    for name in ("main.js", "list.js", "player.js", "pencil.js", "words.js", "api.js"):
        answer = client.get(f"/page/{name}")
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "innerHTML" not in answer.text and "http://" not in answer.text
    assert client.get("/page/review.css").headers["content-type"].startswith("text/css")


def test_no_path_leads_out_of_the_page_or_the_run(client: TestClient, ran: Site) -> None:
    for path in ("../server.py", "%2e%2e/server.py", "..%2fserver.py", "server.py"):
        assert client.get(f"/page/{path}").status_code == 404, path
    for name in ("../../etc", "..", "clip00/0", "%00", "\0", "nothing"):
        for field in ("video", "expression"):
            asked = {**CLIP, field: name}
            assert client.get("/api/sample", params=asked).status_code == 404, asked
            assert client.get("/api/frame", params={**asked, "frame": 0}).status_code == 404
            answer = client.post("/api/decisions", json={**asked, "action": "accept"})
            assert answer.status_code == 404
    assert not (ran.folder / "review.jsonl").exists()


WRONG: list[dict[str, object]] = [
    {"action": "eat"},
    {"action": "choose"},
    {"action": "accept", "track": 1},
    {"action": "choose", "track": 99},
    {"action": "choose", "track": -1},
    {"action": "absent", "from": 99},
    {"action": "absent", "from": 3, "to": 2},
    {"action": "absent", "from": 0, "to": 99},
    {"action": "absent", "from": "x"},
    {"action": "accept", "who": "somebody else"},
    {"action": "accept", "video": "x" * 500},
]


def test_what_is_no_decision_is_refused(client: TestClient, ran: Site) -> None:
    for wish in WRONG:
        answer = client.post("/api/decisions", json={**CLIP, **wish})
        assert answer.status_code in (404, 422), wish
    assert not (ran.folder / "review.jsonl").exists()


def test_samples_come_with_their_own_text_whatever_it_holds(client: TestClient) -> None:
    found = client.get("/api/samples").json()
    assert (found["total"], found["all"]) == (8, 8)
    assert {item["text"] for item in found["rows"]} == {HOSTILE, "the blue square moving left"}
    gains = [item["gain"] for item in found["rows"]]
    assert gains == sorted(gains, reverse=True)
    asked = {"text": "<script> SQUARE", "video": "clip02", "count": 1}
    [row] = client.get("/api/samples", params=asked).json()["rows"]
    assert (row["video"], row["expression"]) == ("clip02", "0")
    # Hidden sentences of the sample, such as negatives, are not searched.
    texts = client.get("/api/sample", params=CLIP).json()["texts"]
    hidden = next(
        word for text in texts["negatives"] for word in text.split() if word not in HOSTILE
    )
    assert client.get("/api/samples", params={"text": hidden}).json()["total"] in (0, 4)


def colours(client: TestClient, **more: object) -> np.ndarray:
    answer = client.get("/api/frame", params={**CLIP, "frame": 0, "width": 64, **more})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def test_images_are_made_for_every_way_to_look_at_a_frame(client: TestClient) -> None:
    plain = colours(client, show="plain")
    assert plain.shape == (40, 64, 3)
    for show in ("mask", "truth", "track"):
        assert np.abs(colours(client, show=show) - plain).mean() > 3, show
    assert np.abs(colours(client, show="track", track=1) - colours(client, show="track")).mean() > 3
    assert client.get("/api/frame", params={**CLIP, "frame": 5}).status_code == 404
    assert client.get("/api/frame", params={**CLIP, "frame": 0, "width": 99999}).status_code == 422


def test_details_tell_frames_tracks_and_history(client: TestClient) -> None:
    client.post("/api/decisions", json={**CLIP, "action": "absent", "from": 1, "to": 2})
    found = client.get("/api/sample", params=CLIP).json()
    assert [frame["status"] for frame in found["frames"]] == [1, 2, 2, 1, 1]
    assert found["frames"][1]["reason"] == "absent, says a person"
    assert (found["verdict"], found["truth"]) == ("absent in frames 1 to 2", True)
    assert [item["action"] for item in found["history"]] == ["absent"]
    assert found["tracks"][0] == 0


def test_a_decision_is_on_the_disk_and_shown_before_the_run_does_it(
    client: TestClient, ran: Site
) -> None:
    before = colours(client)
    other = {**CLIP, "action": "choose", "track": 1}
    row = client.post("/api/decisions", json=other).json()["row"]
    assert row["decision"] == "corrected"
    [made] = read_decisions(ran.folder / "review.jsonl").decisions
    assert (made.who, made.track, len(made.masks)) == ("anna", 1, 64)
    shown = colours(client)
    assert np.abs(shown - before).mean() > 3
    finish(ran)
    fresh = Session(RunContext(ran.config(), fake_parts(ran.weights)), "ben")
    with TestClient(build_app(fresh, TOKEN, PORT), base_url=BASE) as again:
        again.get(f"/?token={TOKEN}")
        assert np.array_equal(colours(again), shown)
        again.post("/api/decisions", json={**CLIP, "action": "undo"})
        # Only the person's own decisions are taken back.
        assert np.array_equal(colours(again), shown)
    client.post("/api/decisions", json={**CLIP, "action": "undo"})
    assert np.array_equal(colours(client), before)


def test_two_tabs_that_decide_at_once_lose_nothing(client: TestClient, ran: Site) -> None:
    def decide(number: int) -> int:
        action = ("accept", "reject")[number % 2]
        return client.post("/api/decisions", json={**CLIP, "action": action}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(decide, range(12))) == {200}
    made = read_decisions(ran.folder / "review.jsonl").decisions
    assert len(made) == 12
    last = max(made, key=lambda item: item.when)
    shown = client.get("/api/sample", params=CLIP).json()
    assert shown["row"]["decision"] == last.action
    assert len(shown["history"]) == 12


def test_decisions_of_another_process_are_taken_over(
    client: TestClient, session: Session, ran: Site
) -> None:
    other = Session(RunContext(ran.config(), fake_parts(ran.weights)), "ben")
    other.decide(("clip00", "0"), "reject")
    client.post("/api/decisions", json={**CLIP, "action": "absent", "to": 0})
    history = client.get("/api/sample", params=CLIP).json()["history"]
    assert [item["who"] for item in history] == ["ben", "anna"]


def test_a_reviewed_run_has_the_masks_that_were_shown(client: TestClient, ran: Site) -> None:
    client.post("/api/decisions", json={**CLIP, "action": "accept"})
    finish(ran)
    _, weight, status = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")
    assert weight[status > 0].tolist() == [1.0] * int((status > 0).sum())


def test_a_run_without_masks_and_a_taken_port_are_told(ran: Site, tmp_path: Path) -> None:
    for path in (ran.folder / "ledger" / "rank").iterdir():
        path.unlink()
    with pytest.raises(PseudoLabelError, match="no masks yet"):
        Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
    with listening_socket(0) as own:
        own.listen()
        with pytest.raises(PseudoLabelError, match="expected a free one"):
            listening_socket(own.getsockname()[1])


def test_the_first_page_loads_no_model_library(session: Session) -> None:
    opened = stranger(session).get("/api/samples", headers={"X-Review-Token": TOKEN})
    assert opened.status_code == 200
    assert not session._held


def test_a_run_with_followed_tracks_is_shown_from_its_own_candidates(ran: Site) -> None:
    for shard in ("00000", "00001"):
        boxes, candidates = RunPaths(ran.folder).followed(shard)
        shutil.move(ran.folder / "ground" / f"{shard}.parquet", boxes)
        shutil.move(ran.folder / "segment" / f"{shard}.zarr", candidates)
    session = Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
    session.decide(("clip00", "0"), "choose", track=1)
    assert session.image(("clip00", "0"), 0, "track", 1, 64)
    assert session.explain(("clip00", "0"), 0)["lines"]
    assert run_signals(session._context)["clip00", "0"] == pytest.approx(0.8)


def test_a_sample_without_decisions_is_shown_as_stored_beside_one_that_waits(ran: Site) -> None:
    other = Session(RunContext(ran.config(), fake_parts(ran.weights)), "ben")
    other.decide(("clip00", "0"), "reject")

    def fails(*arguments: object) -> None:
        raise AssertionError("made anew")

    parts = fake_parts(ran.weights, rank=fails)
    session = Session(RunContext(ran.config(), parts), "anna")
    assert session.details(("clip00", "1"))["frames"][0]["status"] == 1
    with pytest.raises(AssertionError, match="made anew"):
        session.details(("clip00", "0"))


def test_the_log_is_read_again_only_if_others_wrote(
    session: Session, ran: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(
        "flows.review.session.read_decisions",
        lambda path: reads.append(path) or read_decisions(path),  # type: ignore[func-returns-value]
    )
    session.decide(("clip00", "0"), "accept")
    session.decide(("clip00", "0"), "reject")
    assert not reads
    other = Session(RunContext(ran.config(), fake_parts(ran.weights)), "ben")
    reads.clear()
    other.decide(("clip01", "0"), "accept")
    session.decide(("clip01", "1"), "accept")
    assert len(reads) == 1
    assert len(session.details(("clip00", "0"))["history"]) == 2
