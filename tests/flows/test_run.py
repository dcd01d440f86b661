import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.exporting import write_augmentations_of
from flows.pseudolabels import RunFailedError
from flows.shards import Plan
from flows.workshop import Workshop
from pipeline.errors import CheckpointError, ConfigError
from storage.ledger import Ledger
from storage.masks import MaskStore
from storage.tables import iter_quality, read_augmentations
from tests.fakes.stages import FakeSegmenter, fake_fuse
from tests.flows.conftest import Site


def done(plan: Plan) -> set[tuple[str, str]]:
    return {(job.stage, job.shard.name) for jobs in plan.jobs.values() for job in jobs if job.done}


def pending(plan: Plan) -> set[str]:
    return {job.stage for job in plan.pending()}


def test_a_run_leaves_everything_behind(site: Site) -> None:
    site.run()
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert len(list(store.samples())) == 8
    rows = list(iter_quality(site.folder / "quality.parquet"))
    assert len(rows) == 8 * 5
    assert {row.frame_name for row in rows} == {f"{5 * t:05d}" for t in range(5)}
    metrics = json.loads((site.folder / "metrics.json").read_text())
    assert metrics["pseudo_masks"]["overall"]["J"] > 95
    assert metrics["pseudo_masks"]["absent_frames_found"] == 100
    assert metrics["student"] is None
    page = (site.folder / "report" / "index.html").read_text()
    assert "the blue square moving left" in page
    assert "no box claims it" in page
    assert "pseudo-masks" in site.shown
    assert site.loaded.names == ["ground", "segment"]


def test_a_second_run_does_nothing_and_a_changed_threshold_little(site: Site) -> None:
    site.run()
    site.loaded.names.clear()
    assert not site.run().pending()
    assert "is done" in site.shown
    assert pending(site.run("fuse.threshold=0.5")) == {
        "fuse",
        "rank",
        "merge",
        "evaluate",
        "report",
    }
    assert site.loaded.names == []
    assert not site.run("fuse.threshold=0.5", "ground.batch_frames=1").pending()


def test_a_second_run_imports_neither_torch_nor_prefect(site: Site) -> None:
    site.run()
    code = f"""
import sys
from pathlib import Path
from rich.console import Console
from flows.run import run_all
from tests.fakes.stages import fake_parts
from pipeline.config import load_config
config = load_config(Path({str(site.folder / "config.toml")!r}))
plan = run_all(config, Console(), parts=fake_parts(Path({str(site.weights)!r})))
assert not plan.pending()
print([name for name in ("torch", "transformers", "prefect") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    ).stdout
    assert shown.strip().endswith("[]")


def test_a_broken_frame_sets_its_video_aside(site: Site) -> None:
    frame = site.data / "train" / "JPEGImages" / "clip01" / "00010.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:200])
    site.run()
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert store.videos() == ["clip00", "clip02", "clip03"]
    receipt = Ledger(site.folder).receipt("augment", "00000")
    assert receipt is not None
    assert "00010.jpg" in receipt.set_aside["clip01"]
    assert "clip01" in site.shown
    assert "00010.jpg" in (site.folder / "report" / "index.html").read_text()
    frame.write_bytes(whole)
    assert not site.run().pending()
    site.run(retry_set_aside=True)
    assert MaskStore(site.folder / "pseudomasks.zarr").videos() == [
        f"clip{number:02d}" for number in range(4)
    ]


def test_one_failed_shard_does_not_stop_the_others(site: Site) -> None:
    def fuse(augmentation, *arguments):  # type: ignore[no-untyped-def]
        if augmentation.key.video == "clip01":
            raise RuntimeError("out of luck")
        return fake_fuse(augmentation, *arguments)

    with pytest.raises(RunFailedError, match=r"1 of 2 shards.*\n.*fuse 00000.*out of luck"):
        site.run(fuse=fuse)
    ledger = Ledger(site.folder)
    assert ledger.receipt("rank", "00000") is None
    assert ledger.receipt("rank", "00001") is not None
    assert ledger.receipt("merge", "all") is None
    # What is done stays done; the rest is picked up.
    plan = site.run()
    assert [job.shard.name for job in plan.pending("fuse")] == ["00000"]
    assert not plan.pending("ground")
    assert len(MaskStore(site.folder / "pseudomasks.zarr").videos()) == 4


def test_a_tolerated_failure_still_gives_a_report_and_is_not_done(site: Site) -> None:
    def fuse(augmentation, *arguments):  # type: ignore[no-untyped-def]
        if augmentation.key.video == "clip01":
            raise RuntimeError("out of luck")
        return fake_fuse(augmentation, *arguments)

    site.run("maximum_failed_share=0.5", fuse=fuse)
    assert (site.folder / "report" / "index.html").exists()
    assert "out of luck" in site.shown
    assert pending(site.run("maximum_failed_share=0.5")) >= {"fuse", "merge", "report"}


def test_a_wrong_checkpoint_ends_the_run_at_once(site: Site) -> None:
    calls = []

    def segmenter(config, device):  # type: ignore[no-untyped-def]
        calls.append(1)
        raise CheckpointError("sam.pth", "truncated", "a whole file", "fetch it again")

    with pytest.raises(CheckpointError, match=r"sam\.pth"):
        site.run(segmenter=segmenter)
    assert len(calls) == 1


def test_what_can_pass_is_retried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.pseudolabels

    quick = flows.pseudolabels.shard_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(flows.pseudolabels, "shard_task", quick)
    failures = [ConnectionError("lost"), ConnectionError("lost")]

    class Flaky(FakeSegmenter):
        def decode(self, embedding, boxes):  # type: ignore[no-untyped-def]
            if failures:
                raise failures.pop()
            return super().decode(embedding, boxes)

    site.run(segmenter=lambda config, device: Flaky())
    assert not failures


def test_interrupted_work_has_no_receipt_and_goes_on(site: Site) -> None:
    class Interrupted(FakeSegmenter):
        def decode(self, embedding, boxes):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.run(segmenter=lambda config, device: Interrupted())
    assert Ledger(site.folder).receipts("segment") == []
    plan = site.run()
    assert not plan.pending("ground")
    assert plan.pending("segment")


def test_boxes_of_the_data_set_take_the_grounders_place(site: Site) -> None:
    site.run("ground.source=annotation")
    assert site.loaded.names == ["segment"]
    metrics = json.loads((site.folder / "metrics.json").read_text())
    assert metrics["pseudo_masks"]["overall"]["J"] > 95


def test_a_runs_texts_go_out_as_a_file_and_come_in_again(site: Site) -> None:
    site.run()
    file = site.out / "texts.json"
    assert write_augmentations_of(Workshop(site.config()), file) == 8
    site.run("augment.source=file", f'augment.file="{file}"')
    before = read_augmentations(site.folder / "augment" / "00000.parquet")
    assert before["clip00"][0].provenance.model == "file"
    assert before["clip00"][1].original == "the blue square moving left"
    assert len(before["clip00"][1].positives) > 1


def test_only_some_videos_and_masks_of_others_go(site: Site) -> None:
    site.run()
    site.run('dataset.only_videos=["clip02"]')
    assert MaskStore(site.folder / "pseudomasks.zarr").videos() == ["clip02"]
    with pytest.raises(ConfigError, match="clip99"):
        site.run('dataset.only_videos=["clip99"]')
