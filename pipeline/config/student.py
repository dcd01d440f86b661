"""The section of stage ``student``: what all students share, and one class for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from pipeline.config.dataset import DatasetConfig
from pipeline.config.networks import (
    GroPromptConfig,
    GroundedConfig,
    ReferformerConfig,
    SimrvosConfig,
    SlvpConfig,
    WeakConfig,
    WsrvosConfig,
)
from pipeline.config.section import Section, UsersPath
from pipeline.config.training import (
    BOXES,
    FIRST_MASK,
    FIRST_MASK_BOXES,
    BudgetConfig,
    StudentEncodersConfig,
    Supervision,
    TrainingConfig,
    ViewsConfig,
)


class StudentConfig(Section):
    """Stage ``student``: the settings that every student has.

    Attributes:
        enabled: False ends the run after the pseudo-masks.
        model: which student: ``grounded``, ``simrvos``, ``referformer``, ``wsrvos`` or
            ``groprompt``. Its own settings are in the section of its name.
        supervision: what teaches the student. ``pseudo_masks`` are the run's. The others are the
            data set's own annotation of the same samples: all ``masks``, the ``first_mask`` of the
            target, ``boxes``, or ``first_mask_boxes``: the first mask, and boxes in the other
            frames. ``budget`` is a part of it that the section ``budget`` names.
            ``text`` is the sentences alone (WSRVOS). ``flow`` is the optical flow of the
            frames and needs no run (SimRVOS, by SLVP).
        masks: a mask store to use in place of the run's pseudo-masks, such as another student's
            predictions of the labelled split (two-step training). It may hold fewer samples.
        frame_weights: whether the weights of the pseudo-masks' frames count. False gives every
            frame of known status the weight 1.
        reviewed_only: whether only samples count that people accepted, or whose object they chose.
        minimum_j: only samples count of which `pseudolabels guarantee` promised this J or more;
            None for all.
        joint: further data sets that teach by their own annotation, as joint training with RefCOCO
            does; such as ``[{name = "refcoco", root = "DIR"}]``. ``supervision`` says which part of
            it, and ``pseudo_masks`` stands for all.
        initialise: ``demo`` starts the image encoder, and what joins it to the text, from the demo
            grounder; ``scratch`` starts them from random weights. The text encoder is the demo
            grounder's in both, and frozen.
        start: weights of another student of the same shape to start from in place of
            ``initialise``: its folder, or the file.
        steps: optimiser steps. An epoch is every sentence once.
        clips_per_step: clips in an optimiser step, each of one video.
        frames_per_clip: frames in a clip; T of the equations.
        expressions_per_clip: sentences of a video that are taught on the same frames, which are
            encoded once for all of them.
        short_side: pixels that a frame's short side is resized to. GroPrompt uses
            ``ground.short_side`` in its place.
        channels: C of the equations (SimRVOS, ReferFormer, WSRVOS), or of the pixel features
            (grounded).
        learning_rate: of AdamW (the paper: 5e-5).
        backbone_learning_rate: of AdamW for the image encoder (the paper: 2.5e-5). 0 freezes it.
        weight_decay: of AdamW.
    """

    enabled: bool = True
    model: str
    supervision: Supervision = "pseudo_masks"
    budget: BudgetConfig = BudgetConfig()
    masks: UsersPath | None = None
    frame_weights: bool = True
    reviewed_only: bool = False
    minimum_j: float | None = Field(None, gt=0, lt=1)
    joint: tuple[DatasetConfig, ...] = ()
    initialise: Literal["demo", "scratch"] = "demo"
    start: UsersPath | None = None
    steps: int = Field(400, ge=1)
    clips_per_step: int = Field(3, ge=1)
    frames_per_clip: int = Field(3, ge=1)
    expressions_per_clip: int = Field(4, ge=1)
    short_side: int = Field(144, ge=32)
    channels: int = Field(64, ge=16, multiple_of=8)
    learning_rate: float = Field(1e-3, gt=0)
    backbone_learning_rate: float = Field(0.0, ge=0)
    weight_decay: float = Field(5e-4, ge=0)
    views: ViewsConfig = ViewsConfig()
    training: TrainingConfig = TrainingConfig()
    encoders: StudentEncodersConfig = StudentEncodersConfig()

    taught_by: ClassVar[frozenset[Supervision]] = frozenset()
    """The kinds of supervision that this student can learn from."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.supervision not in self.taught_by:
            raise ValueError(
                f"supervision {self.supervision!r} with model {self.model!r}; expected one of"
                f" {', '.join(sorted(self.taught_by))}; 'text' is for model='wsrvos', 'flow' for"
                " model='simrvos'"
            )
        if self.joint and self.supervision in ("text", "flow"):
            raise ValueError(
                f"joint with supervision {self.supervision!r}; further data sets teach by their"
                " masks or boxes; leave student.joint out, or take another student.supervision"
            )
        if self.joint and self.annotation and self.annotation.mask_choice == "weight":
            raise ValueError(
                "joint with budget.mask_choice='weight'; further data sets have no weights of a"
                " run; take another student.budget.mask_choice, or leave student.joint out"
            )
        return self

    @property
    def weak(self) -> WeakConfig | None:
        """The losses of masks by weak annotation; None for a student without them."""
        return None

    @property
    def needs_masks(self) -> bool:
        """Whether it learns from the run's masks, or from samples that they decide."""
        part = self.annotation
        by_masks = part is not None and part.needs_masks
        chosen = self.reviewed_only or self.minimum_j is not None or self.masks is not None
        return self.supervision == "pseudo_masks" or by_masks or chosen

    @property
    def annotation(self) -> BudgetConfig | None:
        """The part of the data set's annotation that teaches; None for all masks, or for none."""
        parts = {
            "boxes": BOXES,
            "first_mask": FIRST_MASK,
            "first_mask_boxes": FIRST_MASK_BOXES,
            "budget": self.budget,
        }
        return parts.get(self.supervision)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        name, weak = self.model, self.weak
        points = self.annotation is not None and self.annotation.points_every > 0
        if points and weak is None:
            raise ValueError(
                f"budget.points_every with model {name!r}; it does not learn from points; set"
                " student.budget.points_every=0, or take model='simrvos' or 'referformer'"
            )
        if weak is None:
            return self
        boxes = self.annotation is not None and self.annotation.boxes_every > 0
        if boxes and not weak.mil:
            raise ValueError(
                f"supervision {self.supervision!r} with {name}.mil off: masks learn from boxes by"
                f" MIL alone; set student.{name}.mil=true, or student.supervision=first_mask to"
                " leave the boxes out"
            )
        if weak.lgcfs and self.frames_per_clip < 2:
            raise ValueError(
                f"{name}.lgcfs with frames_per_clip 1: there is no other frame; set"
                f" student.frames_per_clip to 2 or more, or student.{name}.lgcfs=false"
            )
        return self


