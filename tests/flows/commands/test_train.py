"""``pseudolabels train`` and ``predict``: alone, in several processes, cut off and gone on with."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.orchestration import training as train_module
from flows.orchestration.ray import ray_training
from flows.orchestration.training import train_run
from flows.papers.other_masks import FirstVideos
from flows.planning.fingerprints import ground_basis
from flows.planning.plan import Job
from flows.training import train as training
from flows.training.build import clips_of, masks_to_train_on
from flows.training.curves import curves_markdown, write_curves
from flows.training.predict import How, predict
from flows.training.torchrun import world_of_torchrun
from flows.training.train import identity_of, train_student
from flows.training.validation import Validation
from pipeline.config import GroundConfig, RunConfig, load_config
from pipeline.errors import CheckpointError, ConfigError, LockLostError, PseudoLabelError
from pipeline.types import Receipt, Status
from stages.common.checkpoints import DEMO_FOLDER
from stages.ground.grounder import load_model
from stages.student.training.fit import History
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.datasets.shapes import write_shapes
from storage.files.images import read_mask
from storage.run.ledger import Ledger
from storage.run.lock import HELD, RunLock
from tests.fakes.truth import store_truth

CPU = torch.device("cpu")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and a run's folder with its truth for pseudo-masks."""
    folder = tmp_path_factory.mktemp("rendered")
    write_shapes(folder / "data", 2, 2, 5)
    reader = open_dataset("shapes", folder / "data", "train")
    store_truth(reader, folder / "shapes-train" / "pseudomasks.zarr", weight=1.0)
    return folder


@pytest.fixture
def site(rendered: Path, tmp_path: Path) -> Path:
    shutil.copytree(rendered, tmp_path / "site")
    return tmp_path / "site"


def config_of(site: Path, *overrides: str) -> RunConfig:
    return load_config(
        None,
        [
            f"out={str(site)!r}",
            f"dataset.root={str(site / 'data')!r}",
            "device=cpu",
            "student.model=simrvos",
            "student.steps=4",
            "student.clips_per_step=2",
            "student.frames_per_clip=2",
            "student.expressions_per_clip=2",
            "student.short_side=32",
            "student.channels=32",
            "student.training.checkpoint_every=2",
            *overrides,
        ],
    )


