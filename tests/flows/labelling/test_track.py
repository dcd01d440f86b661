"""Stage ``track`` with a video model: what later stages read, and what a restart makes of it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.data.video_models import write_sam2
from flows.context import Parts, RunContext, _fuse, _rank, _track, _tracker
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents, Problem
from flows.integrity.verify import verify
from flows.labelling.executor import InProcess, RunFailedError, execute
from flows.labelling.track import READ_AHEAD, _frames_of, phrases_of
from flows.planning.stage_selection import Scope
from flows.planning.stages import STAGES
from pipeline.config import RunConfig, TrackConfig, load_config
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Positive,
    Provenance,
    SampleKey,
    Status,
)
from stages.track import associate
from stages.track.detection import Detection
from stages.track.objects import Object
from stages.track.propagation import Propagation
from storage.arrays.masks import MaskStore
from storage.tables import read_ground
from tests.fakes.dataset import COLOURS, write_dataset
from tests.fakes.stages import FakeGrounder, fake_parts
from tests.fakes.trackers import ColourDetector, ColourTracker


class ForgetfulGrounder(FakeGrounder):
    """It finds nothing in every second frame. The red square gives its position away."""

    def _frame(self, image: NDArray[np.uint8], texts: Any) -> Boxes:
        found = super()._frame(image, texts)
        kept = np.flatnonzero(np.full(len(found), found.xyxy[0, 0] // 2 % 2 == 0))
        return Boxes(found.xyxy[kept], found.score[kept], found.text[kept], found.rank[kept])


class Site:
    """A data set and a run over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_dataset(folder / "data", 2)
        (folder / "weights").write_bytes(b"w")
        self.tracker, self.detector = ColourTracker(), ColourDetector()

    def config(self, *settings: str, out: str = "runs") -> RunConfig:
        words = ["dataset.name=refytvos", f'dataset.root="{self.data}"', "student.enabled=false"]
        words += [f'out="{self.folder / out}"', "augment.source=none", "shard_videos=1"]
        return load_config(None, [*words, "report.samples=1", "report.frames=1", *settings])

    def run(self, config: RunConfig, scope: Scope | None = None, **changes: Any) -> RunContext:
        parts: Parts = fake_parts(
            self.folder / "weights",
            grounder=lambda config, device: ForgetfulGrounder(),
            track=_track,
            fuse=_fuse,
            rank=_rank,
            phrase_tracker=lambda config, device: self.detector,
            **{"tracker": lambda config, device: self.tracker, **changes},
        )
        context = RunContext(config, parts)
        context.plan = context.make_plan(scope=scope or Scope())
        assert not execute(context, InProcess(context)).failed
        return context


MODEL = ("track.source=model", 'track.checkpoint="w"')


def statuses(context: RunContext) -> list[list[int]]:
    store = MaskStore(context.paths.masks)
    return [store.quality(video, expression)[1].tolist() for video, expression in store.samples()]


def problems_of_track(context: RunContext) -> list[Problem]:
    found = verify(context.config.run_folder, Contents())
    track = context.paths.folder / "track"
    return [item for item in found if item.stage == "track" or track in item.path.parents]


