"""A floor under the quality of the shipped demo checkpoints, through the real stages."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from flows.context import RunContext
from flows.dataset import prepare_dataset
from flows.labelling.executor import InProcess, execute
from pipeline.config import load_config
from storage.arrays.masks import MaskStore


def test_the_demo_checkpoints_label_unseen_videos_well(tmp_path: Path) -> None:
    words = ["dataset.name=shapes", f'out="{tmp_path}"', "student.enabled=false", "device=cpu"]
    words += ["shapes.train_videos=2", "shapes.valid_videos=1", "shapes.seed=31"]
    config = load_config(None, [*words, "report.samples=1", "report.frames=1"])
    prepare_dataset(config, Console(quiet=True).print)
    context = RunContext(config)
    context.plan = context.make_plan()
    assert not execute(context, InProcess(context)).failed
    assert len(MaskStore(context.paths.masks).videos()) == 2
    metrics = json.loads(context.paths.metrics.read_text())
    ours, baseline = metrics["pseudo_masks"], metrics["baseline"]
    assert ours["overall_with_dropped_as_misses"]["J&F"] > 78
    assert ours["absent_frames_found"] is None or ours["absent_frames_found"] > 50
    assert ours["overall"]["J&F"] > baseline["overall"]["J&F"] + 2
