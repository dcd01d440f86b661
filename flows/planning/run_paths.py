"""Where the parts of a run lie on disk; docs/format.md describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.planning.stages import SHARD_STAGES, STAGE
from stages.common.checkpoints import WEIGHTS
from storage.run.lock import LOCK_FILES

OWN_NAMES = frozenset(
    {"config.toml", "pseudomasks.zarr", "quality.parquet", "metrics.json", "ledger"}
    | {*SHARD_STAGES, "report", "student", "students", "consensus"}
    | LOCK_FILES
)
"""The names of all that a run has in its folder."""

STUDENT_NAMES = frozenset(
    {"config.toml", WEIGHTS, "checkpoint.pt", "losses.csv", "validation.csv", "curves.png"}
    | {"tensorboard", "ray"}
    | LOCK_FILES
)
"""The names of all that `pseudolabels train` has in a student's folder."""


@dataclass(frozen=True)
class RunPaths:
    """The paths of one run.

    Attributes:
        folder: ``<out>/<dataset>-<split>``.
    """

    folder: Path

    def part(self, stage: str, shard: str) -> Path:
        """The product of a stage for one shard."""
        return self.folder / stage / f"{shard}{STAGE[stage].suffix}"

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
