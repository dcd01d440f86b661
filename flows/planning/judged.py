"""What a judge's answers depend on."""

from __future__ import annotations

from typing import Any

from flows.planning.fingerprints import Weights, settings
from pipeline.config import RunConfig

READING = 1
"""Raised when a judge is asked otherwise, or its answers are read otherwise."""

_RULE = ("source", "below", "tracks")
_FRAMES = (*_RULE, "frames", "max_pixels", "max_new_tokens")
_COUNTS = {
    "stand_in": _RULE,
    "model": (*_FRAMES, "dtype"),
    "endpoint": (*_FRAMES, "endpoint", "endpoint_model", "extra_body"),
}
"""Source -> the settings that count for it."""


def judge_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What the answers depend on. Raises CheckpointError if weights are missing."""
    section = config.judge
    found = settings(section)
    basis: dict[str, Any] = {
        "config": {name: found[name] for name in _COUNTS[section.source]},
        "seed": config.seed,
        "reading": READING,
    }
    if section.source == "model":
        assert section.checkpoint is not None, "the configuration is checked"
        basis["weights"] = weights(section.checkpoint)
    return basis
