"""The served flows with stand-ins for the models, in processes of their own that tests may hurt.

The environment says what happens in them:

- ``FAKE_WEIGHTS``: the file whose digest stands for every checkpoint.
- ``FAKE_HOLD``: while this file exists, ``segment`` waits.
- ``FAKE_BROKEN``: while this file exists, the checkpoint of ``segment`` is broken.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flows.labelling.opened_run
from flows.commands import main as command_line
from flows.orchestration import serving
from flows.orchestration.labelling_flow import label
from flows.orchestration.resume_flow import resume
from pipeline.errors import CheckpointError
from pipeline.types import Candidates
from tests.fakes.stages import FakeSegmenter, fake_parts

__all__ = ["label", "resume"]


class Segmenter(FakeSegmenter):
    def __init__(self) -> None:
        if _is_there("FAKE_BROKEN"):
            raise CheckpointError("sam.pth", "truncated", "a whole file", "fetch it again")

    def decode(self, embedding: Any, boxes: Sequence[Any]) -> list[Candidates]:
        while _is_there("FAKE_HOLD"):
            time.sleep(0.05)
        return super().decode(embedding, boxes)


def _is_there(variable: str) -> bool:
    return Path(os.environ.get(variable, "/nowhere")).exists()


if "FAKE_WEIGHTS" in os.environ:
    parts = fake_parts(
        Path(os.environ["FAKE_WEIGHTS"]), segmenter=lambda config, device: Segmenter()
    )
    flows.labelling.opened_run.Parts = lambda: parts  # type: ignore[assignment,misc]


if __name__ == "__main__":
    here = "tests.fakes.served"
    serving.SERVED = {"label-videos": (here, "label"), "resume-run": (here, "resume")}
    sys.argv[0] = "pseudolabels"
    command_line.main()
