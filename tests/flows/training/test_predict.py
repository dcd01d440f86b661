"""What a student predicts in the forms that evaluations take, by one that tells colours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from flows.evaluation.coco_queries import evaluate_queries
from flows.evaluation.davis import evaluate_refdavis
from flows.evaluation.expressions import evaluate_expressions
from flows.training import predict as prediction
from flows.training.predict import How, predict
from flows.training.prediction_place import Form
from pipeline.config import load_config
from pipeline.errors import ConfigError, InputError, PseudoLabelError
from stages.student.contract import Student
from stages.student.predict import predict_video
from storage.datasets import open_dataset
from storage.files.images import read_mask, read_scores
from tests.storage.datasets import trees

QUIET = Console(quiet=True)


class Colours(Student):
    """Finds what is red, or blue, as the sentence says."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, *_: object) -> dict[str, Tensor]:
        raise NotImplementedError

    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        self.seen += len(images)
        redness = images[..., 0].float() - images[..., 2].float()
        signs = torch.tensor([1.0 if "red" in text else -1.0 for text in texts])
        return (signs[:, None, None, None] * redness - 100) / 10


@pytest.fixture
def student(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Colours:
    found = Colours()
    monkeypatch.setattr(prediction, "load_student", lambda *_: found)
    monkeypatch.setattr(prediction, "made_by", lambda *_: "colours")
    return found


def predicted(
    name: str, root: Path, split: str, to: Path, form: Form = "masks", frames: int = 8
) -> dict[str, int]:
    config = load_config(
        None, [f"dataset.name={name}", f"dataset.root={str(root)!r}", "device=cpu"]
    )
    return predict(config, None, to, How(split, frames), QUIET, root, form)


@pytest.mark.usefixtures("student")
def test_scores_are_those_that_masks_are_made_of(tmp_path: Path) -> None:
    root, out = trees.refytvos(tmp_path / "data", "valid"), tmp_path / "out"
    assert predicted("refytvos", root, "valid", out, "scores")["predicted"] == 1
    for path in (out / "Annotations").rglob("*.png"):
        scores = read_scores(out / "Scores" / path.relative_to(out / "Annotations"))
        assert np.array_equal(scores > 0.5, read_mask(path) > 0)
        assert len(np.unique(scores)) > 2
    figures = evaluate_expressions(out, "refytvos", root, "valid").systems["predictions"]
    assert figures["J"] > 0.8
    assert figures["mAP 0.5:0.95"] > 0.6
    # A folder with masks alone gets the scores too.
    shutil.rmtree(out / "Scores")
    assert predicted("refytvos", root, "valid", out)["there before"] == 1
    assert predicted("refytvos", root, "valid", out, "scores")["predicted"] == 1


@pytest.mark.usefixtures("student")
def test_merged_objects_are_index_masks_of_each_annotation_set(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path / "data", split="valid")
    assert predicted("refdavis", root, "valid", tmp_path / "out", "merged")["predicted"] == 1
    for number in range(4):
        for frame in range(3):
            found = read_mask(tmp_path / f"out/anno_{number}/clip/{frame:05d}.png")
            assert (found != trees.index_mask(frame)).mean() < 0.03
    merged = evaluate_refdavis(tmp_path / "out", root)
    assert merged.problems == []
    predicted("refdavis", root, "valid", tmp_path / "scored", "scores")
    scored = evaluate_refdavis(tmp_path / "scored", root)
    assert scored.systems == merged.systems
    assert merged.systems["fixed ids, mean"]["J&F"] > 0.8
    assert predicted("refdavis", root, "valid", tmp_path / "out", "merged")["there before"] == 1


def test_a2d_gets_a_result_for_each_instance_of_each_annotated_frame(
    student: Colours, tmp_path: Path
) -> None:
    root = trees.a2d(tmp_path / "data")
    sets = root / "Release/videoset.csv"
    sets.write_text(sets.read_text().replace("3,3,0", "3,3,1"))
    shutil.rmtree(root / "text_annotations/a2d_annotation_with_instances/clip/", ignore_errors=True)
    masks = np.stack([trees.object_mask(1, 1), trees.object_mask(2, 1)])
    place = root / "text_annotations/a2d_annotation_with_instances/clip/00002.h5"
    trees.write_instances(place, [0, 1], masks)
    out = tmp_path / "results.json"
    assert predicted("a2d", root, "test", out, frames=1)["predicted"] == 1
    assert student.seen == 1, "frames that are not measured are not predicted"
    rows = json.loads(out.read_text())
    assert [row["image_id"] for row in rows] == ["v_clip_f_2_i_0", "v_clip_f_2_i_1"]
    assert all(0.5 < row["score"] <= 1 for row in rows)
    figures = evaluate_queries(out, "a2d", None, root).systems["predictions"]
    assert figures["P@0.5"] == 1
    assert figures["J"] > 0.8


@pytest.mark.usefixtures("student")
def test_jhmdb_gets_a_result_for_each_frame_that_its_file_names(tmp_path: Path) -> None:
    root = trees.jhmdb(tmp_path / "data")
    out = tmp_path / "results.json"
    with pytest.raises(InputError, match=r"samples_metadata\.json: no such file"):
        predicted("jhmdb", root, "test", out)
    samples = [
        ["clip", f"Rename_Images/jump/clip/0000{frame}.png", "m", 3, "x"] for frame in (3, 1)
    ]
    (root / "jhmdb_sentences_samples_metadata.json").write_text(json.dumps(samples))
    assert predicted("jhmdb", root, "test", out)["predicted"] == 1
    assert [row["image_id"] for row in json.loads(out.read_text())] == ["v_clip_f_3", "v_clip_f_1"]
    figures = evaluate_queries(out, "jhmdb", None, root).systems["predictions"]
    assert figures["mAP 0.5:0.95"] > 0.9
    shutil.rmtree(root / "Rename_Images/jump/clip")
    out.unlink()
    with pytest.raises(PseudoLabelError, match="no video of split 'test' could be predicted"):
        predicted("jhmdb", root, "test", out)
    assert not out.exists()


@pytest.mark.usefixtures("student")
@pytest.mark.parametrize(
    ("to", "form", "words"),
    [
        ("out.json", "masks", "a JSON file with the data set refytvos; expected one of a2d, jhmdb"),
        ("out.zip", "scores", "--scores with --to .*only a folder"),
        ("out.zarr", "scores", "--scores with --to .*only a folder"),
        ("out", "merged", "--merge with the data set refytvos: only refdavis"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(
    tmp_path: Path, to: str, form: Form, words: str
) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    with pytest.raises(ConfigError, match=words):
        predicted("refytvos", root, "valid", tmp_path / to, form)
    assert not (tmp_path / to).exists()


def test_windows_without_a_wanted_frame_are_left_out_and_online_ones_seen(
    student: Colours, tmp_path: Path
) -> None:
    reader = open_dataset("refytvos", trees.refytvos(tmp_path), "train")
    video = reader.video("clip")

    def windows(online: bool) -> list[range]:
        parts = predict_video(
            student, reader, video, ["red"], torch.device("cpu"), frames=2, online=online,
            wanted={2}, scores=True,
        )  # fmt: skip
        return [part.frames for part in parts]

    assert windows(online=False) == [range(2, 3)]
    assert student.seen == 1
    assert windows(online=True) == [range(2, 3)]
    assert student.seen == 3, "the frame before is seen with it"
