from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.review.calibrate import similarities
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


class Measured(OriginalOnly):
    """Tells similarities and tokens of every answer."""

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        assert len(requests[0].images) == 2, "the encoder sees frames"
        return [
            CaptionAnswer(item.augmentation, {}, (7, 3), (0.9, 0.92, 0.51))
            for item in super().augment(requests)
        ]


def test_measure_threshold_and_distribution_are_kept(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 2)
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["student.enabled=false", "augment.frames=2", "augment.similarity=encoder"]
    words += ["augment.similarity_checkpoint=folder/clip-x", "augment.minimum_similarity=0.8"]
    parts = fake_parts(tmp_path / "weights", captioner=lambda *_: Measured(0))
    context = RunContext(load_config(None, words), parts)
    [job] = context.make_plan().jobs["augment"]
    counts = do_job(job, context).counts
    assert (counts["tokens read"], counts["tokens written"]) == (28, 12)
    assert counts["similarity from 0.90"] == 8
    assert similarities(context) == [(0.5, 0.0), (0.9, pytest.approx(1 / 3))]
    about = pq.read_schema(context.paths.part("augment", "00000")).metadata
    said = json.loads(about[b"pseudolabels.about"])["similarity"]
    assert said.startswith("cosine of clip-x (")
    assert said.endswith("at least 0.8")


class Watching(OriginalOnly):
    """Notes what it is shown."""

    def __init__(self) -> None:
        super().__init__(0)
        self.requests: list[CaptionRequest] = []

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        self.requests += requests
        return super().augment(requests)


def test_a_video_comes_with_times_and_within_its_pixels(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 1)
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["student.enabled=false", "augment.source=model", "augment.frames=2"]

    def shown(*settings: str) -> CaptionRequest:
        captioner = Watching()
        parts = fake_parts(tmp_path / "weights", captioner=lambda *_: captioner)
        context = RunContext(load_config(None, [*words, *settings]), parts)
        [job] = context.make_plan().jobs["augment"]
        do_job(job, context)
        return captioner.requests[0]

    as_video = "augment.input=video", "augment.frames_per_second=6"
    request = shown(*as_video, "augment.max_video_pixels=1800")
    assert request.times == (0.0, pytest.approx(4 / 6)), "the first frame and the last of five"
    sizes = [image.shape[:2] for image in request.images]
    # 64 x 40 pixels of a frame become 37 x 24, with a border to the smallest side.
    assert sizes == [(28, 37)] * 2
    loose = shown()
    assert loose.times == () and loose.images[0].shape[:2] == (40, 64)
