"""How a student is trained, and by what: sections within that of the student."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section, UsersPath


class ViewsConfig(Section):
    """How a clip is augmented before a student sees it. All its frames change in the same way.

    Attributes:
        mirror: whether every second clip is mirrored. Left and right change places in its sentence.
        zoom: smallest and largest factor by which a clip is enlarged about a random point. What
            leaves the frame is cut off; below 1, the border is grey. The paper's short sides of 288
            to 512 for 360 are 0.8 to 1.4. A clip is not zoomed if a sentence names a place in the
            frame, such as 'on the left'.
        brightness, contrast, saturation: x; each is multiplied by a factor from 1 - x to 1 + x.
        hue: x; hues are turned by a share of the circle from -x to x. Sentences keep their names of
            colours, so a small share only.
    """

    mirror: bool = True
    zoom: tuple[float, float] = (1.0, 1.0)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    saturation: float = Field(0.0, ge=0, lt=1)
    hue: float = Field(0.0, ge=0, le=0.5)

    @field_validator("zoom")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= value[0] <= value[1] <= 10:
            raise ValueError(
                f"{list(value)}; expected the smallest and the largest factor, within 0.1 to 10"
            )
        return value


class TrainingConfig(Section):
    """How any student is trained.

    Attributes:
        schedule: of the learning rate. ``cosine`` falls to 0; ``steps`` divides it by ten at each
            milestone.
        milestones: shares of all steps; the default is the paper's epochs 9 and 15 of 18.
        warm_up: share of all steps over which the learning rate rises from 0.
        max_grad_norm: gradients are clipped to this norm.
        dtype: of the forward pass. Weights stay float32.
        ema_decay: decay of the moving average of the weights, which predicts; 0 for none.
        validate_every: steps between two measurements of J&F; 0 for none. The best student is kept.
        validate_split: the split that is measured.
        validate_videos: its first videos, this many.
        patience: training ends after this many measurements without a better one; 0 never ends it.
        gradient_accumulation_steps: parts that a step's clips go through the model in.
        workers: processes that read clips; 0 reads them in the training process.
        checkpoint_every: steps between two checkpoints that training can resume from.
    """

    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.833)
    warm_up: float = Field(0.05, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    ema_decay: float = Field(0.0, ge=0, lt=1)
    validate_every: int = Field(0, ge=0)
    validate_split: str = "valid"
    validate_videos: int = Field(8, ge=1)
    patience: int = Field(0, ge=0)
    gradient_accumulation_steps: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    checkpoint_every: int = Field(100, ge=1)


class StudentEncodersConfig(Section):
    """The image encoder and the text encoder of SimRVOS and WSRVOS.

    Attributes:
        backbone: ``demo`` is the demo grounder's Swin; the others are torchvision's.
        backbone_checkpoint: torchvision's weights of that model; None starts from random weights.
        text_encoder: ``demo``, or the folder of a text encoder of transformers, such as
            roberta-base. It is frozen.
    """

    backbone: Literal["demo", "resnet50", "resnet101", "video-swin-t"] = "demo"
    backbone_checkpoint: UsersPath | None = None
    text_encoder: Literal["demo"] | UsersPath = Field("demo", union_mode="left_to_right")

    @model_validator(mode="after")
    def _goes_together(self) -> StudentEncodersConfig:
        if self.backbone == "demo" and self.backbone_checkpoint is not None:
            raise ValueError(
                f"backbone_checkpoint {str(self.backbone_checkpoint)!r} with backbone 'demo',"
                " which has its own weights; set backbone to the model that the weights are of"
            )
        return self


Supervision = Literal[
    "pseudo_masks", "masks", "first_mask_boxes", "boxes", "first_mask", "budget", "text", "flow"
]
"""What can teach a student."""


class BudgetConfig(Section):
    """What part of a data set's annotation a sample has (``student.supervision=budget``).

    Attributes:
        mask_frames: frames with a mask, of those that show the target.
        mask_choice: which ones: the ``first`` ones, ``even`` distances over the video, ``random``
            ones, or those of the least ``weight`` in the run's masks, of which the least is known.
        boxes_every: of the other annotated frames, each so-many-th has boxes; 0 for none.
        points_every: of the frames that are left, each so-many-th has a point on the target; 0 for
            none. Only students with masks of their own features learn from points.
        others: what the frames without annotation teach: ``nothing``, or the run's
            ``pseudo_masks``.
    """

    mask_frames: int = Field(1, ge=0)
    mask_choice: Literal["first", "even", "random", "weight"] = "first"
    boxes_every: int = Field(1, ge=0)
    points_every: int = Field(0, ge=0)
    others: Literal["nothing", "pseudo_masks"] = "nothing"

    @property
    def needs_masks(self) -> bool:
        """Whether it needs the run's masks."""
        return self.mask_choice == "weight" or self.others == "pseudo_masks"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.mask_frames or self.boxes_every or self.points_every):
            raise ValueError("no masks, boxes or points; expected one of them above 0")
        return self


FIRST_MASK = BudgetConfig(boxes_every=0)
FIRST_MASK_BOXES = BudgetConfig()
BOXES = BudgetConfig(mask_frames=0)
