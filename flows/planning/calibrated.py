"""What products depend on if a calibration says what scores stand for."""

from __future__ import annotations

from typing import Any

from flows.planning.fingerprints import Weights, of_grounder, of_mllm, settings
from pipeline.calibration import Calibration
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from storage.calibration_file import read_calibration


def fuse_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What hypotheses depend on.

    Raises:
        InputError: the calibration cannot be read.
        ConfigError: it is of other scores than the run's.
    """
    return {"config": settings(config.fuse)} | _of_calibration(config, weights)


def rank_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What masks and their weights depend on. Raises as :func:`fuse_basis`."""
    return {"config": settings(config.rank)} | _of_calibration(config, weights)


def _of_calibration(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """The content of the calibration, if there is one."""
    if config.fuse.calibration is None:
        return {}
    calibration = read_calibration(config.fuse.calibration)
    _check_calibration(config, calibration, weights)
    return {"calibration": [calibration.scores.tolist(), calibration.probabilities.tolist()]}


def _check_calibration(config: RunConfig, calibration: Calibration, weights: Weights) -> None:
    path = config.fuse.calibration
    if config.ground.source == "annotation":
        raise ConfigError(
            f"fuse.calibration {path} with ground.source={config.ground.source!r}: its boxes have"
            " no scores of a model; expected ground.source='model' or 'mllm'; remove"
            " fuse.calibration"
        )
    mine = basis_of_scores(config, weights)
    # A setting that is newer than the file had its default when the file was made.
    differ = sorted(
        name for name, value in calibration.scores_of.items() if mine.get(name, value) != value
    )
    if differ:
        raise ConfigError(
            f"fuse.calibration {path}: made for scores with other {', '.join(differ)} of ground;"
            " expected those of this run, since scores of two models or settings cannot be"
            " compared; run `pseudolabels calibrate` on a run with these settings"
        )


def basis_of_scores(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What makes the scores of two runs comparable: the grounder's weights, and the settings that
    scores depend on. Raises CheckpointError if weights are missing."""
    basis = settings(config.ground)
    for name in ("runner_ups", "screen", "every"):
        del basis[name]
    if config.ground.source == "mllm":
        return basis | of_mllm(config.ground, weights)
    del basis["mllm"]
    return basis | of_grounder(config.ground, weights)