@pytest.fixture
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without a Prefect server; the slow tests have one."""

    def train(context: RunContext, folder: Path, console: Console) -> None:
        train_student(context, folder)

    monkeypatch.setattr(train_module, "_train_observed", train)


class Told:
    """Remembers what a progress is told."""

    def __init__(self) -> None:
        self.advanced: list[float] = []
        self.said: list[str] = []

    def begin(self, *_: Any) -> None: ...
    def advance(self, amount: float, frames: int = 0) -> None:
        self.advanced.append(amount)

    def done_before(self, amount: float) -> None:
        self.advanced.append(amount)

    def end(self, note: str = "") -> None: ...
    def say(self, text: str, style: str = "") -> None:
        self.said.append(text)


def weights(site: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(site / "shapes-train" / "students" / name / "model.safetensors")


@pytest.mark.usefixtures("unobserved")
def test_a_student_is_trained_into_a_folder_of_its_own(site: Path) -> None:
    config = config_of(
        site, "student.training.validate_every=2", "student.training.validate_videos=1"
    )
    console = Console(record=True, width=200, file=io.StringIO())
    folder = train_run(config, None, console)
    assert folder == site / "shapes-train" / "students" / "simrvos"
    shown = console.export_text()
    assert "J&F on valid: " in shown and "the best of 2 measurements" in shown
    assert f"predict {site}/shapes-train --student simrvos --to predictions.zip" in shown
    assert load_config(folder / "config.toml").student == config.student
    rows = (folder / "losses.csv").read_text().splitlines()
    assert rows[0] == "step,loss,segmentation" and len(rows) == 5
    measured = (folder / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in measured] == ["steps", "2", "4"]
    with Image.open(folder / "curves.png") as curves:
        assert curves.width > 300
    assert not (folder / "checkpoint.pt").exists()
    [events] = (folder / "tensorboard").iterdir()
    assert b"J&F" in events.read_bytes()


@pytest.mark.usefixtures("unobserved")
def test_what_was_cut_off_goes_on_to_the_same_weights(site: Path) -> None:
    train_run(config_of(site), "straight", QUIET)
    context = RunContext(config_of(site))
    folder = site / "shapes-train" / "students" / "cut"

    class CutOffError(Exception): ...

    def stop(_: History) -> None:
        raise CutOffError

    with pytest.raises(CutOffError):
        train_student(context, folder, publish=stop)
    assert (folder / "checkpoint.pt").exists() and not (folder / "model.safetensors").exists()
    told = Told()
    train_student(RunContext(config_of(site), progress=told), folder)
    assert told.advanced[:2] == [2, 1], "two steps were done before"
    straight, again = weights(site, "straight"), weights(site, "cut")
    assert all(torch.equal(value, again[name]) for name, value in straight.items())


@pytest.mark.usefixtures("unobserved")
def test_another_configuration_starts_over(site: Path) -> None:
    train_run(config_of(site), "one", QUIET)
    train_run(config_of(site, "student.learning_rate=0.002"), "one", QUIET)
    train_run(config_of(site, "student.learning_rate=0.002"), "two", QUIET)
    one, two = weights(site, "one"), weights(site, "two")
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.usefixtures("unobserved")
def test_text_alone_needs_sentences_and_no_mask(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(site / "shapes-train" / "pseudomasks.zarr")
    config = config_of(
        site,
        "student.model=wsrvos",
        "student.supervision=text",
        "student.wsrvos.negatives_per_clip=2",
    )
    with pytest.raises(ConfigError, match=r"shapes-train: no sentences; .*--to-stage augment"):
        train_run(config, None, QUIET)
    for shard in RunContext(config).make_plan(remember=False).shards:
        do_job(Job("augment", shard, "test"), RunContext(config))
    assert train_run(config, None, QUIET).is_dir()
    assert not caplog.messages
    lost = sorted((site / "data" / "train" / "JPEGImages" / "train00001").iterdir())[3]
    lost.unlink()
    known = open_dataset("shapes", site / "data", "train").expressions("train00000")
    assert clips_of(RunContext(config)).samples == len(known)
    assert lost.name in caplog.text, "the video that is left out is named"


@pytest.mark.usefixtures("unobserved")
def test_optical_flow_needs_no_run_and_what_it_teaches_is_gone_on_with(
    site: Path, tmp_path: Path
) -> None:
    bare = config_of(site, f"out={str(tmp_path)!r}", "student.supervision=flow")
    flow = train_run(bare, "flow", QUIET)
    assert flow == tmp_path / "shapes-train" / "students" / "flow"
    rows = (flow / "losses.csv").read_text().splitlines()
    assert rows[0] == "step,loss,area,motion" and len(rows) == 5
    assert predict(bare, "flow", tmp_path / "masks", How("valid"), QUIET)["predicted"] == 2
    # At a rate of next to nothing, what it started from is what comes out.
    still = ("student.learning_rate=1e-12", "student.weight_decay=0")
    train_run(config_of(site, *still, f"student.start={str(flow)!r}"), "next", QUIET)
    learnt, gone_on_with = load_file(flow / "model.safetensors"), weights(site, "next")
    for name, value in learnt.items():
        torch.testing.assert_close(gone_on_with[name], value, rtol=0, atol=1e-9)
    assert (
        predict(config_of(site), "next", tmp_path / "next", How("valid"), QUIET)["predicted"] == 2
    )


@pytest.mark.usefixtures("unobserved")
def test_the_data_sets_own_annotation_needs_no_run_and_its_cost_is_said(
    site: Path, tmp_path: Path
) -> None:
    told = Told()
    words = ("student.supervision=budget", "student.budget.boxes_every=0")
    bare = config_of(site, f"out={str(tmp_path)!r}", *words)
    train_run(bare, None, QUIET)
    reader = open_dataset("shapes", site / "data", "train")
    told_of = [(v, said.object_ids) for v in reader.video_ids() for said in reader.expressions(v)]
    assert clips_of(RunContext(bare, progress=told)).samples == len(told_of)
    targets = len(set(told_of))
    assert [line.split("; ")[0] for line in told.said] == [f"Annotation: {targets} masks"]
    for needs in ("student.budget.mask_choice=weight", "student.budget.others=pseudo_masks"):
        with pytest.raises(ConfigError, match="no masks; "):
            train_run(config_of(site, f"out={str(tmp_path)!r}", *words, needs), None, QUIET)


@pytest.mark.usefixtures("unobserved")
def test_further_data_sets_teach_by_their_own_annotation(site: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "other", 3, 1, 9)
    joint = f'student.joint=[{{name="shapes", root="{tmp_path / "other"}"}}]'
    told = Told()
    alone, config = config_of(site), config_of(site, joint)
    more = clips_of(RunContext(config, progress=told))
    reader = open_dataset("shapes", tmp_path / "other", "train")
    added = sum(len(reader.expressions(video)) for video in reader.video_ids())
    assert more.samples == clips_of(RunContext(alone)).samples + added
    assert told.said and told.said[0].startswith("Annotation: "), "of the further data set"
    assert train_run(config, "joint", QUIET).is_dir()
    assert identity_of(RunContext(config)) != identity_of(RunContext(alone))
    with pytest.raises(ConfigError, match=r"student\.joint: shapes without root"):
        clips_of(RunContext(config_of(site, 'student.joint=[{name="shapes"}]')))
    budget = ("student.supervision=budget", "student.budget.boxes_every=0")
    kept = config_of(site, joint, *budget, "student.budget.others=pseudo_masks")
    assert clips_of(RunContext(kept)).samples == more.samples
    with pytest.raises(ConfigError, match=r"joint with budget\.mask_choice='weight'"):
        config_of(site, joint, *budget, "student.budget.mask_choice=weight")
    with pytest.raises(ConfigError, match="joint with supervision 'flow'"):
        config_of(site, joint, "student.supervision=flow")


@pytest.mark.usefixtures("unobserved")
def test_referformer_learns_from_a_mixture_of_masks_boxes_and_points(
    site: Path, tmp_path: Path
) -> None:
    words = [
        "student.model=referformer",
        "student.supervision=budget",
        "student.budget.boxes_every=2",
        "student.budget.points_every=1",
        "student.referformer.mil=true",
        "student.referformer.lgcfs=true",
        "student.referformer.blcl=true",
    ]
    config = config_of(site, *words)
    folder = train_run(config, None, QUIET)
    rows = (folder / "losses.csv").read_text().splitlines()
    assert rows[0] == "step,loss,blcl,box,lgcfs,score,segmentation" and len(rows) == 5
    to = tmp_path / "masks"
    assert predict(config, "referformer", to, How("valid"), QUIET)["predicted"] == 2
    with pytest.raises(ConfigError, match="does not learn from points"):
        config_of(site, "student.model=grounded", *words[1:4])


@pytest.mark.usefixtures("unobserved")
def test_a_start_that_does_not_fit_says_why(site: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        train_run(config_of(site, f"student.start={str(tmp_path / 'nowhere')!r}"), None, QUIET)
    vision = train_run(config_of(site, "student.simrvos.fusion=vision"), "vision", QUIET)
    start = f"student.start={str(vision)!r}"
    with pytest.raises(CheckpointError, match=r"missing \(such as network\.to_words"):
        train_run(config_of(site, start), None, QUIET)
    assert train_run(config_of(site, start, "student.simrvos.fusion=vision"), None, QUIET).is_dir()


@pytest.mark.usefixtures("unobserved")
def test_what_cannot_be_trained_says_why(site: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no masks; .*pseudolabels run"):
        train_run(config_of(site, f"out={str(tmp_path / 'nowhere')!r}"), None, QUIET)
    with pytest.raises(ConfigError, match=r"'\.\./up'; expected letters"):
        train_run(config_of(site), "../up", QUIET)
    with RunLock(site / "shapes-train" / "students" / "busy"), pytest.raises(PseudoLabelError):
        train_run(config_of(site), "busy", QUIET)
    folder = site / "shapes-train" / "students" / "bad"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="remove the file"):
        train_run(config_of(site), "bad", QUIET)


@pytest.mark.usefixtures("unobserved")
def test_a_training_that_lost_its_lock_writes_no_weights(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = site / "shapes-train" / "students" / "slept", training._Told.__call__

    def lose(*arguments: Any) -> None:
        # While this process slept, another machine took over.
        owner = {**json.loads((folder / HELD).read_text()), "token": "another", "machine": "other"}
        (folder / HELD).write_text(json.dumps(owner))
        real(*arguments)

    monkeypatch.setattr(training._Told, "__call__", lose)
    with pytest.raises(LockLostError, match="on other"):
        train_run(config_of(site), "slept", QUIET)
    assert not (folder / "model.safetensors").exists()
    assert (folder / HELD).exists()


def test_masks_that_the_run_has_not_finished_teach_nothing(site: Path) -> None:
    config, told = config_of(site), Told()
    ledger = Ledger(config.run_folder)
    ledger.commit(Receipt("rank", "00000", "f", ("train00000",)))
    store = masks_to_train_on(RunContext(config, progress=told))
    assert store.videos() == ["train00000"] and {v for v, _ in store.samples()} == {"train00000"}
    assert "train00001" not in store and "train00001" not in pickle.loads(pickle.dumps(store))
    [said] = told.said
    assert "1 of 2 videos are left out" in said and "`pseudolabels run`" in said
    named = config_of(site, f"student.masks={str(store.path)!r}")
    assert len(masks_to_train_on(RunContext(named, progress=told)).videos()) == 2
    assert len(told.said) == 1, "a store that is named is taken as it is"
    # The lock is this process's; to another one, it is that of a run.
    other = mock.patch("flows.finished_results.works_under_lock", return_value=False)
    with RunLock(config.run_folder), other:
        masks_to_train_on(RunContext(config, progress=told))
    assert f"a run writes here (process {os.getpid()}" in told.said[-1]
    ledger.withdraw("rank", "00000")
    with pytest.raises(ConfigError, match=r"no masks; .*pseudolabels run"):
        masks_to_train_on(RunContext(config))


def test_a_training_on_ray_says_what_is_left_out(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, console = config_of(site, "runner.kind=ray"), Console(record=True, width=400)
    Ledger(config.run_folder).commit(Receipt("rank", "00000", "f", ("train00000",)))
    trained: list[Path] = []
    monkeypatch.setattr(train_module, "check_runner", lambda config: None)
    monkeypatch.setattr(
        ray_training, "train_on_ray", lambda config, folder, console: trained.append(folder)
    )
    folder = train_run(config, None, console)
    assert trained == [folder]
    assert console.export_text().count("1 of 2 videos are left out") == 1


def test_the_first_videos_of_a_store_are_the_same_in_another_process(site: Path) -> None:
    store = FirstVideos(site / "shapes-train" / "pseudomasks.zarr", 1)
    assert store.videos() == ["train00000"]
    assert pickle.loads(pickle.dumps(store)).videos() == ["train00000"]


def test_validation_needs_truth(site: Path) -> None:
    class Untold:
        name, split = "shapes", "test"

        def __init__(self) -> None:
            self._reader = open_dataset("shapes", site / "data", "valid")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reader, name)

        def truth(self, *_: Any) -> None:
            return None

    from flows.training.build import build_student

    student = build_student(config_of(site), CPU)
    with pytest.raises(ConfigError, match="validate_split"):
        Validation(Untold(), 1, CPU)(student.eval())


@pytest.mark.usefixtures("unobserved")
@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("valid", r"J&F on 1 videos of valid: \d+\.\d %"),
        ("nosuch", "J&F was not measured: .*nosuch"),
    ],
)
def test_a_student_is_measured_at_the_end(site: Path, split: str, words: str) -> None:
    settings = (f"student.training.validate_split={split}", "student.training.validate_videos=1")
    config = config_of(site, "student.steps=1", *settings)
    console = Console(record=True, width=400, file=io.StringIO())
    train_run(config, None, console, measure=True)
    assert re.search(words, console.export_text())


@pytest.mark.usefixtures("unobserved")
def test_the_default_student_chooses_among_the_run_s_grounders_instances(site: Path) -> None:
    assert load_config(None).student.model == "grounded"
    options = ("student.model=grounded", "student.steps=2", "ground.short_side=64")
    config = config_of(site, *options)
    folder = train_run(config, None, QUIET)
    assert folder.name == "grounded"
    rows = (folder / "losses.csv").read_text().splitlines()
    assert rows[0] == "step,loss,choice,mask,objection" and len(rows) == 3
    counts = predict(config, "grounded", site / "masks", How("valid"), QUIET)
    assert counts == {"predicted": 2, "there before": 0, "skipped": 0}
    elsewhere = config_of(site, f"out={str(site / 'elsewhere')!r}", "ground.short_side=64")
    place = site / "transferred"
    counts = predict(elsewhere, None, place, How("valid"), QUIET, weights=folder)
    assert counts["predicted"] == 2, "a student of one run predicts for another"
    for path in sorted((site / "masks").rglob("*.png")):
        copy = place / path.relative_to(site / "masks")
        assert copy.read_bytes() == path.read_bytes()
    names = load_file(folder / "model.safetensors")
    assert names and all(name.startswith("network.") for name in names), "no frozen grounder in it"
    clips = clips_of(RunContext(config))[0]
    assert len(clips[0].images) == 2 and not clips[0].negatives, "this run has no sentences"


@pytest.mark.slow
@pytest.mark.usefixtures("unobserved")
def test_groprompt_learns_from_boxes_and_adapts_the_grounder_of_the_next_run(site: Path) -> None:
    options = ("student.model=groprompt", "student.steps=1", "ground.short_side=64")
    config = config_of(site, *options)
    folder = train_run(config, None, QUIET)
    counts = predict(config, "groprompt", site / "masks", How("valid"), QUIET)
    assert counts["predicted"] == 2
    adapter = folder / "model.safetensors"
    plain, adapted = (
        load_model(GroundConfig(adapter=path), CPU).state_dict() for path in (None, adapter)
    )
    changed = {name for name, value in adapted.items() if not torch.equal(value, plain[name])}
    assert changed and all(
        name.startswith(("transformer.decoder.", "bbox_embed.")) for name in changed
    )
    learnt = load_file(adapter)
    layer = "layers.0.linear1.weight"
    assert torch.equal(adapted[f"transformer.decoder.{layer}"], learnt[f"decoder.{layer}"])
    bases = [
        ground_basis(config_of(site, *more), lambda checkpoint: checkpoint)
        for more in ((), (f"ground.adapter={str(adapter)!r}",))
    ]
    assert bases[1] == bases[0] | {"adapter": str(adapter)}


def test_an_adapter_of_another_model_is_refused() -> None:
    other = DEMO_FOLDER / "segment" / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"missing .*of this configuration"):
        load_model(GroundConfig(adapter=other), CPU)


# Prediction.


@pytest.fixture
def trained(site: Path, unobserved: None) -> RunConfig:
    config = config_of(site, "student.steps=1")
    train_run(config, "s", QUIET)
    return config_of(site)


def masks_in(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): read_mask(path) for path in sorted(folder.rglob("*.png"))
    }


def test_predictions_are_in_the_layout_of_a_submission(trained: RunConfig, tmp_path: Path) -> None:
    counts = predict(trained, "s", tmp_path / "out", How("valid", frames=3), QUIET)
    reader = open_dataset("shapes", trained.out / "data", "valid")
    assert counts == {"predicted": 2, "there before": 0, "skipped": 0}
    expected = {
        f"Annotations/{video}/{item.key.expression}/{frame}.png"
        for video in reader.video_ids()
        for item in reader.expressions(video)
        for frame in reader.video(video).frames
    }
    found = masks_in(tmp_path / "out")
    assert found.keys() == expected
    video = reader.video(reader.video_ids()[0])
    for mask in found.values():
        assert mask.shape == (video.height, video.width)
        assert set(np.unique(mask)) <= {0, 255}
    predict(trained, "s", tmp_path / "out.zip", How("valid", frames=3), QUIET)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert set(archive.namelist()) == expected
        for name, mask in found.items():
            content = archive.read(name)
            assert np.array_equal(read_mask(Path(name), content=content), mask)


@pytest.mark.slow
def test_windows_and_online_prediction_of_a_frame_wise_student_agree(
    trained: RunConfig, tmp_path: Path
) -> None:
    hows = (How("valid", frames=2), How("valid", frames=5, online=True))
    for number, how in enumerate(hows):
        predict(trained, "s", tmp_path / str(number), how, QUIET)
    one, two = masks_in(tmp_path / "0"), masks_in(tmp_path / "1")
    assert one.keys() == two.keys()
    different = [np.mean(mask != two[name]) for name, mask in one.items()]
    assert max(different) < 0.001, "SimRVOS looks at each frame alone"
    assert any(mask.any() for mask in one.values())


def test_what_is_there_is_left_and_a_broken_video_skipped(
    trained: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(trained, "s", out, How("valid"), QUIET)
    first, second = sorted(path for path in (out / "Annotations").iterdir())
    shutil.rmtree(second)
    kept = next(first.rglob("*.png"))
    kept.write_bytes(b"left alone")
    frames = trained.out / "data" / "valid" / "JPEGImages" / second.name
    broken = sorted(frames.iterdir())[3]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    counts = predict(trained, "s", out, How("valid"), QUIET)
    assert counts == {"predicted": 0, "there before": 1, "skipped": 1}
    assert not second.exists(), "a video is there whole or not at all"
    broken.write_bytes(whole)
    counts = predict(trained, "s", out, How("valid"), QUIET)
    assert counts == {"predicted": 1, "there before": 1, "skipped": 0}
    assert kept.read_bytes() == b"left alone" and second.is_dir()


def test_a_folder_of_other_masks_is_refused(trained: RunConfig, tmp_path: Path) -> None:
    predict(trained, "s", tmp_path / "out", How("valid"), QUIET)
    with pytest.raises(ConfigError, match="another student"):
        predict(trained, "s", tmp_path / "out", How("valid", online=True), QUIET)
    own = trained.run_folder / "students" / "s" / "config.toml"
    text = own.read_text()
    own.write_text(text.replace("short_side = 32", "short_side = 64"))
    with pytest.raises(ConfigError, match="this one predicted otherwise"):
        predict(trained, "s", tmp_path / "out", How("valid"), QUIET)
    own.write_text(text)
    assert predict(trained, "s", tmp_path / "out", How("valid"), QUIET)["there before"] == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds thesis.tex; expected an empty folder"):
        predict(trained, "s", tmp_path / "full", How("valid"), QUIET)
    with pytest.raises(ConfigError, match=r"expected a student that has been trained.*name one"):
        predict(trained, "other", tmp_path / "new", How("valid"), QUIET)
    assert not (tmp_path / "new").exists()
    weights = trained.run_folder / "students" / "s" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        predict(trained, "s", tmp_path / "new", How("valid"), QUIET)


def test_a_store_that_was_cut_off_goes_on(trained: RunConfig, tmp_path: Path) -> None:
    labels = tmp_path / "labels.zarr"
    predict(trained, "s", labels, How("train"), QUIET)
    store, whole = MaskStore(labels), files_in(labels)
    first, second = store.videos()
    store.remove_video(second)
    kept = (labels / first / "zarr.json").stat().st_ino
    counts = predict(trained, "s", labels, How("train"), QUIET)
    assert counts == {"predicted": 1, "there before": 1, "skipped": 0}
    assert (labels / first / "zarr.json").stat().st_ino == kept and files_in(labels) == whole
    for name in (first, second):
        shutil.rmtree(trained.out / "data" / "train" / "JPEGImages" / name)
    counts = predict(trained, "s", labels, How("train"), QUIET)
    assert counts == {"predicted": 0, "there before": 2, "skipped": 0}
    with pytest.raises(PseudoLabelError, match="all 2 videos"):
        predict(trained, "s", tmp_path / "other.zarr", How("train"), QUIET)


def test_a_store_of_other_masks_is_refused(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.zarr"
    predict(trained, "s", labels, How("train"), QUIET)
    own = trained.run_folder / "pseudomasks.zarr"
    before = files_in(labels), files_in(own)
    for how in (How("train", threshold=0.4), How("valid")):
        with pytest.raises(ConfigError, match=r"labels\.zarr: .*another student.*remove it"):
            predict(trained, "s", labels, how, QUIET)
    monkeypatch.chdir(trained.run_folder)
    for place in (own, Path("pseudomasks.zarr"), Path("student/predictions.zarr")):
        with pytest.raises(ConfigError, match=r"written by the run itself; .*another --to"):
            predict(trained, "s", place, How("train"), QUIET)
    assert (files_in(labels), files_in(own)) == before
    assert not (trained.run_folder / "student").exists()


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("unobserved")
def test_a_students_own_labels_train_the_next_one(
    trained: RunConfig, site: Path, tmp_path: Path
) -> None:
    """Two steps, as SimRVOS compares itself to: train, label, train again."""
    labels = tmp_path / "labels.zarr"
    counts = predict(trained, "s", labels, How("train"), QUIET)
    assert counts == {"predicted": 2, "there before": 0, "skipped": 0}
    store = MaskStore(labels)
    assert list(store.samples()) == list(
        MaskStore(trained.run_folder / "pseudomasks.zarr").samples()
    )
    weight, status = store.quality(*next(iter(store.samples())))
    assert ((weight > 0.5) == (status == Status.PRESENT)).all()
    bolder = tmp_path / "bolder.zarr"
    predict(trained, "s", bolder, How("train", threshold=0.01), QUIET)
    sample = next(iter(store.samples()))
    bold, plain = (MaskStore(path).read(*sample)[0] for path in (bolder, labels))
    assert bold.sum() > plain.sum(), "a store is predicted as it was asked for"
    again = config_of(site, f"student.masks={str(labels)!r}")
    train_run(again, "again", QUIET)
    train_run(config_of(site), "straight", QUIET)
    again_loss, straight_loss = losses(site, "again"), losses(site, "straight")
    assert again_loss != straight_loss
    with pytest.raises(ConfigError, match=r"nothing\.zarr: no masks"):
        train_run(config_of(site, f"student.masks={str(tmp_path / 'nothing.zarr')!r}"), "x", QUIET)


# Curves.


def test_curves_say_what_a_training_came_to(tmp_path: Path) -> None:
    steps = [{"lgcfs": 1.0, "segmentation": 3.0 - number} for number in range(3)]
    history = History(steps, [(2, 41.5)])
    write_curves(tmp_path, history)
    assert (tmp_path / "losses.csv").read_text().splitlines() == [
        "step,loss,lgcfs,segmentation",
        "0,4.000000,1.000000,3.000000",
        "1,3.000000,1.000000,2.000000",
        "2,2.000000,1.000000,1.000000",
    ]
    assert (tmp_path / "validation.csv").read_text() == "steps,J&F\n2,41.50\n"
    page = curves_markdown(history, "Training of it", rows=2)
    assert "| 1 to 1 | 4.000 | 1.000 | 3.000 |" in page
    assert "| 2 to 3 | 2.500 | 1.000 | 1.500 |" in page and "| 2 | 41.5 |" in page


# Several processes.


def test_a_device_that_processes_would_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="give auto, cuda or cpu"):
        _enter(world_of_torchrun("cuda:0"))


def _enter(world: Any) -> None:
    with world:
        pass


def losses(site: Path, name: str) -> list[float]:
    text = (site / "shapes-train" / "students" / name / "losses.csv").read_text()
    return [float(row.split(",")[1]) for row in text.splitlines()[1:]]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as each of several processes has: sums over other parts of a tensor round
    otherwise, and AdamW's first steps make much of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one(site: Path, tmp_path: Path) -> None:
    """The same global batch, the same loss curve."""
    config = config_of(site)
    train_student(RunContext(config), site / "shapes-train" / "students" / "one")
    words = [
        f"out={str(site)!r}",
        f"dataset.root={str(site / 'data')!r}",
        *(f"student.{name}={value}" for name, value in _short(config).items()),
        "student.training.checkpoint_every=2",
    ]
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"),
            *("--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
            *("-m", "flows", "train", "--name", "two", "--device", "cpu", *words),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Student:") == 1, "the first process speaks"
    np.testing.assert_allclose(losses(site, "two"), losses(site, "one"), rtol=1e-4)
    one, two = weights(site, "one"), weights(site, "two")
    # AdamW's first steps are as long for a gradient of rounding errors as for any other.
    apart = torch.cat([(value - two[name]).abs().flatten() for name, value in one.items()])
    assert float(apart.mean()) < 1e-5


def _short(config: RunConfig) -> dict[str, Any]:
    names = ("steps", "clips_per_step", "frames_per_clip", "expressions_per_clip", "short_side")
    return {name: getattr(config.student, name) for name in (*names, "channels")}


@pytest.mark.slow
def test_two_workers_of_ray_train_as_one_and_prefect_shows_the_curves(
    site: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.train")
    config = config_of(site)
    words = [
        f"out={str(site)!r}",
        f"dataset.root={str(site / 'data')!r}",
        *(f"student.{name}={value}" for name, value in _short(config).items()),
    ]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_HOME": str(tmp_path / "home")}
    settings.pop("PREFECT_API_URL", None)  # of another test in this process
    try:
        for name, more in (("one", []), ("two", ["--runner", "ray", "--workers", "2"])):
            done = subprocess.run(
                [
                    sys.executable,
                    *(
                        "-m",
                        "flows.commands.main",
                        "train",
                        "--name",
                        name,
                        "--device",
                        "cpu",
                        *words,
                    ),
                    *more,
                ],
                env=settings,
                capture_output=True,
                text=True,
                timeout=400,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        address = json.loads(next((tmp_path / "home").rglob("*server*.json")).read_text())
        assert address
    finally:
        subprocess.run(
            [sys.executable, "-m", "flows", "server", "stop"],
            env=settings,
            check=False,
        )
    np.testing.assert_allclose(losses(site, "two"), losses(site, "one"), rtol=1e-4)
