"""A calibration of a run, from ground truth, masks in a folder, decisions or another run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from flows.commands.main import app
from flows.context import RunContext
from flows.planning.run_config import write_run_config
from flows.review.calibrate import calibrate, percentiles
from pipeline.decisions import Decision, now
from pipeline.errors import ConfigError, PseudoLabelError
from pipeline.types import Boxes
from storage.calibration_file import read_calibration
from storage.decisions import append_decisions
from tests.fakes.stages import FakeGrounder, fake_parts
from tests.flows.conftest import Site, finish


class DoubtfulGrounder(FakeGrounder):
    """Every third box is somewhere else. Scores say so, on a scale of their own: .2 to .3."""

    def __init__(self) -> None:
        self.count = 0

    def _frame(self, image: NDArray[np.uint8], texts: Any) -> Boxes:
        found = super()._frame(image, texts)
        score, xyxy = found.score.copy(), found.xyxy.copy()
        for row in range(len(found)):
            self.count += 1
            wrong = self.count % 3 == 0
            score[row] = (0.2 if wrong else 0.3) + 0.001 * (self.count % 7)
            if wrong:
                xyxy[row] = (0, 34, 6, 40)
        return Boxes(xyxy, score, found.text, found.rank)


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("doubtful"))
    finish(made, grounder=lambda config, device: DoubtfulGrounder())
    return made


def context_of(site: Site, *words: str) -> RunContext:
    return RunContext(site.config(*words), fake_parts(site.weights))


def test_ground_truth_makes_scores_probabilities(doubtful: Site, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    made = calibrate(context_of(doubtful), "truth", out)
    assert (made.auroc, len(made.labels.videos)) == (1.0, 4)
    assert made.error < 0.1 < made.raw_error
    found = read_calibration(out)
    assert found(0.2) < 0.1
    assert found(0.31) > 0.9
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    kept = {row.limit: row for row in made.kept}
    assert "absent_below" in kept[0.25].name
    assert kept[0.5].right == 1
    assert kept[0.5].found == 1
    assert made.warnings == [
        "Labels of 4 videos: the probabilities may be those of these videos alone; label frames of"
        " more"
    ]


def test_thresholds_are_probabilities_with_a_calibration(doubtful: Site, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    calibrate(context_of(doubtful), "truth", out)
    words = f'fuse.calibration="{out}"', "fuse.absent_below=0.5", "fuse.uncertain_below=0.6"
    limits = context_of(doubtful, *words).judging.fuse
    assert 0.205 < limits.absent_below < limits.uncertain_below < 0.305
    plain = context_of(doubtful, *words[1:]).judging.fuse
    assert (plain.absent_below, plain.uncertain_below) == (0.5, 0.6)


def test_its_content_is_in_the_fingerprints_of_fuse_and_rank(
    doubtful: Site, tmp_path: Path
) -> None:
    def due(*words: str) -> list[str]:
        plan = context_of(doubtful, *words).make_plan(remember=False)
        return [stage for stage in ("ground", "track", "fuse") if plan.pending(stage)]

    first, second = tmp_path / "a.json", tmp_path / "b.json"
    calibrate(context_of(doubtful), "truth", first)
    shutil.copy(first, second)
    assert due() == []
    assert due(f'fuse.calibration="{first}"') == ["fuse"]
    keys = [
        context_of(doubtful, f'fuse.calibration="{path}"').make_plan(remember=False)
        for path in (first, second)
    ]
    for stage in ("fuse", "rank"):
        prints = [[job.fingerprint for job in plan.jobs[stage]] for plan in keys]
        assert prints[0] == prints[1]
    plain = context_of(doubtful).make_plan(remember=False).jobs["rank"]
    assert plain[0].fingerprint != keys[0].jobs["rank"][0].fingerprint


def test_a_calibration_of_other_scores_is_refused(doubtful: Site, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    calibrate(context_of(doubtful), "truth", out)
    words = [f'fuse.calibration="{out}"', "ground.short_side=128", "ground.score=max"]
    with pytest.raises(ConfigError, match="other score, short_side of ground"):
        context_of(doubtful, *words).make_plan(remember=False)
    with pytest.raises(ConfigError, match="no scores of a model"):
        words = [f'fuse.calibration="{out}"', "ground.source=annotation"]
        context_of(doubtful, *words).make_plan(remember=False)
    with pytest.raises(ConfigError, match="boxes of a data set have no scores"):
        calibrate(context_of(doubtful, "ground.source=annotation"), "truth", out)


def test_masks_in_a_folder_label_their_frames_alone(doubtful: Site, tmp_path: Path) -> None:
    masks = tmp_path / "labels"
    for video in ("clip00", "clip01", "clip02"):
        for expression, value in (("0", 1), ("1", 2)):
            place = masks / video / expression
            place.mkdir(parents=True)
            source = doubtful.data / "train" / "Annotations" / video
            for path in sorted(source.iterdir())[:3]:
                mask = np.array(Image.open(path)) == value
                Image.fromarray(mask.astype(np.uint8) * 255).save(place / path.name)
    out = tmp_path / "c.json"
    made = calibrate(context_of(doubtful), str(masks), out)
    everything = calibrate(context_of(doubtful), "truth", out)
    assert len(made.labels.videos) == 3
    assert 0.3 < len(made.labels) / len(everything.labels) < 0.6
    assert made.auroc == 1
    for video in ("clip01", "clip02"):
        shutil.rmtree(masks / video)
    with pytest.raises(
        PseudoLabelError, match=r"1 videos, \d+ right and \d+ wrong boxes; expected at least 2"
    ):
        calibrate(context_of(doubtful), str(masks), out)


def test_decisions_are_labels(doubtful: Site, tmp_path: Path) -> None:
    copied = Site.__new__(Site)
    copied.__dict__.update(doubtful.__dict__)
    copied.out = tmp_path / "runs"
    shutil.copytree(doubtful.out, copied.out)

    def decide(video: str, expression: str, action: Any, **more: Any) -> None:
        made = Decision("anna", now(), video, expression, action, **more)
        append_decisions(copied.folder / "review.jsonl", [made])

    for video in ("clip00", "clip01", "clip02"):
        decide(video, "0", "accept")
        decide(video, "1", "absent")
    made = calibrate(context_of(copied), "decisions", tmp_path / "c.json")
    assert len(made.labels.videos) == 3
    assert 0 < made.labels.right.sum() < len(made.labels)
    decide("clip03", "0", "reject")
    more = calibrate(context_of(copied), "decisions", tmp_path / "c.json")
    added = np.array([video == "clip03" for video in more.labels.video])
    assert added.any(), "boxes where the rejected mask is"
    assert not more.labels.right[added].any()


def test_another_run_of_the_same_grounder_can_give_the_labels(
    doubtful: Site, tmp_path: Path
) -> None:
    write_run_config(doubtful.folder / "config.toml", doubtful.config())
    made = calibrate(context_of(doubtful), str(doubtful.folder), tmp_path / "c.json")
    assert made.auroc == 1
    with pytest.raises(ConfigError, match="a run with other score of ground"):
        calibrate(context_of(doubtful, "ground.score=max"), str(doubtful.folder))


def test_without_labels_the_scores_are_shown_with_a_warning(doubtful: Site) -> None:
    found = dict(percentiles(context_of(doubtful)))
    assert 0.2 <= found[5] < found[95] <= 0.31
    write_run_config(doubtful.folder / "config.toml", doubtful.config())
    said = CliRunner().invoke(app, ["calibrate", str(doubtful.folder)])
    assert said.exit_code == 0, said.output
    assert "Warning: no labels" in said.output
    assert not (doubtful.folder / "calibration.json").exists()


def test_the_command_prints_what_it_found(doubtful: Site, tmp_path: Path) -> None:
    write_run_config(doubtful.folder / "config.toml", doubtful.config())
    out = tmp_path / "c.json"
    words = ["calibrate", doubtful.folder, "--labels", "truth", "--out", out]
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert said.exit_code == 0, said.output
    for part in ("Expected calibration error", "Reliability", "What thresholds keep", "AUROC"):
        assert part in said.output
    assert read_calibration(out)(0.31) > 0.9
