"""All settings of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.augment import AugmentConfig
from pipeline.config.dataset import DatasetConfig, ShapesConfig
from pipeline.config.ground import GroundConfig
from pipeline.config.judge import JudgeConfig
from pipeline.config.masks import FuseConfig, RankConfig, SegmentConfig, TrackConfig
from pipeline.config.section import MAX_SEED, Place, Section
from pipeline.config.student import AnyStudentConfig, GroundedStudentConfig, model_of

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")


class ReportConfig(Section):
    """The report page.

    Attributes:
        samples: how many samples it shows.
        frames: frames that it shows of each.
        width: of the frames, pixels.
    """

    samples: int = Field(60, ge=0)
    frames: int = Field(6, ge=1)
    width: int = Field(224, ge=32)


class RunnerConfig(Section):
    """Where shards are worked on. No result depends on it.

    Attributes:
        kind: ``local`` works in this process; ``ray`` on the workers of a Ray cluster, each on one
            shard at a time.
        workers: workers of a cluster that is started here, and processes of a training. None stands
            for one per GPU of this machine, or two without a GPU.
        address: of a running cluster, such as ``ray://host:10001``; None starts one here. Its
            machines must see the data set and the run's folder under the same absolute paths,
            unless they are in an object store.
        decode_workers: threads that decode frames ahead of the model; 0 decodes in the main thread.
        batches_ahead: largest number of frame batches that wait for the model.
        writes_behind: largest number of results that wait to be written; 0 writes at once.
        shard_timeout: seconds that a stage may take for one shard, as where a device hangs. The
            shard fails then, and the run goes on with the others. None waits for ever.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1)
    address: str | None = None
    decode_workers: int = Field(2, ge=0, le=64)
    batches_ahead: int = Field(2, ge=1)
    writes_behind: int = Field(1, ge=0)
    shard_timeout: float | None = Field(None, gt=0)


class RunConfig(Section):
    """All settings of a run.

    Attributes:
        out: folder that holds runs, or its address in an object store: ``s3://bucket/prefix``,
            ``gs://…``, ``az://…``. This run's folder is ``<out>/<dataset>-<split>``.
        seed: random seed.
        device: ``auto`` uses CUDA if there is a GPU. A device that is named must exist.
        shard_videos: videos per shard. A shard is the unit that is processed, stored and resumed.
        maximum_failed_share: the run fails if a larger share of its shards failed.
        keep: ``masks`` removes the candidates and hypotheses of a shard once its masks are measured
            and reported; ``all`` keeps them. No result depends on it.
    """

    out: Place = Path("runs")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    device: str = "auto"
    shard_videos: int = Field(4, ge=1)
    maximum_failed_share: float = Field(0.0, ge=0, le=1)
    keep: Literal["all", "masks"] = "all"
    dataset: DatasetConfig = DatasetConfig()
    shapes: ShapesConfig = ShapesConfig()
    augment: AugmentConfig = AugmentConfig()
    ground: GroundConfig = GroundConfig()
    segment: SegmentConfig = SegmentConfig()
    track: TrackConfig = TrackConfig()
    fuse: FuseConfig = FuseConfig()
    judge: JudgeConfig = JudgeConfig()
    rank: RankConfig = RankConfig()
    student: AnyStudentConfig = Field(GroundedStudentConfig(), discriminator="model")
    report: ReportConfig = ReportConfig()
    runner: RunnerConfig = RunnerConfig()

    @field_validator("student", mode="before")
    @classmethod
    def _default_model(cls, value: Any) -> Any:
        """A section that names no student is of the one that its settings belong to, else of
        ``grounded``."""
        return {"model": model_of(value), **value} if isinstance(value, Mapping) else value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError(f"{value!r} is not a device; expected auto, cpu, cuda, cuda:N or mps")
        return value

    @model_validator(mode="after")
    def _judges_tracks(self) -> Self:
        if self.judge.is_on and self.fuse.level != "track":
            raise ValueError(
                f"judge.source {self.judge.source!r} with fuse.level 'frame': a judge chooses among"
                " tracks; set fuse.level to 'track', or judge.source to 'none'"
            )
        return self

    @property
    def run_folder(self) -> Path:
        """The folder of the run; of a run in an object store, its local copy."""
        return self.out / f"{self.dataset.name}-{self.dataset.split}"