class SimrvosStudentConfig(StudentConfig):
    """Stage ``student`` with SimRVOS, or with SLVP's loss where optical flow teaches it."""

    model: Literal["simrvos"] = "simrvos"
    simrvos: SimrvosConfig = SimrvosConfig()
    slvp: SlvpConfig = SlvpConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text"}

    @property
    def weak(self) -> WeakConfig:
        return self.simrvos


class ReferformerStudentConfig(StudentConfig):
    """Stage ``student`` with ReferFormer."""

    model: Literal["referformer"] = "referformer"
    referformer: ReferformerConfig = ReferformerConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text", "flow"}

    @property
    def weak(self) -> WeakConfig:
        return self.referformer


class WsrvosStudentConfig(StudentConfig):
    """Stage ``student`` with WSRVOS."""

    model: Literal["wsrvos"] = "wsrvos"
    wsrvos: WsrvosConfig = WsrvosConfig()

    taught_by = frozenset({"pseudo_masks", "masks", "first_mask", "budget", "text"})


class GroPromptStudentConfig(StudentConfig):
    """Stage ``student`` with GroPrompt."""

    model: Literal["groprompt"] = "groprompt"
    groprompt: GroPromptConfig = GroPromptConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text", "flow"}


class GroundedStudentConfig(StudentConfig):
    """Stage ``student`` with the student ``grounded``."""

    model: Literal["grounded"] = "grounded"
    steps: int = Field(300, ge=1)
    frames_per_clip: int = Field(6, ge=1)
    channels: int = Field(32, ge=16, multiple_of=8)
    learning_rate: float = Field(2e-3, gt=0)
    grounded: GroundedConfig = GroundedConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text", "flow"}


_OWNERS: Mapping[str, str] = {
    "simrvos": "simrvos",
    "slvp": "simrvos",
    "supervision=flow": "simrvos",
    "referformer": "referformer",
    "wsrvos": "wsrvos",
    "supervision=text": "wsrvos",
    "groprompt": "groprompt",
}
"""Settings that one student alone has."""

AnyStudentConfig = (
    GroundedStudentConfig
    | SimrvosStudentConfig
    | ReferformerStudentConfig
    | WsrvosStudentConfig
    | GroPromptStudentConfig
)


def model_of(section: Mapping[str, Any]) -> str:
    """Returns the student that a section is of: ``grounded`` if its settings fit any."""
    signs = [*section, f"supervision={section.get('supervision')}"]
    return next((_OWNERS[sign] for sign in signs if sign in _OWNERS), "grounded")
