import json
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.context import RunContext
from flows.labelling.executor import RunFailedError
from flows.labelling.jobs import do_job
from flows.planning.stages import shard_stages_of
from pipeline.config import load_config
from pipeline.errors import StoreError, TooLargeError
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import read_ground
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import FakeGrounder, FakeSegmenter, fake_fuse, fake_parts, fake_rank
from tests.flows.conftest import Site


def test_a_video_that_does_not_fit_into_memory_is_skipped(tmp_path: Path) -> None:
    class Small(FakeSegmenter):
        videos = 0

        def embed(self, images: Any) -> object:
            self.videos += 1
            if self.videos == 1:
                raise TooLargeError("segment.batch_frames", "no memory", "room", "take less")
            return super().embed(images)

    (tmp_path / "weights").write_bytes(b"w")
    data, small = write_dataset(tmp_path / "data", 2), Small()
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    parts = fake_parts(tmp_path / "weights", segmenter=lambda config, device: small)
    context = RunContext(load_config(None, [*words, "student.enabled=false"]), parts)
    plan = context.make_plan()
    receipts = [
        do_job(plan.job(stage, "00000"), context) for stage in shard_stages_of(context.config)
    ]
    assert "take less" in receipts[2].skipped["clip00"]
    assert MaskStore(context.paths.masks).videos() == ["clip01"]


def test_between_key_frames_boxes_are_filled_in_and_marked(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting(FakeGrounder):
        def embed(self, images: Any) -> object:
            seen.append(len(images))
            return super().embed(images)

    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 1)
    found = {}
    for every in (1, 2):
        words = ["dataset.name=refytvos", f'dataset.root="{data}"', "student.enabled=false"]
        words += [f'out="{tmp_path / str(every)}"', f"ground.every={every}"]
        parts = fake_parts(tmp_path / "weights", grounder=lambda config, device: Counting())
        context = RunContext(load_config(None, words), parts)
        plan = context.make_plan()
        receipts = [
            do_job(plan.job(stage, "00000"), context) for stage in shard_stages_of(context.config)
        ]
        assert not any(receipt.skipped for receipt in receipts)
        path = context.paths.part("ground", "00000")
        about = json.loads(pq.read_metadata(path).metadata[b"pseudolabels.about"])
        marked = about["videos"]["clip00"].get("key_frames")
        found[every] = read_ground(path, "clip00")[1], marked
        assert MaskStore(context.paths.masks).videos() == ["clip00"]
    assert seen == [5, 3]
    assert found[1][1] is None, "the model saw every frame"
    assert found[2][1] == [0, 2, 4]
    for frame, (one, other) in enumerate(zip(found[1][0], found[2][0], strict=True)):
        red = one.text == 0
        # The red square moves on a straight line; the fake finds it to the pixel.
        assert np.allclose(one.xyxy[red], other.xyxy[other.text == 0], atol=1.01), frame


@pytest.mark.parametrize("behind", [0, 1])
def test_no_more_than_two_sentences_of_a_video_are_in_memory(tmp_path: Path, behind: int) -> None:
    held: dict[str, list[int]] = {"fuse": [], "rank": []}
    known: list[weakref.ref[Any]] = []

    def note(stage: str, hypotheses: Any) -> None:
        known.append(weakref.ref(hypotheses))
        held[stage].append(sum(item() is not None for item in known))

    def fuse(*arguments: Any) -> Any:
        found = fake_fuse(*arguments)
        note("fuse", found)
        return found

    def rank(hypotheses: Any, *arguments: Any) -> Any:
        note("rank", hypotheses)
        return fake_rank(hypotheses, *arguments)

    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 1)
    index = data / "meta_expressions" / "train" / "meta_expressions.json"
    meta = json.loads(index.read_text())
    said = {str(row): {"exp": f"the red square {row}", "obj_id": "1"} for row in range(9)}
    meta["videos"]["clip00"]["expressions"] = said
    index.write_text(json.dumps(meta))
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["student.enabled=false", f"runner.writes_behind={behind}"]
    context = RunContext(
        load_config(None, words), fake_parts(tmp_path / "weights", fuse=fuse, rank=rank)
    )
    plan = context.make_plan()
    for stage in shard_stages_of(context.config):
        assert not do_job(plan.job(stage, "00000"), context).skipped
    assert {stage: len(counts) for stage, counts in held.items()} == {"fuse": 9, "rank": 9}
    assert max(held["fuse"] + held["rank"]) <= 2
    store = MaskStore(context.paths.masks)
    assert store.expressions("clip00") == tuple(said)
    assert store.read("clip00", "8")[0].any()


def test_masks_of_other_frames_than_the_index_names_are_not_ranked(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    data = write_dataset(tmp_path / "data", 1)
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    config = load_config(None, [*words, "student.enabled=false"])
    context = RunContext(config, fake_parts(tmp_path / "weights"))
    plan = context.make_plan()
    for stage in shard_stages_of(config)[:-1]:
        do_job(plan.job(stage, "00000"), context)
    index = data / "meta_expressions" / "train" / "meta_expressions.json"
    meta = json.loads(index.read_text())
    meta["videos"]["clip00"]["frames"].pop(1)
    index.write_text(json.dumps(meta))
    later = RunContext(config, fake_parts(tmp_path / "weights"))
    with pytest.raises(StoreError, match=r"segment/00000.zarr: its frames changed.*same command"):
        do_job(plan.job("rank", "00000"), later)
    assert not MaskStore(context.paths.masks).videos()


def test_a_device_that_hangs_ends_the_shard_and_not_the_run(site: Site) -> None:
    let_go = threading.Event()

    class Hanging(FakeSegmenter):
        calls = 0

        def embed(self, images: Any) -> object:
            Hanging.calls += 1
            if Hanging.calls == 1:
                let_go.wait(60)
            return super().embed(images)

    site.run(to_stage="ground")
    with pytest.raises(RunFailedError, match=r"segment 00000.*not done after 3 s"):
        site.run("runner.shard_timeout=3", segmenter=lambda config, device: Hanging())
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "segment 00000":
            thread.join(60)
    ledger = Ledger(site.folder)
    # What ends too late commits nothing.
    assert ledger.receipt("segment", "00000") is None
    assert ledger.receipt("rank", "00001") is not None
    assert not [job for job in site.run().pending("segment") if job.shard.name != "00000"]
