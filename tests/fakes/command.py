"""``pseudolabels`` with stand-ins for the models, as a process of its own that tests may hurt.

The environment says what happens in it:

- ``FAKE_WEIGHTS``: the file whose digest stands for every checkpoint.
- ``FAKE_KILL_SERVER``: the Prefect server is killed in the middle of ``segment``; ``forget`` also
  makes it look like one that was not started here.
- ``FAKE_HANG``: ``STAGE:SECONDS``, a long call in ``ground``, ``segment``, ``track`` or ``judge``;
  in ``c`` it does not come back to Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flows.labelling.opened_run
from flows.commands import main as command_line
from flows.orchestration.servers import server
from pipeline.judgements import JudgeReply, JudgeRequest
from pipeline.types import Boxes, Candidates, Tracks
from stages.judge.stand_in import StandIn
from tests.fakes.stages import FakeGrounder, FakeSegmenter, fake_parts, fake_track


def hang(stage: str) -> None:
    """Waits where the environment says so; tells the parent that it is there."""
    where, _, how = os.environ.get("FAKE_HANG", "").partition(":")
    if where != stage:
        return
    print(f"in {stage}", flush=True)  # noqa: T201 - the parent waits for this line
    if how == "c":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
    else:
        time.sleep(float(how))


class Grounder(FakeGrounder):
    def ground(self, embedding: Any, texts: Sequence[str]) -> list[Boxes]:
        hang("ground")
        return super().ground(embedding, texts)


class Segmenter(FakeSegmenter):
    def __init__(self) -> None:
        self.calls = 0

    def decode(self, embedding: Any, boxes: Sequence[Any]) -> list[Candidates]:
        hang("segment")
        self.calls += 1
        if self.calls == 2 and "FAKE_KILL_SERVER" in os.environ:
            record = server.prefect_home() / "pseudolabels-server.json"
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
            if os.environ["FAKE_KILL_SERVER"] == "forget":
                record.unlink()
        return super().decode(embedding, boxes)


def track(*arguments: Any) -> Tracks:
    hang("track")
    return fake_track(*arguments)


class Judge(StandIn):
    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        hang("judge")
        return super().ask(requests)


def main() -> None:
    parts = fake_parts(
        Path(os.environ["FAKE_WEIGHTS"]),
        grounder=lambda config, device: Grounder(),
        segmenter=lambda config, device: Segmenter(),
        track=track,
        judge=lambda config, device: Judge(config.seed),
    )
    flows.labelling.opened_run.Parts = lambda: parts  # type: ignore[assignment,misc]
    command_line.main()


if __name__ == "__main__":
    sys.argv[0] = "pseudolabels"
    main()
