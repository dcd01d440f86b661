"""The student's training by configuration: what it is taught by, and what stays as it was."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flows.context import RunContext
from flows.labelling.jobs import do_job
from flows.planning.fingerprints import ground_basis, prediction_basis, student_basis
from flows.training import train as train_module
from flows.training.build import build_student, supervision_of
from flows.training.settle import settle
from flows.training.train import Trained, train_and_predict
from pipeline.config import RunConfig, SimrvosConfig, SimrvosStudentConfig, load_config
from pipeline.errors import ConfigError
from pipeline.fingerprint import digest
from pipeline.types import Receipt, Status
from stages.student.data.clips import Clip, Clips, Shape
from stages.student.training.fit import History
from stages.student.training.train import Trainer
from storage.arrays.masks import MaskStore
from storage.datasets import open_dataset
from storage.datasets.shapes import write_shapes
from storage.run.ledger import Ledger
from tests.fakes.truth import store_truth

CPU = torch.device("cpu")


def basis(*overrides: str) -> dict[str, Any]:
    """Of SimRVOS, unless another student is named."""
    words = ["model=simrvos", *overrides]
    config = load_config(None, [f"student.{word}" for word in words])
    return student_basis(config, lambda name: name)


@pytest.mark.parametrize(
    "overrides",
    [
        (
            "simrvos.lgcfs_weight=2.0",
            "simrvos.mil_weight=3.0",
            "simrvos.blcl_weight=0.5",
            "simrvos.blcl_threshold=0.8",
        ),
        (
            "training.workers=2",
            "training.gradient_accumulation_steps=2",
            "training.checkpoint_every=7",
        ),
        ("training.validate_videos=3", "training.patience=3"),
        ("slvp.window=21", "slvp.area_weight=1.0"),
        ("budget.mask_frames=3",),
        ("simrvos.lgcfs_boxes=mean", "simrvos.blcl_levels=consistency"),
    ],
)
def test_what_changes_nothing_is_not_in_the_fingerprint(overrides: tuple[str, ...]) -> None:
    assert digest(basis(*overrides)) == digest(basis())


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=groprompt",),
        ("model=groprompt", "groprompt.text_weight=1.0"),
        ("simrvos.lgcfs=true",),
        ("simrvos.lgcfs=true", "simrvos.lgcfs_weight=0.5"),
        ("simrvos.mil=true",),
        ("simrvos.mil=true", "simrvos.mil_weight=0.5"),
        ("simrvos.blcl=true",),
        ("simrvos.blcl=true", "simrvos.blcl_weight=0.5"),
        ("simrvos.blcl=true", "simrvos.blcl_threshold=0.8"),
        ("simrvos.blcl=true", "simrvos.blcl_balanced=true"),
        ("model=referformer",),
        ("model=referformer", "referformer.blcl=true"),
        ("simrvos.mil=true", "supervision=budget"),
        ("simrvos.mil=true", "supervision=budget", "budget.mask_frames=2"),
        ("model=grounded",),
        ("model=grounded", "grounded.instances=4"),
        ("supervision='masks'",),
        ("supervision='flow'",),
        ("supervision='flow'", "slvp.area_weight=1.0"),
        ("simrvos.fusion='vision'",),
        ("start='other.safetensors'",),
        ("simrvos.mil=true", "supervision='boxes'"),
        ("frame_weights=false",),
        ("model='wsrvos'",),
        ("model='wsrvos'", "wsrvos.negatives_per_clip=9"),
        ("views.zoom=[0.8, 1.4]",),
        ("training.ema_decay=0.99",),
        ("training.validate_every=50",),
        ("training.validate_every=50", "training.patience=3"),
    ],
)
def test_what_is_on_is_in_the_fingerprint(overrides: tuple[str, ...]) -> None:
    assert digest(basis(*overrides)) != digest(basis())
    assert digest(basis(*overrides)) != digest(basis(*overrides[:-1]))


@pytest.mark.parametrize("source", ["model", "annotation"])
@pytest.mark.parametrize("override", ["checkpoint='b.pth'", "adapter='b.safetensors'"])
def test_groprompt_follows_the_grounder_whatever_the_boxes_are(source: str, override: str) -> None:
    words = ["student.model=groprompt", f"ground.source={source}", "ground.checkpoint=a.pth"]
    found = [
        student_basis(load_config(None, [*words, *more]), lambda name: name)
        for more in ((), (f"ground.{override}",))
    ]
    assert found[0] != found[1]
    annotated = ground_basis(load_config(None, ["ground.source=annotation"]), lambda name: name)
    assert "weights" not in annotated, "the data set's boxes need no grounder"


def test_masks_follow_from_what_predicts_and_not_from_what_taught_it(tmp_path: Path) -> None:
    def found(*overrides: str) -> dict[str, Any]:
        return prediction_basis(load_config(None, overrides), lambda name: name)

    simrvos = "student.model=simrvos"
    plain = found(simrvos)
    masks = f"student.masks={str(tmp_path / 'gone.zarr')!r}"
    assert found(simrvos, masks, "student.start=gone") == plain
    assert found(simrvos, "student.training.ema_decay=0.9", "seed=3") == plain
    for override in ("short_side=288", "channels=128", "wsrvos.kept_tokens=4"):
        words = (f"student.{override}", "student.model=wsrvos")
        assert found(*words) != found(words[1])
    for override in ("ground.checkpoint=b", "segment.checkpoint=b", "ground.short_side=64"):
        assert found("student.model=groprompt", override) != found("student.model=groprompt")
        assert found(simrvos, override) == plain
    grounded = "student.model=grounded"
    for override in ("ground.checkpoint=b", "ground.short_side=64"):
        assert found(grounded, override) != found(grounded)
    assert found(grounded, "segment.checkpoint=b") == found(grounded), "it needs no segmenter"
    assert found(grounded, "track.gap=3") != found(grounded), "it links its instances"
    assert found(grounded, "track.source=model") == found(grounded), "it follows them itself"
    assert found(simrvos, "track.gap=3") == plain


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("supervision='boxes'",), "simrvos.mil=true"),
        (("supervision='first_mask_boxes'",), "simrvos.mil=true"),
        (("simrvos.lgcfs=true", "frames_per_clip=1"), "frames_per_clip"),
        (("supervision='text'",), "wsrvos"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        basis(*overrides)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A rendered data set, and a store with its truth for pseudo-masks."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "data", 2, 1, 5)
    reader = open_dataset("shapes", folder / "data", "train")
    store_truth(reader, folder / "masks.zarr", weight=0.5)
    return folder / "data", folder / "masks.zarr"


REGIMES: dict[str, set[str]] = {
    "pseudo_masks": {"mask", "absent"},
    "masks": {"mask", "absent"},
    "first_mask_boxes": {"mask", "boxes", "absent"},
    "boxes": {"boxes", "absent"},
    "first_mask": {"mask", "unknown"},
}


@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_shows_what_it_says_and_no_more(regime: Any, data: tuple[Path, Path]) -> None:
    reader, masks = open_dataset("shapes", data[0], "train"), MaskStore(data[1])
    config = SimrvosStudentConfig(supervision=regime, simrvos=SimrvosConfig(mil=True))
    source = supervision_of(config, reader, masks)
    source = pickle.loads(pickle.dumps(source))  # as processes that read clips get it
    samples = list(source.samples())
    assert [key[:2] for key in samples] == list(masks.samples())
    kinds = set()
    for video_id, expression, weight, _ in samples:
        frames = source.frames(video_id, expression, range(len(weight)))
        kinds |= {item.kind for item in frames}
        assert [item.weight for item in frames] == weight.tolist()
        with_mask = [t for t, item in enumerate(frames) if item.kind == "mask"]
        truth, _, status = masks.read(video_id, expression)
        present = np.flatnonzero(status == Status.PRESENT).tolist()
        expected = {"first_mask": present[:1], "first_mask_boxes": present[:1], "boxes": []}
        assert with_mask == expected.get(regime, present)
        for t in with_mask:
            np.testing.assert_array_equal(frames[t].mask, truth[t])
        if regime in ("boxes", "first_mask_boxes"):
            assert [t for t, item in enumerate(frames) if item.kind != "absent"] == present
    assert kinds - {"absent"} == REGIMES[regime] - {"absent"} and kinds <= REGIMES[regime]


@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_trains_with_everything_switched_on(
    regime: Any, data: tuple[Path, Path]
) -> None:
    reader, masks = open_dataset("shapes", data[0], "train"), MaskStore(data[1])
    config = SimrvosStudentConfig(
        supervision=regime,
        simrvos=SimrvosConfig(lgcfs=True, mil=True, blcl=True),
        steps=3,
        clips_per_step=2,
        frames_per_clip=3,
        short_side=64,
        backbone_learning_rate=1e-4,
    )
    source = supervision_of(config, reader, masks)
    torch.manual_seed(0)
    model = build_student(RunConfig(student=config), CPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clips = Clips(reader, source, Shape(3, 2, fill=True))
    losses = [step.loss for step in Trainer(model, clips, config, device=CPU).steps()]
    assert len(losses) == 3 and np.isfinite(losses).all() and min(losses) > 0
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    parts = ("contrastive.contrast", "contrastive.enhance", "filters", "image_encoder")
    assert all(any(name.startswith(f"network.{part}") for name in changed) for part in parts)


def test_blcl_adds_layers_and_changes_no_other(data: tuple[Path, Path]) -> None:
    states = []
    for blcl in (False, True):
        torch.manual_seed(0)
        config = SimrvosStudentConfig(simrvos=SimrvosConfig(blcl=blcl))
        states.append(build_student(RunConfig(student=config), CPU))
    plain, whole = (model.state_dict() for model in states)
    assert {name.split(".")[1] for name in whole.keys() - plain.keys()} == {"contrastive"}
    assert all(torch.equal(value, whole[name]) for name, value in plain.items())


def test_the_stage_trains_by_its_configuration_and_predicts(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    config = load_config(
        None,
        [
            f"out={str(tmp_path)!r}",
            f"dataset.root={str(data[0])!r}",
            "device=cpu",
            "student.supervision=first_mask_boxes",
            *(f"student.simrvos.{part}=true" for part in ("lgcfs", "mil", "blcl")),
            *("student.steps=2", "student.clips_per_step=2", "student.short_side=64"),
        ],
    )
    context = RunContext(config)
    shutil.copytree(data[1], context.paths.masks)
    counts = train_and_predict(context, "valid")
    samples = len(list(MaskStore(context.paths.masks).samples()))
    assert counts["steps"] == 2 and counts["samples"] == samples
    assert counts["videos predicted"] == 1
    weights = load_file(context.paths.student / "model.safetensors")
    assert any(name.startswith("network.contrastive.") for name in weights)
    predictions = MaskStore(context.paths.predictions)
    reader = open_dataset("shapes", data[0], "valid")
    assert predictions.videos() == list(reader.video_ids())


def test_the_default_student_settles_on_the_videos_that_taught_it(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    words = [f"out={str(tmp_path)!r}", f"dataset.root={str(data[0])!r}", "device=cpu"]
    config = load_config(None, [*words, "student.supervision=masks", "student.short_side=64"])
    student: Any = build_student(config, CPU).eval()
    shown: list[tuple[str, ...]] = []

    def noted(draws: Iterable[Sequence[Clip]]) -> None:
        seen = list(draws)
        shown.extend(tuple(clip.text for clip in clips) for clips in seen)
        assert {len(clip.images) for clips in seen for clip in clips} == {
            len(reader.video(video)) for video in reader.video_ids()
        }, "whole videos"
        type(student).settle(student, seen)

    reader = open_dataset("shapes", data[0], "train")
    student.settle, before = noted, float(student.network.stand_in)
    settle(RunContext(config), student)
    asked = [item.text for video in reader.video_ids() for item in reader.expressions(video)]
    assert sorted(text for texts in shown for text in texts) == sorted(asked)
    assert float(student.network.stand_in) != before


@pytest.mark.slow
def test_the_stage_keeps_nothing_that_another_student_predicted(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(data[0], tmp_path / "data")
    words = (
        f"out={str(tmp_path)!r}",
        f"dataset.root={str(tmp_path / 'data')!r}",
        *("device=cpu", "student.steps=1", "student.clips_per_step=1", "student.short_side=32"),
    )
    context = RunContext(load_config(None, words))
    shutil.copytree(data[1], context.paths.masks)
    train_and_predict(context, "valid")
    assert train_and_predict(context, "train")["videos predicted"] == 2
    predictions = MaskStore(context.paths.predictions)
    assert predictions.videos() == ["train00000", "train00001"], "those of valid are gone"
    second = load_config(None, [*words, f"student.masks={str(predictions.path)!r}"])
    before = student_basis(second, lambda name: name)
    train_and_predict(RunContext(load_config(None, words)), "train")
    assert student_basis(second, lambda name: name) == before, "the same weights again"
    train_and_predict(RunContext(load_config(None, [*words, "student.steps=2"])), "train")
    assert student_basis(second, lambda name: name) != before, "of another first student"
    next((tmp_path / "data/train/JPEGImages/train00001").iterdir()).unlink()
    source = f"student.masks={str(tmp_path / 'one.zarr')!r}"
    shutil.copytree(context.paths.masks / "train00000", tmp_path / "one.zarr" / "train00000")
    counts = train_and_predict(RunContext(load_config(None, [*words, source])), "train")
    assert counts["videos predicted"] == counts["videos skipped"] == 1
    assert predictions.videos() == ["train00000"], "what is skipped has no older masks"


def test_predictions_are_the_students_only_with_its_receipt(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    words = (f"out={str(tmp_path)!r}", f"dataset.root={str(data[0])!r}", "device=cpu")
    context = RunContext(load_config(None, words))
    context.plan = context.make_plan()
    store_truth(open_dataset("shapes", data[0], "valid"), context.paths.predictions, weight=1.0)
    ledger, asked = Ledger(context.paths.folder), context.plan.job("student", "all").fingerprint

    def measured() -> Any:
        do_job(replace(context.the_plan.job("evaluate", "all"), fingerprint="f"), context)
        return json.loads(context.paths.metrics.read_text())["student"]

    def shown() -> bool:
        do_job(replace(context.the_plan.job("report", "all"), fingerprint="f"), context)
        return "What the student predicts" in context.paths.report.read_text()

    assert measured() is None and not shown()
    for fingerprint, known in (("another", False), (asked, True), (f"partial-{asked}", True)):
        ledger.commit(Receipt("student", "all", fingerprint, ()))
        found = measured()
        assert (found is not None) == known == shown()
    assert found["overall"]["J&F"] == 100


def test_a_student_that_was_trained_elsewhere_is_predicted_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RunContext(load_config(None, [f'out="{tmp_path}"']))
    student, history = object(), History([{"dice": 0.5}] * 3)
    pages: list[str] = []

    def elsewhere(folder: Path, publish: Callable[[Any], None]) -> Trained:
        assert folder == context.paths.student
        publish(history)
        return Trained(student, history, 7)  # type: ignore[arg-type]

    def predict(context: RunContext, found: object, *_: Any) -> Counter[str]:
        assert found is student
        return Counter({"predicted": 1})

    context.train_elsewhere = elsewhere
    context.publish = lambda name, page: pages.append(page)
    monkeypatch.setattr(train_module, "predict_split", predict)
    monkeypatch.setattr(train_module, "made_by", lambda *_: "")
    counts = train_and_predict(context, "valid")
    assert counts == {"predicted": 1, "samples": 7, "steps": 3}
    assert len(pages) == 1
