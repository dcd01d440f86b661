"""Clicks and boxes: the mask that they ask for, the decision, and what the next run makes of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flows.context import RunContext
from flows.review.prompting import Relative
from flows.review.server import build_app
from flows.review.session import Session
from pipeline.drawn import Drawn
from storage.arrays.masks import MaskStore
from storage.decisions import read_decisions
from tests.fakes.dataset import HEIGHT, WIDTH
from tests.fakes.stages import fake_parts
from tests.fakes.trackers import ColourTracker
from tests.flows.conftest import Site, finish

PORT, TOKEN = 4713, "a-secret-of-this-test"
CLIP = {"video": "clip00", "expression": "0"}
# The blue square of frame 1, at column 42 and row 20, in shares of the frame.
BLUE = [42 / WIDTH, 20 / HEIGHT, 54 / WIDTH, 32 / HEIGHT]
MIDDLE = [48 / WIDTH, 26 / HEIGHT, True]


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    yield client_of(session)


def client_of(session: Session) -> TestClient:
    made = TestClient(build_app(session, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}")
    made.get(f"/?token={TOKEN}")
    return made


def ask(client: TestClient, **more: object) -> Any:
    return client.post("/api/prompt", json={**CLIP, "frame": 1, **more})


def take(client: TestClient, drawn: object, **more: object) -> Any:
    wish = {**CLIP, "action": "draw", "drawn": drawn, **more}
    return client.post("/api/decisions", json=wish)


def test_clicks_and_boxes_come_back_as_a_mask_over_the_frame(ran: Site) -> None:
    ran.loaded.names.clear()
    context = RunContext(ran.config(), fake_parts(ran.weights, ran.loaded))
    client = client_of(Session(context, "anna"))
    for shown in ({"points": [MIDDLE]}, {"box": BLUE}, {"box": [*BLUE[2:], *BLUE[:2]]}):
        found = ask(client, **shown).json()
        mask = Drawn.from_json(found["mask"]).mask
        assert (int(mask.sum()), found["mask"]["frame"]) == (144, 1) and mask[20:32, 42:54].all()
        image = Image.open(io.BytesIO(base64.b64decode(found["jpeg"])))
        assert image.size == (WIDTH, HEIGHT)
    outside = [*BLUE[:2], False]
    found = ask(client, points=[MIDDLE, outside]).json()
    assert Drawn.from_json(found["mask"]).mask.sum() == 143
    # The model is loaded once, and a frame is encoded once.
    assert ran.loaded.names == ["segment"]
    assert not (ran.folder / "review.jsonl").exists()


def test_what_shows_nothing_or_lies_outside_is_refused(client: TestClient) -> None:
    for shown in ({}, {"points": [[0.5, 0.5, False]]}):
        answer = ask(client, **shown)
        assert answer.status_code == 422 and "neither a box nor a point" in answer.json()["error"]
    for wrong in ({"points": [[2, 0, True]]}, {"box": [0, 0, 1]}, {"width": 9}, {"frame": -1}):
        assert ask(client, **wrong).status_code == 422, wrong
    assert ask(client, box=BLUE, frame=99).status_code == 404
    assert ask(client, box=BLUE, video="../x").status_code == 404


def test_a_click_on_the_edge_is_within_the_frame() -> None:
    found = Relative([(1.0, 1.0, True)]).in_pixels((HEIGHT, WIDTH))
    assert found.obeyed(np.ones((1, HEIGHT, WIDTH), np.bool_)).tolist() == [1]


def test_a_drawn_mask_is_shown_kept_and_carried_by_its_track(client: TestClient, ran: Site) -> None:
    before = client.get("/api/frame", params={**CLIP, "frame": 0, "width": 64}).content
    drawn = ask(client, box=BLUE).json()["mask"]
    assert take(client, drawn, to=3).json()["row"]["decision"] == "corrected"
    details = client.get("/api/sample", params=CLIP).json()
    assert details["verdict"] == "a mask drawn in frame 1"
    # The track under the mask is that of the blue square: it carries it to both sides.
    reasons = [frame["reason"] for frame in details["frames"]]
    assert reasons[1] == "drawn by a person" and reasons[4] == ""
    assert {reasons[0], *reasons[2:4]} == {"carried from a mask that a person drew"}
    shown = client.get("/api/frame", params={**CLIP, "frame": 0, "width": 64}).content
    assert shown != before
    [made] = read_decisions(ran.folder / "review.jsonl").decisions
    assert (made.action, made.first, made.last, len(made.drawn)) == ("draw", 0, 3, 1)
    ran.loaded.names.clear()
    plan, _ = finish(ran)
    assert [job.shard.name for job in plan.pending("rank")] == ["00000"] and not ran.loaded.names
    masks, weight, status = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")
    assert np.array_equal(masks[1], made.drawn[0].mask)
    assert masks[0, 20:32, 44:56].all() and status.tolist() == [1] * 5
    assert weight.tolist()[:4] == pytest.approx([0.5, 1, 0.5, 0.5])
    assert client.post("/api/decisions", json={**CLIP, "action": "undo"}).status_code == 200
    assert client.get("/api/frame", params={**CLIP, "frame": 0, "width": 64}).content == before


def test_a_tracker_carries_a_drawn_mask_to_the_next_decisions(ran: Site) -> None:
    tracker = ColourTracker()
    parts = fake_parts(ran.weights, tracker=lambda config, device: tracker)
    config = ran.config('track.source="model"', 'track.checkpoint="any"')
    client = client_of(Session(RunContext(config, parts), "anna"))
    client.post("/api/decisions", json={**CLIP, "action": "absent", "from": 3, "to": 3})
    drawn = ask(client, box=BLUE).json()["mask"]
    assert take(client, drawn).status_code == 200
    # Frames 1 and 0 backwards, 1 and 2 forwards: frame 3 is decided.
    assert tracker.passes == [2, 2]
    made = read_decisions(ran.folder / "review.jsonl").decisions[-1]
    assert [item.frame for item in made.drawn] == [1, 0, 2]
    assert made.drawn[1].mask[22:30, 46:54].all() and made.drawn[1].mask.sum() < 200
    reasons = [frame["reason"] for frame in client.get("/api/sample", params=CLIP).json()["frames"]]
    carried = "carried from a mask that a person drew"
    assert reasons == [carried, "drawn by a person", carried, "absent, says a person", ""]


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame": 9},
        {"size": [4, 4], "counts": "`0"},
        {"counts": "junk"},
        {"counts": "x" * (1 << 20) + "x"},
        {"more": 1},
    ],
)
def test_what_is_no_mask_of_the_frame_is_refused(
    client: TestClient, ran: Site, wrong: dict[str, object]
) -> None:
    drawn = Drawn.of(1, np.ones((HEIGHT, WIDTH), np.bool_)).as_json()
    assert take(client, drawn | wrong).status_code in (404, 422)
    assert take(client, None).status_code == 422
    assert take(client, drawn, **{"from": 2}).status_code == 422
    assert not (ran.folder / "review.jsonl").exists()


def test_a_log_with_a_mask_that_is_torn_is_reported(client: TestClient, ran: Site) -> None:
    drawn = Drawn.of(1, np.eye(HEIGHT, WIDTH, dtype=np.bool_)).as_json()
    take(client, drawn)
    path = ran.folder / "review.jsonl"
    line = json.loads(path.read_text())
    line["drawn"][0]["counts"] = line["drawn"][0]["counts"][:-3]
    path.write_text(json.dumps(line) + "\n")
    log = read_decisions(path)
    assert not log.decisions and "line 1 is no decision" in log.problems[0]
