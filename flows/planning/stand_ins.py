"""Says when demo models, which know rendered shapes alone, work on other videos."""

from __future__ import annotations

from pipeline.config import RunConfig

REMEDY = (
    "For published weights use --preset small, base or large; `pseudolabels doctor` says which"
    " fits."
)


def stand_in_warning(config: RunConfig) -> str:
    """Returns a sentence about the demo models that make the masks of another data set than
    ``shapes``; empty if there are none."""
    used = {"ground": config.ground.checkpoint, "segment": config.segment.checkpoint}
    if not config.ground.uses_checkpoint:
        del used["ground"]
    if config.track.uses_checkpoint:
        used["track"] = config.track.checkpoint
    stages = [stage for stage, checkpoint in used.items() if checkpoint.startswith("demo:")]
    if not stages or config.dataset.name == "shapes":
        return ""
    return (
        f"Demo models ({' and '.join(stages)}) know rendered shapes alone: expect wrong masks on"
        " other videos."
    )
