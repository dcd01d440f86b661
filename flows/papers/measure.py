"""Trains and measures the students of a table's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from flows.context import RunContext
from flows.papers.figures import HOURS, check_truth, figures_of
from flows.papers.other_masks import identity_of_masks, masks_of
from flows.papers.rows import FEW, Row, student_of
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGE
from flows.training.build import annotated_clips, student_to_train, taught_by
from flows.training.predict import How, predict_split
from flows.training.settle import settle
from flows.training.train import identity_of
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.fingerprint import digest
from pipeline.ports import DatasetReader
from stages.student.contract import Student
from stages.student.training.fit import fit
from stages.student.training.train import Trainer
from storage.arrays.masks import MaskStore
from storage.files.atomic import replace_file

_VERSION = 2
"""Raised when a figure means something else."""


@dataclass(frozen=True)
class Bench:
    """Where students are trained, and where they are measured.

    Attributes:
        config: returns the configuration that a model's rows start from.
        valid: the split that is measured.
        folder: for what is made on the way: masks, and weights that others start from.
    """

    config: Callable[[str], RunConfig]
    valid: DatasetReader
    folder: Path

    def key(self, row: Row, seed: int) -> str:
        """Returns the digest of all that the figures of a row and a seed follow from."""

        def student(fields: Mapping[str, object]) -> str:
            return identity_of(RunContext(self._configured(Row(fields), seed)))

        made = {"baseline", "unranked"}
        config = self._configured(row, seed)
        return digest(
            {
                "version": _VERSION,
                "student": student(row.student),
                "trained": row.trained,
                "before": None if row.before is None else student(row.before),
                "masks": row.masks,
                "few": FEW if row.masks == "few" else None,
                "teacher": None if row.teacher is None else student(row.teacher),
                "made": identity_of_masks(config, row.masks) if row.masks in made else None,
                "data": [config.dataset.name, config.dataset.split],
                "measured": [self.valid.name, self.valid.split, list(self.valid.video_ids())],
                "evaluate": STAGE["evaluate"].version,
            }
        )

    def check(self, rows: Mapping[str, Row]) -> None:
        """Checks that everything is there that the students of some rows learn from, and that they
        can be measured.

        Raises:
            ConfigError: something is missing; the message names the rows.
        """
        check_truth(self.valid)
        for name, row in rows.items():
            mine = self._configured(row, 0)
            if not row.trained or row.masks == "student":
                continue
            if mine.student.needs_masks and not self._run_masks(mine).videos():
                raise ConfigError(
                    f"{mine.run_folder}: no masks, which the row {name!r} learns from; make them"
                    " with `pseudolabels run`, or choose other rows with --row"
                )
            if mine.student.supervision == "text":
                taught_by(RunContext(mine))

    def figures(self, row: Row, seed: int) -> dict[str, float]:
        """Returns the figures of the student of a row and a seed, which is trained here."""
        mine = self._configured(row, seed)
        if row.before is not None:
            start = str(self._weights(self._configured(Row(row.before), seed)))
            mine = self._configured(Row({**row.student, "start": start}), seed)
        device = RunContext(mine).device
        student, seconds = started(RunContext(mine)), 0.0
        if row.trained:
            student, seconds = taught(mine, self._masks(row, mine, seed))
        if row.teacher is not None:
            _, annotation = annotated_clips(RunContext(self._configured(Row(row.teacher), seed)))
            seconds += 0.0 if annotation is None else annotation.seconds
        return figures_of(student, self.valid, device) | {HOURS: seconds / 3600}

    def _configured(self, row: Row, seed: int) -> RunConfig:
        model = str(row.student.get("model", "grounded"))
        return student_of(self.config(model), row, seed)

    def _masks(self, row: Row, mine: RunConfig, seed: int) -> MaskStore | None:
        """Returns the masks that teach; None for annotation, which needs none."""
        if row.masks == "student":
            assert row.teacher is not None, "the labels of a student have one"
            return self._labels(self._configured(Row(row.teacher), seed))
        if not mine.student.needs_masks and not self._run_masks(mine).videos():
            return None
        return masks_of(mine, row.masks, self.folder)

    def _run_masks(self, mine: RunConfig) -> MaskStore:
        return MaskStore(RunPaths(mine.run_folder).masks)

    def _weights(self, first: RunConfig) -> Path:
        """Returns the file of a student's weights, which is trained unless it is there."""
        name = f"student-{identity_of(RunContext(first))[:12]}.safetensors"
        place = self.folder / name
        if not place.exists():
            student, _ = taught(first, None)
            place.parent.mkdir(parents=True, exist_ok=True)
            weights = {key: value.contiguous() for key, value in student.state_dict().items()}
            with replace_file(place) as file:
                file.write(save(weights))
        return place

    def _labels(self, first: RunConfig) -> MaskStore:
        """Returns what a student predicts of the samples that it learnt from."""
        context = RunContext(first)
        identity = identity_of(context)
        place = self.folder / f"student-{identity[:12]}.zarr"
        store = MaskStore(place)
        if set(store.videos()) < set(context.reader().video_ids()):
            student, _ = taught(first, None)
            predict_split(context, student, How(first.dataset.split), place, identity)
        return store


def started(context: RunContext) -> Student:
    """Returns a student that has learnt nothing yet."""
    torch.manual_seed(context.config.seed)
    return student_to_train(context.config, context.device).eval()


def taught(config: RunConfig, masks: MaskStore | None) -> tuple[Student, float]:
    """Returns a student that is trained here, and the seconds that its annotation takes to make.

    Args:
        masks: that teach it; None for the run's, or for annotation.
    """
    context = RunContext(config)
    student, (clips, annotation) = started(context), annotated_clips(context, masks)
    fit(Trainer(student, clips, config.student, device=context.device), config.student.training)
    settle(context, student.eval(), masks)
    return student, 0.0 if annotation is None else annotation.seconds
