"""The student of a run on the cluster that has labelled."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.orchestration.ray.ray_training import Heard, Sent, dividing
from flows.orchestration.watching.artifacts import artifact_key
from flows.orchestration.watching.known_runs import key_of
from flows.progress import Silent
from stages.student.training.fit import History
from storage.run.ledger import Ledger


@pytest.mark.parametrize(
    ("clips", "workers", "taken"), [(4, 2, 2), (3, 2, 1), (6, 5, 3), (1, 8, 1)]
)
def test_as_many_workers_as_divide_the_clips_of_a_step(
    clips: int, workers: int, taken: int
) -> None:
    assert dividing(clips, workers) == taken


class Shown(Silent):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self, stage: str, total: float, unit: str) -> None:
        self.calls.append((stage, total, unit))

    def advance(self, amount: float, frames: int = 0) -> None:
        self.calls.append((amount, frames))

    def say(self, text: str, style: str = "") -> None:
        self.calls.append(text)


def test_what_a_worker_tells_is_shown_and_published_where_the_run_is() -> None:
    shown, published = Shown(), list[History]()
    told: list[tuple[Any, ...]] = []
    sent = Sent(lambda *values: told.append(values))
    sent.begin("student: train", 30, "steps")
    sent.advance(1, 12)
    sent.say("a clip was left out", "yellow")
    history = History([{"dice": 0.5}])
    told += [("history", history), ("samples", 7), ("ended",), ("say", "too late")]

    class Queue:
        def get(self) -> tuple[Any, ...]:
            return told.pop(0)

    heard = Heard(shown, published.append)
    heard.listen(Queue())
    assert shown.calls == [("student: train", 30, "steps"), (1, 12), "a clip was left out"]
    assert published == [history]
    assert (heard.history, heard.samples) == (history, 7)


def command(out: Path, *words: str) -> list[str]:
    settings = ["shard_videos=1", "shapes.train_videos=1", "shapes.valid_videos=1", "device=cpu"]
    settings += ["student.steps=12", "student.clips_per_step=2", "student.frames_per_clip=2"]
    settings += ["student.training.checkpoint_every=4", "augment.source=none", *words]
    return [sys.executable, "-m", "flows", "run", "--out", str(out), *settings]


def losses(run: Path) -> list[float]:
    with (run / "student" / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_the_student_of_a_run_trains_on_its_cluster_and_resumes_there(tmp_path: Path) -> None:
    pytest.importorskip("ray.train")
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_HOME": str(tmp_path / "home")}
    settings |= {"RAY_worker_niceness": "0"}
    settings.pop("PREFECT_API_URL", None)
    alone, shared = (tmp_path / name / "shapes-train" for name in ("alone", "shared"))
    asked = {"env": settings, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    ray = command(tmp_path / "shared", "runner.kind=ray", "runner.workers=2")
    try:
        done: Any = subprocess.run(command(tmp_path / "alone"), timeout=900, check=False, **asked)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout
        checkpoint, deadline = shared / "student" / "checkpoint.pt", time.monotonic() + 900
        with subprocess.Popen(ray, start_new_session=True, **asked) as begun:  # type: ignore[call-overload]
            while not checkpoint.exists():
                assert begun.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            os.killpg(begun.pid, signal.SIGKILL)
        done = subprocess.run(ray, timeout=900, check=False, **asked)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout
        assert "Training the student with Ray, workers: 2" in done.stdout
        api = json.loads(next((tmp_path / "home").rglob("*server*.json")).read_text())
        pages = httpx.post(f"{api['url']}/artifacts/filter", json={}, timeout=30).json()
    finally:
        stop = [sys.executable, "-m", "flows", "server", "stop"]
        subprocess.run(stop, env=settings, check=False)
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-3)
    assert len(losses(shared)) == 12
    assert list(verify(shared, Contents())) == []
    assert not (shared / "student" / "ray").exists()
    receipt = Ledger(shared).receipt("student", "all")
    assert receipt is not None and receipt.counts["steps"] == 12
    key = key_of(shared)
    trained, labelled = (
        {page["flow_run_id"] for page in pages if page["key"] == artifact_key(key, what)}
        for what in (f"{shared.name}-training", "stages")
    )
    assert trained & labelled, "the curves are in the run's own flow run"
