"""The rows and columns of the metrics table, on the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SYSTEMS = {"pseudo_masks": "pseudo-masks", "baseline": "plain baseline", "student": "student"}
"""Key in ``metrics.json`` -> the column's title."""

FIGURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("J&F", ("overall", "J&F")),
    ("J", ("overall", "J")),
    ("F", ("overall", "F")),
    ("J&F, appearance", ("by_kind", "appearance", "J&F")),
    ("J&F, place", ("by_kind", "place", "J&F")),
    ("J&F, motion", ("by_kind", "motion", "J&F")),
    ("J&F, relation", ("by_kind", "relation", "J&F")),
    ("frames with a mask", ("frames_present",)),
    ("frames called absent", ("frames_absent",)),
    ("frames unknown", ("frames_unknown",)),
    ("J&F, dropped frames as misses", ("overall_with_dropped_as_misses", "J&F")),
    ("absent frames found", ("absent_frames_found",)),
    ("visible frames right", ("visible_frames", "right")),
    ("visible frames, too much", ("visible_frames", "too much")),
    ("visible frames, too little", ("visible_frames", "too little")),
    ("visible frames, wrong object", ("visible_frames", "wrong object")),
    ("visible frames missed", ("visible_frames", "missed")),
)
"""The rows: a label, and the path of keys to its value in ``metrics.json``."""


def figure(values: Any, keys: Sequence[str]) -> float | None:
    """One metric of a system, in percent; None if it was not measured."""
    for key in keys:
        values = None if values is None else values.get(key)
    return None if values is None else float(values)
