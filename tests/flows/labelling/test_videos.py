"""Which errors cost a video, and which the shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.planning.stages import shard_stages_of
from pipeline.config import load_config
from pipeline.errors import ModelError, NoRoomError
from pipeline.types import Receipt
from storage.arrays.candidates import StoredCandidates
from storage.arrays.masks import MaskStore
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import FakeSegmenter, fake_fuse, fake_parts, fake_rank


class Failing(FakeSegmenter):
    """Raises an error in the second batch of some videos, by their number."""

    def __init__(self, error: Exception, *bad: int) -> None:
        self._error, self._bad, self._calls = error, bad, 0

    def embed(self, images: Any) -> object:
        self._calls += 1
        video, batch = divmod(self._calls - 1, 2)
        if batch == 1 and video in self._bad:
            raise self._error
        return super().embed(images)


def label(folder: Path, videos: int = 3, **parts: Any) -> tuple[RunContext, list[Receipt]]:
    (folder / "weights").write_bytes(b"w")
    data = write_dataset(folder / "data", videos)
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{folder / "runs"}"']
    words += ["student.enabled=false", "segment.batch_frames=3", "runner.decode_workers=0"]
    context = RunContext(load_config(None, words), fake_parts(folder / "weights", **parts))
    plan = context.make_plan()
    return context, [
        do_job(plan.job(stage, "00000"), context) for stage in shard_stages_of(context.config)
    ]


@pytest.mark.parametrize("error", [ValueError("a size of 0"), RuntimeError("shape"), KeyError(3)])
def test_an_error_that_one_video_brings_about_costs_that_video(
    tmp_path: Path, error: Exception
) -> None:
    segmenter = Failing(error, 1)
    context, receipts = label(tmp_path, segmenter=lambda config, device: segmenter)
    assert dict(receipts[2].skipped) == {"clip01": f"{type(error).__name__}: {error}"}
    assert receipts[2].counts["videos"] == 2
    assert MaskStore(context.paths.masks).videos() == ["clip00", "clip02"]
    # What it had begun is taken out again.
    assert not (context.paths.part("segment", "00000") / "clip01").exists()
    assert len(StoredCandidates(context.paths.part("segment", "00000"), "clip02")) == 5


@pytest.mark.parametrize("stage", ["fuse", "rank"])
def test_in_every_stage(tmp_path: Path, stage: str) -> None:
    real: Callable[..., Any] = {"fuse": fake_fuse, "rank": fake_rank}[stage]

    def wrong(item: Any, *arguments: Any) -> Any:
        if item.key.video == "clip00":
            raise ZeroDivisionError("division by zero")
        return real(item, *arguments)

    context, receipts = label(tmp_path, 2, **{stage: wrong})
    assert "division" in receipts[shard_stages_of(context.config).index(stage)].skipped["clip00"]
    assert MaskStore(context.paths.masks).videos() == ["clip01"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError(28, "No space left on device"),
        ImportError("no such module"),
    ],
)
def test_what_the_machine_is_at_fault_for_costs_no_video(tmp_path: Path, error: Exception) -> None:
    segmenter = Failing(error, 1)
    # A writer explains a disk that is full.
    with pytest.raises((type(error), NoRoomError)):
        label(tmp_path, segmenter=lambda config, device: segmenter)


def test_an_error_that_every_video_meets_is_the_stages(tmp_path: Path) -> None:
    segmenter = Failing(ValueError("a bug"), 0, 1, 2)
    with pytest.raises(ValueError, match="a bug"):
        label(tmp_path, segmenter=lambda config, device: segmenter)


def test_a_model_that_does_not_load_costs_no_video(tmp_path: Path) -> None:
    def load(*_: Any) -> Any:
        raise ValueError("no docstring")

    with pytest.raises(ModelError, match="segment: its model does not load"):
        label(tmp_path, segmenter=load)


def test_a_video_that_cannot_be_looked_up_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.datasets.refytvos import RefYouTubeVOS

    real = RefYouTubeVOS.video

    def video(self: Any, video_id: str) -> Any:
        if video_id == "clip01":
            raise IndexError("a bad index")
        return real(self, video_id)

    monkeypatch.setattr(RefYouTubeVOS, "video", video)
    context, receipts = label(tmp_path)
    assert dict(receipts[0].skipped) == {"clip01": "IndexError: a bad index"}
    assert MaskStore(context.paths.masks).videos() == ["clip00", "clip02"]
