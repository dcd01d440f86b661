import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.context import RunContext
from flows.exchange.export import write_augmentations_of
from flows.labelling.executor import RunFailedError
from flows.planning import commit, mirrored
from flows.planning.mirrored import remove
from flows.planning.plan import Plan
from flows.planning.stages import SHARD_STAGES, STAGE
from pipeline.errors import (
    CheckpointError,
    ConfigError,
    EndpointError,
    NoRoomError,
    PseudoLabelError,
    UnknownDatasetError,
)
from storage.arrays.masks import MaskStore
from storage.files.atomic import partial_beside
from storage.run.layout import layout_path, read_layout
from storage.run.ledger import Ledger
from storage.tables import iter_quality, read_augmentations
from tests.fakes.stages import FakeGrounder, FakeSegmenter, fake_fuse
from tests.flows.conftest import Site


def done(plan: Plan) -> set[tuple[str, str]]:
    return {(job.stage, job.shard.name) for jobs in plan.jobs.values() for job in jobs if job.done}


def pending(plan: Plan) -> set[str]:
    return {job.stage for job in plan.pending()}


def test_a_run_leaves_everything_behind(site: Site) -> None:
    site.run(prefect=True)
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert len(list(store.samples())) == 8
    rows = list(iter_quality(site.folder / "quality.parquet"))
    assert len(rows) == 8 * 5
    assert {row.frame_name for row in rows} == {f"{5 * t:05d}" for t in range(5)}
    assert "evaluate  4 of 4 videos" in site.shown
    outcome = "4 videos, 8 expressions: 36 of 40 frames have a mask; the target is absent from 4"
    assert outcome in site.shown
    assert site.shown.index(outcome) < site.shown.index("shards done")
    metrics = json.loads((site.folder / "metrics.json").read_text())
    assert metrics["pseudo_masks"]["overall"]["J"] > 95
    assert metrics["pseudo_masks"]["absent_frames_found"] == 100
    assert metrics["student"] is None
    page = (site.folder / "report" / "index.html").read_text()
    assert "the blue square moving left" in page
    assert "no box claims it" in page
    assert "pseudo-masks" in site.shown
    assert site.loaded.names == ["ground", "segment"]


def test_a_second_run_does_nothing_and_a_changed_setting_little(site: Site) -> None:
    site.run()
    site.loaded.names.clear()
    # As writers leave them that were killed.
    places = [site.folder / name for name in ("metrics.json", "segment/00000.zarr")]
    places += [MaskStore(site.folder / "pseudomasks.zarr").place("clip00")]
    partials = [partial_beside(place) for place in places]
    for partial in partials:
        partial.mkdir()
        (partial / "x").write_text("half")
    assert not site.run().pending()
    assert not [partial for partial in partials if partial.exists()]
    assert all(place.exists() for place in places)
    assert "is done" in site.shown
    assert pending(site.run("fuse.absent_below=0.2")) == {
        "fuse",
        "rank",
        "merge",
        "evaluate",
        "report",
    }
    assert site.loaded.names == []
    assert not site.run("fuse.absent_below=0.2", "ground.batch_frames=1").pending()


