"""``pseudolabels demo-models`` for a few steps: what it writes, the stages load."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flows.commands.demo_models import train_demo_models
from pipeline.config import AugmentConfig, GroundConfig, SegmentConfig, TrackConfig
from pipeline.errors import ConfigError
from stages.demo import figures

IMAGE = np.zeros((144, 256, 3), np.uint8)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Two steps of everything, and figures on two frames."""
    import torch

    from flows.commands.demo_models import STEPS

    torch.set_num_threads(1)
    ground, segment, track = (
        figures.ground_figures,
        figures.segment_figures,
        figures.track_figures,
    )
    monkeypatch.setattr(figures, "ground_figures", lambda model: ground(model, frames=2))
    monkeypatch.setattr(figures, "segment_figures", lambda sam: segment(sam, frames=2))
    monkeypatch.setattr(figures, "track_figures", lambda tracker: track(tracker, videos=2))
    monkeypatch.setattr(figures, "captioner_figures", lambda captioner: {"measure": "none"})
    return dict.fromkeys(STEPS, 2)


def trained(name: str, out: Path, steps: dict[str, int]) -> tuple[dict[str, Any], str]:
    said = io.StringIO()
    found = train_demo_models(out, [name], "cpu", 3, Console(file=said, width=200), steps)
    assert sorted(path.name for path in out.iterdir()) == [name]
    assert json.loads((out / name / "figures.json").read_text()) == found[name]
    assert found[name]["seed"] == 3 and "measure" in found[name]
    return found[name], said.getvalue()


@pytest.mark.slow
def test_a_grounder_is_trained_and_loads(tmp_path: Path, quick: dict[str, int]) -> None:
    import torch

    from stages.ground.grounder import load_grounder

    figure, said = trained("ground", tmp_path, quick)
    assert figure["videos"] == 2 and "step 1 of 2" in said
    config = GroundConfig(checkpoint=str(tmp_path / "ground"))
    grounder = load_grounder(config, torch.device("cpu"))
    [boxes] = grounder.ground(grounder.embed([IMAGE]), ["the red star"])
    assert len(boxes) >= 1


@pytest.mark.slow
def test_a_segmenter_is_trained_and_loads(tmp_path: Path, quick: dict[str, int]) -> None:
    import torch

    from stages.segment.segmenter import load_segmenter

    figure, said = trained("segment", tmp_path, quick)
    assert 0 <= figure["true_box"] <= 1 and "step 1 of 2" in said
    config = SegmentConfig(checkpoint=str(tmp_path / "segment"))
    segmenter = load_segmenter(config, torch.device("cpu"))
    box = np.array([[10, 10, 60, 60]], np.float32)
    [candidates] = segmenter.decode(segmenter.embed([IMAGE]), [box])
    assert len(candidates) == 1


@pytest.mark.slow
def test_a_tracker_is_trained_and_loads(tmp_path: Path, quick: dict[str, int]) -> None:
    import torch

    from stages.track.video_model import load_tracker

    figure, said = trained("track", tmp_path, quick)
    assert set(figure["shapes"]["J"]) == {"1", "8", "24"} and "step 1 of 2" in said
    tracker = load_tracker(TrackConfig(checkpoint=str(tmp_path / "track")), torch.device("cpu"))
    box = np.array([10, 10, 60, 60], np.float32)
    found = list(tracker.follow([IMAGE] * 2, {0: {0: box}}, (36, 64)))
    assert [item.objects.tolist() for item in found] == [[0], [0]]


@pytest.mark.slow
def test_a_captioner_is_trained_and_loads(tmp_path: Path, quick: dict[str, int]) -> None:
    import torch

    from stages.augment import load_captioner

    _, said = trained("captioner", tmp_path, quick)
    assert "step 1 of 2" in said
    load_captioner(
        AugmentConfig(source="model", checkpoint=str(tmp_path / "captioner")),
        torch.device("cpu"),
        0,
    )


def test_an_unknown_demo_model_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grund.*ground, segment, track, captioner"):
        train_demo_models(tmp_path, ["segment", "grund"], "cpu", 0, Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == []
