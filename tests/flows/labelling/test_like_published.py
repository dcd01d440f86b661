"""A whole run over stand-ins that score as published models do, with the thresholds of a preset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from flows.context import Parts, RunContext
from flows.labelling.executor import InProcess, execute
from flows.planning.presets import config_of_preset
from pipeline.config import load_config
from pipeline.types import Status
from tests.fakes.dataset import write_dataset
from tests.fakes.published import PROFILES, ProfiledGrounder, SureSegmenter

FILLER = "that can be seen there while it is near what was before"
LENGTHS = (3, 6, 8, 16, 40)


def sentence(words: int, colour: str) -> str:
    return " ".join(["the", colour, "square", *(FILLER.split() * 4)][:words])


def labelled(folder: Path, profile: str, level: str) -> dict[str, NDArray[Any]]:
    """Runs over one video with sentences of every length; returns columns of the quality table."""
    data = write_dataset(folder / "data", 1)
    index = data / "meta_expressions" / "train" / "meta_expressions.json"
    values = json.loads(index.read_text())
    values["videos"]["clip00"]["expressions"] = {
        f"{colour}-{words:02d}": {"exp": sentence(words, colour), "obj_id": number}
        for number, colour in (("1", "red"), ("2", "blue"))
        for words in LENGTHS
    }
    index.write_text(json.dumps(values))
    (folder / "weights").write_bytes(b"w")
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{folder / "runs"}"']
    words += ["device=cpu", f"fuse.level={level}", "report.samples=1", "report.frames=1"]
    config = load_config(config_of_preset("small"), [*words, f'ground.text_encoder="{folder}"'])
    parts = Parts(
        grounder=lambda config, device: ProfiledGrounder(config.ground, PROFILES[profile]),
        segmenter=lambda config, device: SureSegmenter(),
        checkpoint_files=lambda checkpoint: [folder / "weights"],
        device=lambda name: None,
    )
    context = RunContext(config, parts)
    context.plan = context.make_plan()
    assert not execute(context, InProcess(context)).failed
    table = pq.read_table(context.paths.quality)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


@pytest.mark.parametrize("level", ["track", "frame"])
@pytest.mark.parametrize("profile", list(PROFILES))
def test_no_sentence_is_absent_for_its_length_and_weights_tell_frames_apart(
    tmp_path: Path, profile: str, level: str
) -> None:
    found = labelled(tmp_path, profile, level)
    seen = found["frame"] < 4  # in the last frame, the blue square is gone
    assert (found["status"][seen] == Status.PRESENT).all()
    present = found["status"] == Status.PRESENT
    assert (found["predicted_iou"][present] > 0.94).all(), "the segmenter is sure of everything"
    assert (found["weight"][seen] > 0.7).all(), "the chosen square leads in each of them"
    if profile != "flat":  # which tells the squares apart without doubt
        alone = found["weight"][(found["frame"] == 4) & (found["expression"] == "red-03")]
        doubtful = found["weight"][(found["frame"] == 0) & (found["expression"] == "red-03")]
        assert doubtful < alone - 0.04, "another square scores nearly as high"