def test_a_second_run_imports_neither_torch_nor_prefect(site: Site) -> None:
    site.run()
    code = f"""
import sys
from pathlib import Path
from rich.console import Console
from flows.commands.run import run_all
from tests.fakes.stages import fake_parts
from pipeline.config import load_config
config = load_config(Path({str(site.folder / "config.toml")!r}))
plan = run_all(config, Console(), parts=fake_parts(Path({str(site.weights)!r})))
assert not plan.pending()
print([name for name in ("torch", "transformers", "prefect") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[3]
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    ).stdout
    assert shown.strip().endswith("[]")


def test_a_broken_frame_skips_its_video(site: Site) -> None:
    frame = site.data / "train" / "JPEGImages" / "clip01" / "00010.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:200])
    site.run()
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert store.videos() == ["clip00", "clip02", "clip03"]
    receipt = Ledger(site.folder).receipt("augment", "00000")
    assert receipt is not None
    assert "00010.jpg" in receipt.skipped["clip01"]
    assert "clip01" in site.shown
    assert "00010.jpg" in (site.folder / "report" / "index.html").read_text()
    assert not site.run().pending()
    frame.write_bytes(whole)
    site.run()
    assert MaskStore(site.folder / "pseudomasks.zarr").videos() == [
        f"clip{number:02d}" for number in range(4)
    ]


def frames_of(site: Site, video: str) -> list[Path]:
    return sorted((site.data / "train" / "JPEGImages" / video).iterdir())


def listed_frame(site: Site) -> None:
    index = site.data / "meta_expressions" / "train" / "meta_expressions.json"
    meta = json.loads(index.read_text())
    meta["videos"]["clip01"]["frames"].append("00099")
    index.write_text(json.dumps(meta))
    frames = frames_of(site, "clip01")
    shutil.copy(frames[0], frames[0].with_stem("00099"))


def other_object(site: Site) -> None:
    index = site.data / "meta_expressions" / "train" / "meta_expressions.json"
    meta = json.loads(index.read_text())
    meta["videos"]["clip01"]["expressions"]["0"]["obj_id"] = "2"
    index.write_text(json.dumps(meta))


def other_picture(site: Site) -> None:
    frames = frames_of(site, "clip01")
    shutil.copyfile(frames[3], frames[1])


def other_size(site: Site) -> None:
    for frame in frames_of(site, "clip01"):
        with Image.open(frame) as image:
            image.resize((48, 64)).save(frame)


def no_truth(site: Site) -> None:
    shutil.rmtree(site.data / "train" / "Annotations" / "clip01")


@pytest.mark.parametrize(
    ("change", "first", "reason"),
    [
        pytest.param(listed_frame, "augment", "frames changed", marks=pytest.mark.slow),
        pytest.param(
            other_object,
            "augment",
            "sentences or their objects changed",
            marks=pytest.mark.slow,
        ),
        (other_picture, "augment", "frames changed"),
        pytest.param(other_size, "augment", "frames changed", marks=pytest.mark.slow),
        (no_truth, "evaluate", "ground truth changed"),
    ],
)
def test_what_changed_in_the_data_set_is_done_again(
    site: Site, change: Callable[[Site], None], first: str, reason: str
) -> None:
    site.run()
    change(site)
    plan = site.run()
    assert plan.pending()[0].stage == first
    assert {job.reason for job in plan.pending(first)} == {reason}
    if first != "evaluate":
        assert {job.shard.name for job in plan.pending(first)} == {"00000"}
    assert not site.run().pending()


@pytest.mark.slow
def test_a_data_set_that_was_copied_or_touched_is_the_same(site: Site) -> None:
    site.run()
    for frame in site.data.rglob("*.jpg"):
        os.utime(frame, ns=(1, 1))
    assert not site.run().pending()
    (site.data / "train" / "JPEGImages" / "clip01" / "._00000.jpg").write_bytes(b"of macOS")
    (site.data / "train" / "JPEGImages" / "clip01" / "unlisted.jpg").write_bytes(b"more")
    assert not site.run().pending()


def test_a_run_goes_on_where_the_server_that_is_named_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    site = Site(tmp_path)
    site.run(prefect=True)
    assert "continues without it" in site.shown
    assert "Prefect UI" not in site.shown
    assert not site.run().pending()


def test_one_failed_shard_does_not_stop_the_others(site: Site) -> None:
    def fuse(augmentation, *arguments):  # type: ignore[no-untyped-def]
        if augmentation.key.video == "clip01":
            raise MemoryError("out of luck")
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
            raise MemoryError("out of luck")
        return fake_fuse(augmentation, *arguments)

    site.run("maximum_failed_share=0.5", fuse=fuse)
    assert (site.folder / "report" / "index.html").exists()
    assert "out of luck" in site.shown
    assert pending(site.run("maximum_failed_share=0.5")) >= {"fuse", "merge", "report"}


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("sam.pth", "truncated", "a whole file", "fetch it again"),
        NoRoomError("segment/00000.zarr: no space left"),
        EndpointError("http://host/v1 answered 401; put a valid key into OPENAI_API_KEY"),
        UnknownDatasetError("nosuch", "no such data set", "one of a2d", "check --dataset"),
    ],
)
def test_what_the_next_shard_would_meet_as_well_ends_the_run_at_once(
    site: Site, error: PseudoLabelError
) -> None:
    calls = []

    def segmenter(config, device):  # type: ignore[no-untyped-def]
        calls.append(1)
        raise error

    with pytest.raises(type(error), match=str(error)):
        site.run(segmenter=segmenter)
    assert len(calls) == 1


def test_what_can_pass_is_retried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.labelling.jobs.RETRY_SECONDS", (0, 0))
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


@pytest.mark.slow
def test_a_runs_texts_go_out_as_a_file_and_come_in_again(site: Site) -> None:
    site.run()
    file = site.out / "texts.json"
    assert write_augmentations_of(RunContext(site.config()), file) == 8
    site.run("augment.source=file", f'augment.file="{file}"')
    before = read_augmentations(site.folder / "augment" / "00000.parquet")
    assert before["clip00"][0].provenance.model == "file"
    assert before["clip00"][1].original == "the blue square moving left"
    assert len(before["clip00"][1].positives) > 1


def test_only_some_videos_and_masks_of_others_stay(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prefect's handlers keep the project's log from the root logger, where caplog listens.
    monkeypatch.setattr(commit.logger, "handlers", [caplog.handler])
    site.run('dataset.only_videos=["clip02"]')
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert store.videos() == ["clip02"]
    site.run()
    assert len(store.videos()) == 4
    assert read_layout(site.folder) == {
        "00000": ("clip02",),
        "00001": ("clip00", "clip01"),
        "00002": ("clip03",),
    }
    layout_path(site.folder).unlink()
    site.run()
    assert "layout.json: missing; it is made again" in caplog.text
    assert len(read_layout(site.folder)) == 3
    some = ('dataset.only_videos=["clip00"]', "fuse.absent_below=0.2")
    assert {job.shard.name for job in site.run(*some).pending("rank")} == {"00001"}
    assert "1 more video is included" in site.shown
    assert len(store.videos()) == 4
    rows = list(iter_quality(site.folder / "quality.parquet"))
    assert {row.video for row in rows} == set(store.videos())
    assert not site.run(*some).pending()
    with pytest.raises(ConfigError, match="clip99"):
        site.run('dataset.only_videos=["clip99"]')


@pytest.mark.slow
def test_videos_that_are_gone_go_though_their_removal_was_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.run()
    index = site.data / "meta_expressions" / "train" / "meta_expressions.json"
    videos = json.loads(index.read_text())["videos"]
    kept = {name: videos[name] for name in ("clip00", "clip01")}
    index.write_text(json.dumps({"videos": kept}))

    def killed(place: Path) -> None:
        if place.parent.name == "pseudomasks.zarr":
            raise KeyboardInterrupt
        remove(place)

    with monkeypatch.context() as patched:
        patched.setattr(mirrored, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            site.run(forget_missing=True)
    store = MaskStore(site.folder / "pseudomasks.zarr")
    assert "clip02" in store.videos()
    # Before `merge`, which looks for masks without a receipt.
    site.run(to_stage="augment")
    assert store.videos() == ["clip00", "clip01"]


@pytest.mark.slow
def test_another_shard_size_redoes_nothing_and_videos_that_are_gone_go_when_told(
    site: Site,
) -> None:
    site.run()
    assert not site.run("shard_videos=1").pending()
    index = site.data / "meta_expressions" / "train" / "meta_expressions.json"
    videos = json.loads(index.read_text())["videos"]
    kept = {name: videos[name] for name in ("clip00", "clip01")}
    index.write_text(json.dumps({"videos": kept}))
    before = contents(site.out)
    with pytest.raises(ConfigError, match=r"no video 'clip02', nor 1 others.*--forget-missing"):
        site.run()
    assert contents(site.out) == before
    pending = {job.stage for job in site.run(forget_missing=True).pending()}
    assert pending == {"merge", "evaluate", "report"}
    assert "2 videos are gone from the data set, such as clip02" in site.shown
    assert MaskStore(site.folder / "pseudomasks.zarr").videos() == ["clip00", "clip01"]
    assert not (site.folder / "segment" / "00001.zarr").exists()
    assert Ledger(site.folder).receipt("rank", "00001") is None
    index.write_text(json.dumps({"videos": videos}))
    assert {job.shard.name for job in site.run().pending("rank")} == {"00001"}
    assert len(MaskStore(site.folder / "pseudomasks.zarr").videos()) == 4


@pytest.mark.slow
def test_a_run_without_a_layout_file_has_it_from_its_receipts(site: Site) -> None:
    site.run()
    before = read_layout(site.folder)
    layout_path(site.folder).unlink()
    assert not site.run("shard_videos=1").pending()
    assert read_layout(site.folder) == before
    layout_path(site.folder).write_text("broken")
    assert not site.run("shard_videos=1").pending()
    assert read_layout(site.folder) == before


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_dry_run_says_what_and_why_and_changes_nothing(site: Site) -> None:
    site.run()
    before = contents(site.out)
    code = f"""
