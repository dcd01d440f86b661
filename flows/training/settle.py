"""Lets a trained student see whole videos of those that taught it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flows.context import RunContext
from flows.training.build import taught_by
from pipeline.config import GroundedStudentConfig, ViewsConfig
from pipeline.ports import MaskSource

if TYPE_CHECKING:
    from stages.student.contract import Student
    from stages.student.data.clips import Clip

_DRAWS = 32
"""Most videos that are shown."""
_SENTENCES = 8
"""Of each of them."""


def settle(context: RunContext, student: Student, masks: MaskSource | None = None) -> None:
    """Calls :meth:`stages.student.contract.Student.settle` with videos and their supervision.

    Args:
        context: of the run.
        student: trained and ready to predict.
        masks: in place of the run's.
    """
    from stages.student.contract import SETTLING_FRAMES
    from stages.student.data.clips import Clips, Shape

    config = context.config
    if not isinstance(config.student, GroundedStudentConfig):
        return
    shape = Shape(SETTLING_FRAMES, _SENTENCES, consecutive=True)
    source, plain = taught_by(context, masks), ViewsConfig(mirror=False)
    clips = Clips(context.reader(), source, shape, seed=config.seed, views=plain)
    draws = min(_DRAWS, len(clips))

    def shown() -> Iterator[Sequence[Clip]]:
        for number in range(draws):
            yield clips[number]
            context.progress.advance(1)

    context.progress.begin("student: settle", draws, "videos")
    student.settle(shown())
    context.progress.end()
