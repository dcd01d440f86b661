"""A wrong object is put right on the page, and the same command makes better masks of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from flows.context import RunContext
from flows.review.server import build_app
from flows.review.session import Session
from pipeline.types import Hypotheses
from tests.fakes.stages import fake_fuse, fake_parts
from tests.flows.conftest import Site, finish

PORT, TOKEN = 4712, "a-secret-of-this-test"
WRONG = {"video": "clip02", "expression": "0"}


def of_the_other_square(*arguments: Any) -> Hypotheses:
    """Takes the other square of one sample, where there are two."""
    made, candidates = fake_fuse(*arguments), arguments[3]
    if (made.key.video, made.key.expression) != (WRONG["video"], WRONG["expression"]):
        return made
    two = np.array([len(item.predicted_iou) > 1 for item in candidates])[:, None, None]
    return replace(made, candidate=np.where(two, 1 - made.candidate, made.candidate))


def j_and_f(run: Path) -> float:
    found = json.loads((run / "metrics.json").read_text())
    return float(found["pseudo_masks"]["overall"]["J&F"])


def test_decisions_on_the_page_raise_j_and_f_without_any_model(ran: Site) -> None:
    best = j_and_f(ran.folder)
    finish(ran, "fuse", fuse=of_the_other_square)
    before = j_and_f(ran.folder)
    assert before < best - 5
    session = Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
    client = TestClient(build_app(session, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}")
    client.get(f"/?token={TOKEN}")

    def decide(action: str, **more: object) -> str:
        wish = {**WRONG, "action": action, **more}
        decision: str = client.post("/api/decisions", json=wish).json()["row"]["decision"]
        return decision

    assert decide("reject") == "reject"
    assert decide("undo") == "undecided"
    assert decide("absent", **{"from": 4}) == "corrected"
    assert decide("undo") == "undecided"
    second = client.get("/api/sample", params=WRONG).json()["tracks"][1]
    assert decide("choose", track=second) == "corrected"
    # Another page, as after a reload, knows of it.
    again = Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
    assert again.queue.find(("clip02", "0")).decision == "corrected"
    found = client.get("/api/samples", params={"decision": "corrected"}).json()
    assert [row["video"] for row in found["rows"]] == ["clip02"]
    ran.loaded.names.clear()
    plan, _ = finish(ran)
    assert [job.shard.name for job in plan.pending("rank")] == ["00001"]
    assert not ran.loaded.names
    assert j_and_f(ran.folder) == best
