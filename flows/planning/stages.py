"""The stages of a run, in order: what each reads, what it writes and what its product depends on.

The work of a stage is ``run`` in ``flows/labelling/<name>.py``. It loads models, so it is imported
only when the stage runs. This module loads none, and neither does planning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.planning import calibrated, fingerprints, judged
from flows.planning.sources import Kind
from storage.files.names import is_safe_name, stored_name

if TYPE_CHECKING:
    from flows.planning.run_paths import RunPaths
    from pipeline.config import RunConfig

Basis = Callable[["RunConfig", fingerprints.Weights], dict[str, Any]]
Files = Callable[["RunPaths", str, Sequence[str]], list[Path]]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage, of its section in the configuration and of its folder in a run.
        version: raise it when the stage gives another result for the same configuration.
        reads: stages whose products it reads, if the run has them.
        over: ``shard``: one job per shard of videos. ``run``: one job for the whole run.
        suffix: of the product of a shard, ``<run>/<name>/<shard><suffix>``.
        depends_on: what the product depends on beside the version and the inputs.
        more_files: files and folders of the product beside that of the shard, given the shard's
            name and its videos. For a stage of the whole run, all of them.
        looks_at: what it reads of the data set, ``frames`` and ``truth``, for a configuration.
        is_on: whether a run of this configuration has the stage.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    over: Literal["shard", "run"] = "shard"
    suffix: str = ""
    depends_on: Basis = lambda config, weights: {}
    more_files: Files = lambda paths, shard, videos: []
    looks_at: Callable[[RunConfig], tuple[Kind, ...]] = lambda config: ()
    is_on: Callable[[RunConfig], bool] = lambda config: True

    def basis(self, config: RunConfig, weights: fingerprints.Weights) -> dict[str, Any]:
        """What the fingerprint covers beside the inputs. Holds no path, device or batch size."""
        return {
            "stage": self.name,
            "version": self.version,
            **self.depends_on(config, weights),
        }

    def product(self, paths: RunPaths, shard: str, videos: Sequence[str] = ()) -> list[Path]:
        """The files and folders of the product.

        Args:
            videos: of the shard; with none, files that are named after videos are left out.

        Returns:
            The first path must exist for a receipt to count.
        """
        own = [paths.part(self.name, shard)] if self.over == "shard" else []
        return own + self.more_files(paths, shard, videos)


def _masks(paths: RunPaths, shard: str, videos: Sequence[str]) -> list[Path]:
    # A video whose id cannot name a folder was skipped and has no masks.
    return [paths.masks / stored_name(video) for video in videos if is_safe_name(video)]


def _taught_by(config: RunConfig) -> tuple[Kind, ...]:
    annotated = config.student.supervision not in ("pseudo_masks", "text", "flow")
    return ("frames", "truth") if annotated else ("frames",)


_STAGES = (
    Stage(
        "augment",
        version=3,
        reads=(),
        suffix=".parquet",
        depends_on=fingerprints.augment_basis,
        # Also without a model: a video that cannot be read is skipped here.
        looks_at=lambda config: ("frames",),
    ),
    Stage(
        "ground",
        version=2,
        reads=("augment",),
        suffix=".parquet",
        depends_on=fingerprints.ground_basis,
        looks_at=lambda config: ("truth",) if config.ground.source == "annotation" else ("frames",),
    ),
    Stage(
        "segment",
        version=3,
        reads=("ground",),
        suffix=".zarr",
        depends_on=fingerprints.segment_basis,
        looks_at=lambda config: ("frames",),
        more_files=lambda paths, shard, videos: [paths.baseline(shard)],
    ),
    Stage(
        "track",
        version=2,
        reads=("augment", "ground", "segment"),
        suffix=".parquet",
        depends_on=fingerprints.track_basis,
        looks_at=lambda config: ("frames",),
        more_files=lambda paths, shard, videos: list(paths.followed(shard)),
    ),
    Stage(
        "fuse",
        version=5,
        reads=("augment", "ground", "segment", "track"),
        suffix=".zarr",
        depends_on=calibrated.fuse_basis,
        looks_at=lambda config: ("frames",),
    ),
    Stage(
        "judge",
        version=1,
        reads=("augment", "ground", "segment", "track", "fuse"),
        suffix=".zarr",
        depends_on=judged.judge_basis,
        looks_at=lambda config: ("frames",),
        more_files=lambda paths, shard, videos: [paths.judgements(shard)],
        is_on=lambda config: config.judge.is_on,
    ),
    Stage(
        "rank",
        version=6,
        reads=("segment", "track", "fuse", "judge"),
        suffix=".parquet",
        depends_on=calibrated.rank_basis,
        looks_at=lambda config: ("frames",),
        more_files=_masks,
    ),
    Stage(
        "merge",
        version=1,
        reads=("rank",),
        over="run",
        more_files=lambda paths, shard, videos: [paths.quality, paths.masks / "zarr.json"],
    ),
    Stage(
        "student",
        version=6,
        reads=("augment", "rank"),
        over="run",
        depends_on=fingerprints.student_basis,
        more_files=lambda paths, shard, videos: [paths.student],
        looks_at=_taught_by,
        is_on=lambda config: config.student.enabled,
    ),
    Stage(
        "evaluate",
        version=2,
        reads=("augment", "ground", "segment", "rank", "student"),
        over="run",
        more_files=lambda paths, shard, videos: [paths.metrics],
        looks_at=lambda config: ("truth",),
    ),
    Stage(
        "report",
        version=3,
        reads=("augment", "judge", "rank", "merge", "student", "evaluate"),
        over="run",
        depends_on=lambda config, weights: {"config": fingerprints.settings(config.report)},
        more_files=lambda paths, shard, videos: [paths.report, *paths.cards],
        looks_at=lambda config: ("frames", "truth"),
    ),
)

STAGE: Mapping[str, Stage] = {stage.name: stage for stage in _STAGES}
"""Every stage by its name, in the order in which they run."""

STAGES = tuple(STAGE)
SHARD_STAGES = tuple(stage.name for stage in _STAGES if stage.over == "shard")
RUN_STAGES = tuple(stage.name for stage in _STAGES if stage.over == "run")


def shard_stages_of(config: RunConfig) -> tuple[str, ...]:
    """Returns the stages over shards that a run of a configuration has, in their order."""
    return tuple(name for name in SHARD_STAGES if STAGE[name].is_on(config))


ALL = "all"
"""The shard of a stage of the whole run."""