def test_frames_without_a_box_are_filled(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alone = statuses(site.run(site.config(out="alone")))
    context = site.run(site.config(*MODEL))
    filled = statuses(context)
    red, gone = int(Status.PRESENT), int(Status.ABSENT)
    assert alone[0] == [red, gone] * 2 + [red]
    assert filled == [[red] * 5, [red] * 4 + [gone]] * 2
    assert site.tracker.passes == [5, 5], "one pass a video, as the first frame is the surest"
    assert not problems_of_track(context)


def test_objects_that_phrases_name_fill_frames_without_a_box(tmp_path: Path) -> None:
    site = Site(tmp_path)
    context = site.run(site.config("track.source=sam3", 'track.checkpoint="w"'))
    red, gone = int(Status.PRESENT), int(Status.ABSENT)
    assert statuses(context) == [[red] * 5, [red] * 4 + [gone]] * 2
    assert site.detector.phrases == [["square"]] * 2
    assert not problems_of_track(context)


def test_nouns_come_from_the_model_of_augment_and_else_from_rules() -> None:
    def said(text: str, noun: str | None) -> Augmentation:
        key, origin = SampleKey("d", "s", "v", text), Provenance("m", "r", "p", 0)
        return Augmentation(key, (Positive(text, 1.0),), (), origin, noun)

    spoken = [said("the one on the left", "zebra"), said("a brown dog", None), said("he", None)]
    assert phrases_of([*spoken, said("the fast animal", "zebra")]) == ["dog", "zebra"]


@pytest.mark.slow
def test_the_product_is_the_same_after_a_crash_and_goes_when_the_source_is_changed(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    expected = content_digest(site.run(site.config(*MODEL)).config.run_folder)

    class Broken(ColourTracker):
        def follow(self, *arguments: Any) -> Any:
            for number, item in enumerate(super().follow(*arguments)):
                if number == 2:
                    raise OSError("the device is lost")
                yield item

    config = site.config(*MODEL, out="again")
    context = RunContext(
        config,
        fake_parts(
            tmp_path / "weights",
            grounder=lambda config, device: ForgetfulGrounder(),
            track=_track,
            fuse=_fuse,
            rank=_rank,
            tracker=lambda config, device: Broken(),
        ),
    )
    context.plan = context.make_plan()
    with pytest.raises(RunFailedError, match="the device is lost"):
        execute(context, InProcess(context))
    assert not list((config.run_folder / "track").glob("*.parquet"))
    site.run(config)
    assert content_digest(config.run_folder) == expected
    boxes, candidates = context.paths.followed("00000")
    assert boxes.is_file() and candidates.is_dir()
    assert context.paths.boxes("00000") == boxes
    changed = site.run(site.config(out="again"))
    assert not boxes.exists() and not candidates.exists()
    assert context.paths.boxes("00000") == context.paths.part("ground", "00000")
    assert not problems_of_track(changed)


def test_masks_are_the_same_in_any_shards_and_after_a_stop_with_sam_2_and_a_judge(
    tmp_path: Path,
) -> None:
    site, folder = Site(tmp_path), write_sam2(tmp_path / "sam2")
    words = ["track.source=model", f'track.checkpoint="{folder}"']
    words += ["judge.source=stand_in", "judge.below=9"]
    digests = set()
    for out, shards, first in (("one", 1, ""), ("two", 2, ""), ("stopped", 2, "track")):
        config = site.config(*words, f"shard_videos={shards}", out=out)
        if first:
            site.run(config, Scope(STAGES[: STAGES.index(first) + 1]), tracker=_tracker)
        context = site.run(config, tracker=_tracker)
        assert len(context.the_plan.shards) == 2 // shards
        digests.add(content_digest(context.config.run_folder))
    assert len(digests) == 1


class CountingReader:
    """Counts the frames that it has read and that are still in memory.

    Attributes:
        most: the largest number of them.
    """

    def __init__(self) -> None:
        self.alive = self.most = 0

    def frame(self, video: Any, index: int) -> NDArray[np.uint8]:
        image = np.zeros((48, 80, 3), np.uint8)
        image[10:30, 10:30] = COLOURS["red"]
        self.count(image)
        return image

    def count(self, array: NDArray[Any]) -> None:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(array, self._gone)

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("frames", [50, 200])
def test_trackers_hold_few_frames_however_long_a_video_is(frames: int) -> None:
    cells, box = (24, 40), np.array([10, 10, 30, 30], np.float32)
    logits = np.full((1, *cells), -4, np.float16)
    logits[0, 5:15, 5:15] = 4
    one = np.ones(1, np.float32)
    boxes = [Boxes(box[None], one, np.zeros(1, np.int32), np.zeros(1, np.int32))] * frames
    linked = CountingReader()

    def candidates() -> Iterator[Candidates]:
        for _ in range(frames):
            mine = logits.copy()
            linked.count(mine)
            yield Candidates(mine, one, one, np.zeros(1, np.int32))

    tracks = associate(1, boxes, candidates(), TrackConfig())
    assert len(tracks) == 1 and linked.most <= 2
    for source in ("model", "sam3"):
        reader: Any = CountingReader()
        context: Any = SimpleNamespace(reader=lambda reader=reader: reader)
        read, size = _frames_of(context, None), (48, 80)  # type: ignore[arg-type]
        if source == "model":
            made = Propagation([Object(0, {0: box, frames - 1: box})], frames, size, cells)
            made.follow(ColourTracker(), read, 0.6)
        else:
            made = found = Detection(frames, size, cells)
            found.detect(ColourDetector(), read(range(frames)), ["square"])
        assert 0 < reader.most <= READ_AHEAD + 2
        made.close()


def test_settings_of_the_model_count_only_with_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(site.config())
    context = RunContext(site.config("track.objects=3"), fake_parts(tmp_path / "weights"))
    assert not context.make_plan().pending("track")
    context = RunContext(site.config(*MODEL), fake_parts(tmp_path / "weights"))
    assert context.make_plan().pending("track")


@pytest.mark.slow
def test_a_real_object_is_followed_from_its_box_in_the_first_frame(
    real_data: Path, tmp_path: Path
) -> None:
    words = ["dataset.name=refdavis", f'dataset.root="{real_data / "ref-davis-dev"}"']
    words += ["dataset.split=valid", 'dataset.only_videos=["car-shadow"]', "augment.source=none"]
    words += ["ground.source=annotation", "ground.annotated_frames=1", "track.source=model"]
    words += ["student.enabled=false", f'out="{tmp_path}"', "device=cpu"]
    context = RunContext(load_config(None, words))
    context.plan = context.make_plan(scope=Scope(STAGES[: STAGES.index("track") + 1]))
    assert not execute(context, InProcess(context)).failed
    _, given = read_ground(context.paths.part("ground", "00000"), "car-shadow")
    assert [len(boxes) for boxes in given] == [1] + [0] * 39
    _, followed = read_ground(context.paths.boxes("00000"), "car-shadow")
    assert len(followed[0]) == 1 and sum(map(len, followed)) > 1
