"""Knows where the files of a run are; docs/format.md describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.planning.stages import SHARD_STAGES, STAGE
from stages.common.checkpoints import WEIGHTS
from storage.run.lock import LOCK_FILES

OWN_NAMES = frozenset(
    {"config.toml", "pseudomasks.zarr", "quality.parquet", "metrics.json", "ledger"}
    | {"review.jsonl", "guarantee.parquet", "calibration.json", "calibration.png"}
    | {*SHARD_STAGES, "report", "student", "students", "consensus"}
    | LOCK_FILES
)
"""Names of everything in the folder of a run."""

STUDENT_NAMES = frozenset(
    {"config.toml", WEIGHTS, "checkpoint.pt", "losses.csv", "validation.csv", "curves.png"}
    | {"tensorboard", "ray"}
    | LOCK_FILES
)
"""Names of everything in the folder of a student that `pseudolabels train` made."""


@dataclass(frozen=True)
class RunPaths:
    """The paths of one run.

    Attributes:
        folder: ``<out>/<dataset>-<split>``.
    """

    folder: Path

    def part(self, stage: str, shard: str) -> Path:
        """Returns the path of a stage's product for one shard."""
        return self.folder / stage / f"{shard}{STAGE[stage].suffix}"

    def followed(self, shard: str) -> tuple[Path, Path]:
        """Returns the paths of the boxes and candidates of a tracker with a model."""
        folder = self.folder / "track"
        return folder / f"{shard}.boxes.parquet", folder / f"{shard}.zarr"

    def judgements(self, shard: str) -> Path:
        """Returns the table of a judge's answers."""
        return self.folder / "judge" / f"{shard}.parquet"

    def boxes(self, shard: str) -> Path:
        """Returns the table of boxes that the tracks of a shard belong to."""
        followed, _ = self.followed(shard)
        return followed if followed.is_file() else self.part("ground", shard)

    def candidates(self, shard: str) -> Path:
        """Returns the store of candidates that the tracks of a shard belong to."""
        followed, candidates = self.followed(shard)
        return candidates if followed.is_file() else self.part("segment", shard)

    def baseline(self, shard: str) -> Path:
        """Returns the masks of the plain baseline, which are kept where candidates are not."""
        return self.folder / "segment" / f"{shard}.baseline.zarr"

    def candidates_and_hypotheses(self, stage: str, shard: str) -> tuple[Path, ...]:
        """Returns what of a stage's product finished masks do not need."""
        if stage == "track":
            return self.followed(shard)[1:]
        return (self.part(stage, shard),) if stage in ("segment", "fuse") else ()

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
        """Returns the folder of a student that `pseudolabels train` made."""
        return self.folder / "students" / name

    @property
    def predictions(self) -> Path:
        return self.student / "predictions.zarr"

    @property
    def consensus(self) -> Path:
        """Folder of the masks that `pseudolabels import-masks` fused."""
        return self.folder / "consensus"

    @property
    def decisions(self) -> Path:
        """What people decided about the masks."""
        return self.folder / "review.jsonl"

    @property
    def guarantee(self) -> Path:
        """What is promised of the masks, of `pseudolabels guarantee`."""
        return self.folder / "guarantee.parquet"

    @property
    def calibration(self) -> Path:
        """What the grounder's scores stand for, of `pseudolabels calibrate`."""
        return self.folder / "calibration.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report" / "index.html"

    @property
    def cards(self) -> tuple[Path, Path]:
        """The data card, for people and for programs."""
        return self.report.with_name("card.md"), self.report.with_name("croissant.json")