import sys
from pathlib import Path
from rich.console import Console
import flows.context
from flows.commands.dry_run import explain
from flows.planning.stage_selection import scope_of
from tests.fakes.stages import fake_parts
from pipeline.config import load_config
config = load_config(Path({str(site.folder / "config.toml")!r}), sys.argv[1:])
from functools import partial
parts = fake_parts(Path({str(site.weights)!r}))
flows.context.RunContext = partial(flows.context.RunContext, parts=parts)
explain(config, Console(width=200), scope_of(config, None, None), False)
print([name for name in ("torch", "transformers", "prefect") if name in sys.modules])
"""

    def explained(*overrides: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *overrides],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
            check=True,
        ).stdout.splitlines()

    first, space, modules = explained()
    assert (first, modules) == ("Nothing to do: everything is done.", "[]")
    assert space.startswith("Disk space of finished shards: ")
    assert explained("fuse.absent_below=0.2") == [
        "fuse: 2 of 2 shards, absent_below 0.25 → 0.2",
        "rank: 2 of 2 shards, follows fuse",
        "merge: the whole run, follows rank",
        "evaluate: the whole run, follows rank",
        "report: the whole run, follows rank",
        space,
        "[]",
    ]
    Ledger(site.folder).withdraw("ground", "00001")
    before = contents(site.out)
    shown = explained(f'out="{site.out}"')
    assert shown[0] == "ground: 1 of 2 shards, no receipt"
    assert shown[1] == "segment: 1 of 2 shards only if ground comes out different"
    explained(f'out="{site.out / "new"}"')
    assert contents(site.out) == before


def test_from_a_stage_to_a_stage(site: Site) -> None:
    plan = site.run(to_stage="segment")
    assert {job.stage for job in plan.pending()} == {"augment", "ground", "segment"}
    ledger = Ledger(site.folder)
    assert len(ledger.receipts("segment")) == 2
    assert not ledger.receipts("fuse")
    assert not (site.folder / "pseudomasks.zarr").exists()
    assert not site.run(to_stage="segment").pending()
    assert "is done" in site.shown
    # Stages before the first are done where they are not.
    plan = site.run(from_stage="rank")
    assert "fuse" in pending(plan)
    before = {receipt.shard: receipt for receipt in ledger.receipts("fuse")}
    site.loaded.names.clear()
    plan = site.run(from_stage="fuse", to_stage="fuse")
    assert pending(plan) == {"fuse"}
    assert site.loaded.names == []
    after = {receipt.shard: receipt for receipt in ledger.receipts("fuse")}
    assert {name: receipt.product for name, receipt in after.items()} == {
        name: receipt.product for name, receipt in before.items()
    }
    assert after != before
    # It came out the same, byte for byte: nothing follows.
    assert not site.run().pending()


def test_work_done_again_with_the_same_result_ends_there(site: Site) -> None:
    site.run()
    before = contents(site.folder)
    Ledger(site.folder).withdraw("ground", "00000")
    site.loaded.names.clear()
    plan = site.run()
    assert [(job.stage, job.shard.name) for job in plan.pending()] == [("ground", "00000")]
    assert site.loaded.names == ["ground"]
    after = contents(site.folder)
    changed = {name for name in before if before[name] != after[name]}
    assert {name for name in changed if not name.startswith(("ledger", "config"))} == {
        "ground/00000.parquet"
    }
    assert before["ground/00000.parquet"][1] == after["ground/00000.parquet"][1]


def test_work_done_again_with_another_result_takes_what_follows_along(site: Site) -> None:
    site.run()
    Ledger(site.folder).withdraw("ground", "00000")

    class Other(FakeGrounder):
        def ground(self, embedding, texts):  # type: ignore[no-untyped-def]
            found = super().ground(embedding, texts)
            return [replace(item, xyxy=item.xyxy + 2) for item in found]

    site.run(grounder=lambda config, device: Other())
    ledger = Ledger(site.folder)
    stages = [stage for stage in SHARD_STAGES if stage != "judge"]
    made = {stage: ledger.receipt(stage, "00000") for stage in stages}
    for stage in stages[1:]:
        assert made[stage] is not None
        made_from = (
            made[stage].made_from.items() - {"frames": made[stage].made_from.get("frames")}.items()
        )
        assert dict(made_from) == {
            name: made[name].product for name in STAGE[stage].reads if name in made
        }
    assert not site.run().pending()
    masks, _, _ = MaskStore(site.folder / "pseudomasks.zarr").read("clip00", "0")
    others, _, _ = MaskStore(site.folder / "pseudomasks.zarr").read("clip02", "0")
    assert masks.any() and not np.array_equal(masks, others)


def test_a_failure_leaves_a_note_until_it_is_mended(site: Site) -> None:
    def fuse(augmentation, *arguments):  # type: ignore[no-untyped-def]
        if augmentation.key.video == "clip01":
            raise MemoryError("out of <b>luck</b>")
        return fake_fuse(augmentation, *arguments)

    ledger = Ledger(site.folder)
    for attempt in (1, 2):
        site.run("maximum_failed_share=0.5", fuse=fuse)
        note = ledger.failure("fuse", "00000")
        assert note is not None
        assert note.error == "MemoryError: out of <b>luck</b>"
        assert note.attempts == attempt
        assert note.time.endswith("+00:00")
        assert note.seconds >= 0
        assert not ledger.is_done("fuse", "00000", note.fingerprint)
        assert ledger.receipt("fuse", "00000") is None
    assert ledger.is_done("fuse", "00001", ledger.receipts("fuse")[0].fingerprint)
    assert "failed fuse 00000: MemoryError: out of <b>luck</b> (2 attempts" in site.shown
    page = (site.folder / "report" / "index.html").read_text()
    assert "out of &lt;b&gt;luck" in page
    plan = site.run()
    assert plan.job("fuse", "00000").reason == "failed before: MemoryError: out of <b>luck</b>"
    assert {job.shard.name for job in plan.pending("fuse")} == {"00000"}
    assert ledger.failure("fuse", "00000") is None
    assert "Failed shards" not in (site.folder / "report" / "index.html").read_text()
