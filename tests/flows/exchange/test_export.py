"""The commands that take masks out of a run, bring others' in, and look at data sets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.commands import evaluate_run
from flows.context import RunContext
from flows.planning.run_paths import RunPaths
from pipeline.config import load_config
from pipeline.packed_masks import PackedMasks
from pipeline.types import FrameQuality, PseudoMask, Receipt, SampleKey, Status
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.datasets.shapes import write_shapes
from storage.exports import FORMATS
from storage.files.atomic import partial_beside
from storage.run.held_file import HeldFile
from storage.run.ledger import Ledger
from storage.run.lock import RunLock
from storage.tables import iter_quality
from tests.fakes.stages import fake_parts, fake_rank
from tests.fakes.truth import store_truth
from tests.flows.commands.test_main import call
from tests.flows.conftest import Site
from tests.storage.datasets import trees


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return trees.refytvos(tmp_path / "data")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str]:
        return call(monkeypatch, capsys, *(str(argument) for argument in arguments))

    return run


def options(data: Path, tmp_path: Path) -> tuple[str, ...]:
    place = ("--dataset", "refytvos", "--root", str(data), "--split", "train")
    return (*place, "--out", str(tmp_path / "runs"))


def predict(folder: Path, offset: int = 0, samples: bool = True) -> Path:
    """Another method's masks: binary ones a sample, or index masks with ids of its own."""
    for frame, name in enumerate(trees.FRAMES):
        moved = {n: np.roll(trees.object_mask(n, frame), offset, axis=1) for n in (1, 2)}
        if samples:
            for number in (1, 2):
                path = folder / "clip" / str(number - 1) / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(moved[number].astype(np.uint8) * 255).save(path)
        else:
            ids = (7 * moved[2] + 3 * moved[1]).astype(np.uint8)
            trees.write_mask(folder / "clip" / f"{name}.png", ids)
    return folder


