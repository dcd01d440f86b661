"""What the students of a table start from: a paper's settings, or small ones for a rehearsal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.planning.presets import PAPERS, settings_of_paper

STUDENTS = ("grounded", "simrvos", "referformer", "wsrvos", "groprompt")

_SMALL = ("student.short_side=96", "student.training.checkpoint_every=100000")

REHEARSAL: Mapping[str, Sequence[str]] = {
    "grounded": ("student.steps=100",),
    "simrvos": (
        *_SMALL,
        "student.steps=150",
        "student.simrvos.focal_weight=20",
        "student.simrvos.blcl_balanced=true",
    ),
    "referformer": (*_SMALL, "student.steps=150", "student.referformer.focal_weight=20"),
    "wsrvos": (
        *_SMALL,
        "student.steps=100",
        "student.expressions_per_clip=1",
        "student.clips_per_step=4",
        "student.learning_rate=3e-4",
    ),
    "groprompt": (
        "student.steps=60",
        "student.learning_rate=5e-4",
        # At the size that it was trained at, the demo grounder has nothing to learn.
        "ground.short_side=56",
        "ground.long_side=112",
    ),
}
"""Settings of each student on `shapes`, for two to four minutes of one CPU core."""


def settings_of(model: str, rehearsal: bool) -> list[str]:
    """Returns the settings that a model's rows start from, as ``section.key=value``.

    Args:
        rehearsal: small settings in place of the paper's. A model without a paper has the defaults.
    """
    if rehearsal:
        return [f"student.model={model}", *REHEARSAL[model]]
    return [f"student.model={model}", *(settings_of_paper(model) if model in PAPERS else ())]


def without_others(model: str, words: Sequence[str]) -> list[str]:
    """Returns words of a command line without the settings of other models' sections."""
    others = tuple(f"student.{name}." for name in STUDENTS if name != model)
    return [word for word in words if not word.strip().startswith(others)]
