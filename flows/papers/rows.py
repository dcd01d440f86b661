"""One row of a table: a student, and whose masks teach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.config import RunConfig, config_from

Masks = Literal["run", "baseline", "unranked", "few", "student"]

FEW = 6
"""Videos whose masks teach, of a row that asks what was learnt before them."""


@dataclass(frozen=True)
class Row:
    """One kind of student.

    Attributes:
        student: fields of the configuration's section, ``a.b`` for one of a section within.
        masks: whose pseudo-masks: of the run; the ``baseline``'s, the best box of the sentence in
            every frame; ``unranked``, the best instance of every frame; of the run's first
            ``few`` videos; or of the ``student`` of the same seed that ``teacher`` describes
            (SimRVOS's two-step training).
        trained: False takes the student as it starts.
        before: fields of the student of the same seed whose weights it starts from; none for its
            own start.
        teacher: fields of the student whose predictions are the masks of ``student``.
        published: the paper's figures in percent, by data set and metric.
    """

    student: Mapping[str, Any]
    masks: Masks = "run"
    trained: bool = True
    before: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def student_of(config: RunConfig, row: Row, seed: int) -> RunConfig:
    """The configuration of one student.

    A row of another student than the configuration's starts from that student's defaults.
    """
    values = config.model_dump(mode="json", exclude_none=True)
    if row.student.get("model", config.student.model) != config.student.model:
        values["student"] = {"enabled": config.student.enabled}
    for name, value in row.student.items():
        *sections, field_name = name.split(".")
        place = values["student"]
        for section in sections:
            place = place.setdefault(section, {})
        place[field_name] = value
    return config_from({**values, "seed": seed}, "the row")