def test_other_methods_masks_become_a_store_that_goes_out_like_a_runs(
    cli, data: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    first, second = predict(tmp_path / "one"), predict(tmp_path / "two", 1, samples=False)
    code, shown = cli("import-masks", first, second, *options(data, tmp_path))
    assert code == 0, shown
    assert "2 samples, 2 fused" in shown
    paths = RunPaths(tmp_path / "runs" / "refytvos-train")
    store = MaskStore(paths.consensus / "pseudomasks.zarr")
    mask, weight, _ = store.read("clip", "0")
    for frame in range(3):
        truth = trees.object_mask(1, frame)
        assert np.array_equal(mask[frame], truth & np.roll(truth, 1, axis=1))
    assert ((weight > 0) & (weight < 1)).all()
    assert store.read("clip", "1")[2].tolist() == [Status.PRESENT, Status.PRESENT, Status.ABSENT]
    rows = list(iter_quality(paths.consensus / "quality.parquet"))
    assert [row.status for row in rows] == [1, 1, 1, 1, 1, 2]
    out = tmp_path / "masks.parquet"
    place = [*options(data, tmp_path)[:6], "--runs", str(tmp_path / "runs"), "--from", "consensus"]
    code, shown = cli("export", "--to", "parquet", "--out", out, *place)
    assert code == 0, shown
    assert pq.read_table(out).num_rows == 6
    code, shown = cli("evaluate", "run", "--from", "consensus", *options(data, tmp_path), "--json")
    assert code == 0, shown
    figures = json.loads(shown)["figures"]["consensus"]
    assert 0.7 < figures["J"] < 1
    assert figures["absent frames found"] == 1


def test_index_masks_alone_cannot_tell_two_targets_apart(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = predict(tmp_path / "one", samples=False)
    code, shown = cli("import-masks", folder, *options(data, tmp_path))
    assert code == 0
    assert "2 samples, 0 fused" in shown
    assert "clip 0: several targets and no grounded mask" in shown


def test_the_runs_own_masks_choose_the_track(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    paths = RunPaths(tmp_path / "runs" / "refytvos-train")
    video = open_dataset("refytvos", data, "train").video("clip")
    own = np.stack([trees.object_mask(2, frame) for frame in range(3)])
    key = SampleKey("refytvos", "train", "clip", "1")
    mask = PseudoMask(
        key, PackedMasks.of(own), np.ones(3, np.float32), np.array([1, 1, 0], np.uint8), "f"
    )
    MaskStore(paths.masks).write_video(video, ["a blue box"], [mask])
    folder = predict(tmp_path / "one", 1, samples=False)
    code, shown = cli("import-masks", folder, *options(data, tmp_path))
    assert code == 0
    assert "2 samples, 1 fused" in shown
    found = MaskStore(paths.consensus / "pseudomasks.zarr").read("clip", "1")[0]
    assert np.array_equal(found[0], own[0] & np.roll(own[0], 1, axis=1))


def test_masks_that_the_run_has_not_finished_do_not_choose(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    paths = RunPaths(tmp_path / "runs" / "refytvos-train")
    store_truth(open_dataset("refytvos", data, "train"), paths.masks, weight=1.0)
    Ledger(paths.folder).commit(Receipt("rank", "00000", "f", ("another",)))
    folder = predict(tmp_path / "one", 1, samples=False)
    code, shown = cli("import-masks", folder, *options(data, tmp_path))
    assert code == 0
    assert "1 of 1 videos are left out, whose masks the run has not finished" in shown
    assert "2 samples, 0 fused" in shown


def test_a_truth_that_cannot_be_read_is_named_and_the_rest_is_measured(
    cli, site: Site, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    site.run("ground.source=annotation", "segment.checkpoint=demo:segment")
    before = json.loads((site.folder / "metrics.json").read_text())
    broken = site.data / "train" / "Annotations" / "clip01" / "00010.png"
    broken.write_bytes(broken.read_bytes()[:60])
    code, shown = cli("evaluate", "run", site.folder)
    assert code == 0, shown
    assert shown.count("clip01 was left out: ") == 1 and "clip01/00010.png" in shown
    receipt = Ledger(site.folder).receipt("evaluate", "all")
    assert receipt is not None and receipt.counts["videos not measured"] == 1
    now = json.loads((site.folder / "metrics.json").read_text())
    assert now["pseudo_masks"]["overall"]["J"] == pytest.approx(
        before["pseudo_masks"]["overall"]["J"], abs=3
    )
    store = site.folder / "pseudomasks.zarr"
    code, shown = cli("evaluate", "run", site.folder, "--from", store, "--json")
    assert code == 0, shown
    found = json.loads(shown)
    assert (found["counts"]["videos"], len(found["problems"])) == (3, 1)
    assert "clip01 was left out" in found["problems"][0]
    (tmp_path / "other" / "clip01" / "0").mkdir(parents=True)
    code, shown = cli("import-masks", tmp_path / "other", "--run", site.folder)
    assert code == 0, shown
    assert "clip01 0 was not measured: " in shown and "clip01/00010.png" in shown
    assert MaskStore(site.folder / "consensus" / "pseudomasks.zarr").videos() == store_videos(4)


def store_videos(number: int) -> list[str]:
    return [f"clip{index:02d}" for index in range(number)]


def test_nothing_to_import_is_one_message(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    code, shown = cli("import-masks", tmp_path / "empty", *options(data, tmp_path))
    assert code == 1
    assert "no mask of any of the 1 videos" in shown
    assert not (tmp_path / "runs/refytvos-train/consensus").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("export", "--to", "nosuch", "--out", "x", "--dataset", "refytvos"), 2, "no such format"),
        (("export", "--to", "coco", "--out", ".", "--dataset", "refytvos"), 2, "working folder"),
        (("export", "--to", "coco", "--out", "/", "--dataset", "refytvos"), 2, "working folder"),
        (("export", "--to", "coco", "--out", "something"), 2, "--overwrite"),
        (("export", "--to", "ytvos", "--out", "something", "--overwrite"), 2, "a file is there"),
        (("export", "--to", "coco", "--out", "folder", "--overwrite"), 2, "a folder is there"),
        (("export", "--to", "ytvos", "--out", "folder", "--overwrite"), 2, "no earlier export"),
        (("export", "--to", "coco", "--out", "link", "--overwrite"), 2, "a link"),
        (("export", "nowhere", "--to", "coco", "--out", "x"), 2, "no config.toml"),
        (("export", "--to", "wsrvos", "--out", "x", "--dataset", "shapes"), 1, "no augmentations"),
        (("evaluate", "run", "nowhere"), 2, "no config.toml"),
        (("evaluate", "davis", "nowhere", "--root", "nowhere"), 1, "val.txt"),
        (("evaluate", "davis", "x", "--root", "x", "--task", "y"), 2, "no such task"),
        (("evaluate", "refytvos", "nowhere", "--root", "nowhere"), 1, "no such folder"),
        (("evaluate", "a2d", "nowhere"), 1, "--truth"),
        (("evaluate", "jhmdb", "nowhere", "--root", "nowhere"), 1, "no such folder"),
        (("dataset", "check", "--dataset", "x", "--root", "."), 1, "one of a2d"),
        (("dataset", "show", "--dataset", "refytvos", "--root", "nowhere"), 1, "no such folder"),
    ],
)
def test_a_wrong_command_is_one_message(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, code: int, words: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    (tmp_path / "link").symlink_to("something")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    found, shown = cli(*arguments)
    assert (found, "Traceback" in shown) == (code, False), shown
    assert words in shown
    assert (tmp_path / "folder" / "precious").exists()


def test_a_data_set_is_checked_and_shown(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place = ("--dataset", "refytvos", "--root", data, "--split", "train")
    code, shown = cli("dataset", "check", *place)
    assert code == 0
    assert "Nothing is missing" in shown
    assert "first_mask" in shown
    sheet = tmp_path / "sheet.png"
    code, shown = cli("dataset", "show", *place, "--sheet", sheet)
    assert code == 0
    assert "word types" in shown
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert np.asarray(image).std() > 10
    (data / "train/JPEGImages/clip/00005.jpg").unlink()
    code, shown = cli("dataset", "check", *place, "--json")
    assert code == 1
    document = json.loads(shown)
    assert document["findings"][0]["kind"] == "missing"
    assert document["findings"][0]["path"].endswith("00005.jpg")
    assert document["counts"]["expressions"] == 2


def test_a_run_goes_out_in_every_format_and_is_measured_by_its_folder(
    cli, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    site.run()
    moved = tmp_path / "elsewhere" / site.folder.name
    moved.parent.mkdir()
    shutil.move(site.folder, moved)
    for name in (*FORMATS, "wsrvos"):
        code, shown = cli("export", moved, "--to", name, "--out", tmp_path / f"out-{name}")
        assert code == 0, shown
        assert ("Demo models (ground and segment)" in shown) == (name != "wsrvos")
    card = (tmp_path / "out-hf" / "README.md").read_text()
    assert (
        "- ground: `demo:ground`" in card and "- J&F: " in card and "rendered shapes alone" in card
    )
    code, shown = cli("export", moved, "--to", "yollo", "--out", tmp_path / "x")
    assert code == 2 and "did you mean yolo?" in shown
    code, shown = cli("export", moved, "--to", "yolo", "--out", tmp_path / "x", "--link", "hard")
    assert code == 2 and "expected copy or symlink" in shown
    texts = json.loads((tmp_path / "out-wsrvos").read_text())
    assert texts["ytvos:clip00:0"]["positive_texts"][0] == "the red square"
    place = ("--root", site.data, "--split", "train")
    code, shown = cli("evaluate", "refytvos", tmp_path / "out-submission", *place, "--json")
    assert code == 0, shown
    as_others_see_it = json.loads(shown)["figures"]["predictions"]
    store, tables = moved / "pseudomasks.zarr", tmp_path / "csv"
    code, shown = cli("evaluate", "run", moved, "--from", store, "--json", "--csv", tables)
    assert code == 0, shown
    assert json.loads(shown)["counts"] == {"videos": 4, "expressions": 8}
    assert as_others_see_it["J"] > 0
    assert len((tmp_path / "csv/expressions.csv").read_text().splitlines()) == 9
    again = partial(evaluate_run.do_stage_again, parts=fake_parts(site.weights, site.loaded))
    monkeypatch.setattr(evaluate_run, "do_stage_again", again)
    code, shown = cli("evaluate", "run", moved, "--csv", tables)
    assert code == 0, shown
    assert "J&F" in shown
    assert (moved / "metrics.json").is_file()


@pytest.mark.slow
def test_an_export_replaces_no_part_of_a_run(cli, site: Site) -> None:  # type: ignore[no-untyped-def]
    site.run()
    before = sorted(site.out.rglob("*"))
    for part in ("", "config.toml", "ledger", "pseudomasks.zarr/clip00", "report"):
        for name in ("ytvos", "coco", "wsrvos"):
            out = site.folder / part
            code, shown = cli("export", site.folder, "--to", name, "--out", out, "--overwrite")
            assert code == 2, shown
            assert "expected a place of its own" in " ".join(shown.split())
    assert sorted(site.out.rglob("*")) == before


def test_an_export_replaces_an_earlier_one_and_what_a_killed_one_left(
    cli, site: Site, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    site.run()
    for name, kept in (("ytvos", "export.json"), ("coco", "")):
        out = tmp_path / "out" / name
        given = ("export", site.folder, "--to", name, "--out", out)
        assert cli(*given)[0] == 0
        assert (out / kept).is_file()
        assert cli(*given)[0] == 2
        partial_beside(out).write_text("half")
        other = partial_beside(tmp_path / "out" / "else")
        other.write_text("of another export")
        with HeldFile(out.with_name(f".{name}.held")):
            code, shown = cli(*given, "--overwrite")
            assert (code, "another process writes here" in " ".join(shown.split())) == (1, True)
        assert cli(*given, "--overwrite")[0] == 0
        assert [item.name for item in out.parent.glob(".*")] == [other.name]
        other.unlink()


def test_masks_that_the_run_has_not_finished_do_not_go_out(cli, site: Site, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    site.run()
    ledger, store = Ledger(site.folder), site.folder / "pseudomasks.zarr"
    ledger.withdraw("rank", "00001")
    for number, source in enumerate(("masks", store)):
        out = tmp_path / f"{number}.json"
        code, shown = cli("export", site.folder, "--to", "ytvis", "--out", out, "--from", source)
        assert code == 0, shown
        told = " ".join(shown.split())
        assert "2 of 4 videos are left out" in told and "`pseudolabels run` finishes them" in told
        assert len(json.loads(out.read_text())["videos"]) == 2
        assert "a run writes here" not in told
    shutil.copytree(store, tmp_path / "elsewhere.zarr")
    out, place = tmp_path / "all.json", ("--from", tmp_path / "elsewhere.zarr")
    with RunLock(site.folder):
        code, shown = cli("export", site.folder, "--to", "ytvis", "--out", out, *place)
        assert (code, len(json.loads(out.read_text())["videos"])) == (0, 4), shown
        assert "left out" not in shown and "a run writes here" not in shown
        # The lock is this process's; to another one, it is that of a run.
        with mock.patch("flows.finished_results.works_under_lock", return_value=False):
            code, shown = cli("export", site.folder, "--to", "ytvos", "--out", tmp_path / "ytvos")
        assert code == 0, shown
        assert "a run writes here (process" in " ".join(shown.split())
    ledger.withdraw("rank", "00000")
    code, shown = cli("export", site.folder, "--to", "ytvis", "--out", tmp_path / "none.json")
    assert code == 1
    assert "no masks; expected a mask store" in " ".join(shown.split())
    assert not (tmp_path / "none.json").exists()


def test_masks_go_out_with_the_quality_they_were_ranked_with(
    cli, site: Site, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    def other_rank(*arguments: Any) -> tuple[PseudoMask, list[FrameQuality]]:
        mask, rows = fake_rank(*arguments)
        return mask, [replace(row, stability=0.25) for row in rows]

    def stability(number: int) -> dict[str, set[float]]:
        out = tmp_path / f"{number}.parquet"
        code, shown = cli("export", site.folder, "--to", "parquet", "--out", out)
        assert code == 0, shown
        found: dict[str, set[float]] = {}
        for row in pq.read_table(out).to_pylist():
            found.setdefault(row["video"], set()).add(round(row["stability"], 3))
        return found

    site.run()
    merged = (site.folder / "quality.parquet").read_bytes()
    first = stability(0)
    assert all(0.25 not in found for found in first.values()) and len(first) == 4
    Ledger(site.folder).withdraw("rank", "00001")
    site.run(to_stage="rank", rank=other_rank)
    assert (site.folder / "quality.parquet").read_bytes() == merged, "not merged anew"
    again = stability(1)
    assert again == {**first, "clip02": {0.25}, "clip03": {0.25}}
    (site.folder / "rank" / "00001.parquet").unlink()
    out = tmp_path / "none.parquet"
    code, shown = cli("export", site.folder, "--to", "parquet", "--out", out)
    assert (code, out.exists()) == (1, False)
    assert "00001.parquet: missing; expected the quality rows of clip02" in shown


def test_predictions_go_out_only_of_a_student_that_has_ended(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_shapes(tmp_path / "data", 1, 1, 5)
    words = (f"out={str(tmp_path)!r}", f"dataset.root={str(tmp_path / 'data')!r}")
    config = load_config(None, [*words, "student.steps=7"])
    paths, ledger = RunPaths(config.run_folder), Ledger(config.run_folder)
    place = ("--dataset", "shapes", "--root", tmp_path / "data", "--split", "train")
    out = tmp_path / "out.parquet"
    sources = ("student", paths.predictions)

    def exported(source: object, steps: int = 7) -> tuple[int, str]:
        given = (*place, "--runs", tmp_path, "--from", source, "--to", "parquet", "--out", out)
        return cli("export", f"student.steps={steps}", *given, "--overwrite")  # type: ignore[no-any-return]

    assert "no masks; expected a mask store (--from student)" in exported("student")[1]
    store_truth(open_dataset("shapes", tmp_path / "data", "valid"), paths.predictions, weight=1.0)
    asked = RunContext(config).make_plan(remember=False).job("student", "all")
    for source in sources:
        code, shown = exported(source)
        assert (code, out.exists()) == (1, False)
        assert "of a student that failed, or of another configuration (no receipt)" in shown
    for fingerprint in (asked.fingerprint, f"partial-{asked.fingerprint}"):
        basis, videos = dict(asked.basis), asked.shard.videos
        ledger.commit(Receipt("student", "all", fingerprint, videos, basis=basis))
        for source in sources:
            code, shown = exported(source)
            assert code == 0, shown
            assert set(pq.read_table(out)["split"].to_pylist()) == {"valid"}
    before = out.read_bytes()
    code, shown = exported("student", 8)
    assert code == 1 and out.read_bytes() == before
    assert "(steps 7 → 8); expected the masks of a student that the run has finished" in shown
    assert "make them with `pseudolabels run`" in shown
    code, shown = cli("evaluate", "run", *place, "--out", tmp_path, "--from", "student")
    assert code == 1 and "of another configuration" in shown


def test_masks_of_demo_models_are_exported_with_a_warning(cli, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    reader = open_dataset("refytvos", data, "train")
    store_truth(reader, tmp_path / "runs" / "refytvos-train" / "pseudomasks.zarr", weight=1.0)
    place = ("--dataset", "refytvos", "--root", data, "--runs", tmp_path / "runs")
    code, shown = cli("export", *place, "--to", "video", "--out", tmp_path / "seen")
    assert code == 0, shown
    assert "note Demo models (ground and segment) know rendered shapes alone" in shown
    assert (tmp_path / "seen" / "clip" / "overlay.mp4").is_file()
