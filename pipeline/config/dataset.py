"""The sections of the data: which videos a run works on."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import MAX_SEED, Links, Place, Section

_PLAIN_NAME = re.compile(r"\w[\w .+-]{0,99}")


class DatasetConfig(Section):
    """Which videos a run works on.

    Attributes:
        name: name of a reader, such as ``refytvos``.
        root: the data set's folder, or its address in an object store: ``s3://bucket/prefix``,
            ``gs://…``, ``az://…``. For ``shapes``, videos are rendered into a folder that is
            missing.
        split: the split to label and to train on.
        predict_split: the split that the student predicts. None stands for ``valid``, ``val``
            or ``test``, the first that the data set has, else for the labelled split.
        only_videos: ids of the videos to work on; empty for all.
        links: ``follow`` reads files through links wherever they lead, as caches and data version
            control need. ``inside`` refuses a link that leads out of the data set; use it for a
            data set that you do not trust.
        frames_per_second: of the data set ``videos``: frames that are taken of a second of a video
            file; None for all frames. It does not apply to folders of frames, which have no times.
        max_size: of the data set ``videos``: frames whose longest side has more pixels are scaled
            down to it; None for the size that they have.

    ``name`` and the splits become parts of paths, so they may not be paths themselves.
    """

    name: str = "shapes"
    root: Place | None = None
    split: str = "train"
    predict_split: str | None = None
    only_videos: tuple[str, ...] = ()
    links: Links = "follow"
    frames_per_second: float | None = Field(None, gt=0, le=1000)
    max_size: int | None = Field(None, ge=16)

    @field_validator("name", "split", "predict_split")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not _PLAIN_NAME.fullmatch(value):
            raise ValueError(
                f"{value[:80]!r} is not a plain name; expected letters, digits, - _ . and spaces"
            )
        return value

    @model_validator(mode="after")
    def _only_videos_are_sampled(self) -> DatasetConfig:
        if self.name != "videos" and self.sampling:
            raise ValueError(
                f"{' and '.join(self.sampling)} with the data set {self.name!r}; they are for the"
                " data set 'videos' alone; leave them out"
            )
        return self

    @property
    def sampling(self) -> dict[str, float]:
        """The settings of the frames that are taken, without those that are not set."""
        found = {"frames_per_second": self.frames_per_second, "max_size": self.max_size}
        return {name: value for name, value in found.items() if value is not None}


class ShapesConfig(Section):
    """What is rendered if ``dataset.name`` is ``shapes`` and its root is missing.

    Attributes:
        train_videos, valid_videos: number of videos of each split.
        seed: of everything that is drawn.
        hard: whether videos are long, with look-alikes that cross, occlusions, returns and cuts.
    """

    train_videos: int = Field(24, ge=1)
    valid_videos: int = Field(8, ge=1)
    seed: int = Field(2026, ge=0, le=MAX_SEED)
    hard: bool = False
