from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.context import RunContext
from flows.labelling.jobs import do_job
from pipeline.config import load_config
from pipeline.errors import UnusableAnswerError
from pipeline.ports import CaptionAnswer, CaptionRequest
from stages.augment.file import OriginalOnly
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import fake_parts


class Wordy(OriginalOnly):
    """Leaves two texts of every answer out; fails at one video."""

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        if requests[0].video.id == "clip01":
            raise UnusableAnswerError("no usable answer")
        return [
            CaptionAnswer(item.augmentation, {"twice": 2}) for item in super().augment(requests)
        ]


@pytest.mark.parametrize("shards", [1, 3])
def test_the_receipt_counts_what_answers_left_out(tmp_path: Path, shards: int) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 3)
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["student.enabled=false", f"shard_videos={3 // shards}"]
    captioner = Wordy(0)
    parts = fake_parts(tmp_path / "weights", captioner=lambda *_: captioner)
    context = RunContext(load_config(None, words), parts)
    jobs = context.make_plan().jobs["augment"]
    counts = [do_job(job, context).counts for job in jobs]
    for count in counts:
        assert count.get("left out: twice", 0) == 2 * count.get("expressions", 0)
    assert sum(count.get("videos", 0) for count in counts) == 2
