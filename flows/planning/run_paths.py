"""Where the parts of a run lie on disk; docs/format.md describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.run.lock import LOCK_FILES

SHARD_STAGES = ("augment", "ground", "segment", "fuse", "rank")
"""Stages that work on one shard of videos, in order."""

RUN_STAGES = ("merge", "student", "evaluate", "report")
"""Stages that work on the whole run, in order; their one shard is ``ALL``."""

STAGES = SHARD_STAGES + RUN_STAGES

OWN_NAMES = frozenset(
    {"config.toml", "pseudomasks.zarr", "quality.parquet", "metrics.json", "ledger"}
    | {*SHARD_STAGES, "report", "student", "students", "consensus"}
    | LOCK_FILES
)
"""All that a run has in its folder, by name."""

ALL = "all"

WEIGHTS = "model.safetensors"
"""Of a student, in its folder."""

STUDENT_NAMES = frozenset(
    {"config.toml", WEIGHTS, "checkpoint.pt", "losses.csv", "validation.csv", "curves.png"}
    | {"tensorboard", "ray"}
    | LOCK_FILES
)
"""All that `pseudolabels train` has in a student's folder, by name."""

_SUFFIX = {
    "augment": ".parquet",
    "ground": ".parquet",
    "segment": ".zarr",
    "fuse": ".zarr",
    "rank": ".parquet",
}


@dataclass(frozen=True)
class RunPaths:
    """The paths of one run.

    Attributes:
        folder: ``<out>/<dataset>-<split>``.
    """

    folder: Path

    def part(self, stage: str, shard: str) -> Path:
        """The product of a stage for one shard."""
        return self.folder / stage / f"{shard}{_SUFFIX[stage]}"

    def product(self, stage: str, shard: str) -> Path:
        """What must be there for the stage's receipt to count."""
        match stage:
            case "merge":
                return self.quality
            case "student":
                return self.student
            case "evaluate":
                return self.metrics
            case "report":
                return self.report
            case _:
                return self.part(stage, shard)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def masks(self) -> Path:
        return self.folder / "pseudomasks.zarr"

    @property
    def quality(self) -> Path:
        return self.folder / "quality.parquet"

    @property
    def student(self) -> Path:
        return self.folder / "student"

    def student_named(self, name: str) -> Path:
        """The folder of a student that `pseudolabels train` trained."""
        return self.folder / "students" / name

    @property
    def predictions(self) -> Path:
        return self.student / "predictions.zarr"

    @property
    def consensus(self) -> Path:
        """Folder of the masks that other methods' and the run's were fused to."""
        return self.folder / "consensus"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report" / "index.html"


def weights_of_student(place: Path) -> Path:
    """The file of a student's weights, which its folder stands for as well."""
    return place / WEIGHTS if place.is_dir() else place
