"""The Python interface: finished runs as objects, clips for training loops.

``pseudolabels`` at the top of the project exports it; use that name.
"""

from __future__ import annotations

from flows.api.clips import Clip, ClipBatch, ClipDataset, collate_clips
from flows.api.label import label
from flows.api.results import LabelledExpression, LabelledRun, load_run

__all__ = [
    "Clip",
    "ClipBatch",
    "ClipDataset",
    "LabelledExpression",
    "LabelledRun",
    "collate_clips",
    "label",
    "load_run",
]
