"""Scores of two grounders cannot be compared, whatever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.planning.calibrated import basis_of_scores, fuse_basis, rank_basis
from pipeline.calibration import Calibration
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from storage.calibration_file import write_calibration

ASKED = ["ground.source=mllm", "ground.mllm.endpoint=http://x/v1", "ground.mllm.endpoint_model=m"]
ASKED += ["ground.mllm.coordinates=pixels"]


def digest(checkpoint: str) -> str:
    return f"digest of {checkpoint}"


def calibrated(tmp_path: Path, made_for: RunConfig, *words: str) -> RunConfig:
    path = tmp_path / "c.json"
    knots = np.array([0.0, 1.0]), np.array([0.1, 0.9])
    write_calibration(path, Calibration(*knots, basis_of_scores(made_for, digest)), {})
    return load_config(None, [*words, f'fuse.calibration="{path}"'])


@pytest.mark.parametrize("words", [[], ASKED], ids=["model", "mllm"])
def test_a_calibration_counts_for_masks_and_their_weights(tmp_path: Path, words: list[str]) -> None:
    plain = load_config(None, words)
    config = calibrated(tmp_path, plain, *words)
    for basis in (fuse_basis, rank_basis):
        assert basis(config, digest)["calibration"] == [[0, 1], [0.1, 0.9]]
        assert "calibration" not in basis(plain, digest)


def test_a_calibration_of_another_kind_of_grounder_is_refused(tmp_path: Path) -> None:
    model, asked = load_config(None, []), load_config(None, ASKED)
    with pytest.raises(ConfigError, match=r"with other joint, source of"):
        rank_basis(calibrated(tmp_path, asked), digest)
    with pytest.raises(ConfigError, match=r"with other .*source"):
        rank_basis(calibrated(tmp_path, model, *ASKED), digest)
    other = [*ASKED, "ground.mllm.max_new_tokens=64"]
    with pytest.raises(ConfigError, match="with other mllm of ground"):
        rank_basis(calibrated(tmp_path, asked, *other), digest)
    with pytest.raises(ConfigError, match="have no scores of a model"):
        rank_basis(calibrated(tmp_path, model, "ground.source=annotation"), digest)
