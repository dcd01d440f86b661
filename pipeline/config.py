"""The configuration of a run: one frozen model a stage, read from TOML, strict about names.

What a section holds is what its stage's result depends on, except for the fields listed in
``EXECUTION``, which change how fast a result comes and not what it is; fingerprints leave them out.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import urlsplit

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.errors import ConfigError
from pipeline.text import read_text

EXECUTION = frozenset(
    {
        "attention",
        "batch_frames",
        "batch_pairs",
        "batch_texts",
        "checkpoint_every",
        "compile",
        "concurrency",
        "gradient_accumulation_steps",
        "workers",
    }
)
"""Fields that a fingerprint leaves out."""


_PLAIN_NAME = re.compile(r"\w[\w .+-]{0,99}")


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")

MAX_SEED = (1 << 32) - 1
"""Every generator of random numbers takes seeds from 0 to this."""


def _users_path(value: Path) -> Path:
    """A path with the user's home folder in place of ``~``."""
    if "\0" in str(value):
        raise ValueError("holds a null character; expected a path")
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}; give the whole path, or set HOME") from error


def _checkpoint(value: str) -> str:
    return str(_users_path(Path(value))) if value.startswith("~") else value


UsersPath = Annotated[Path, AfterValidator(_users_path)]
Checkpoint = Annotated[str, AfterValidator(_checkpoint)]


Links = Literal["follow", "inside"]
"""What to do about links in a data set: follow them wherever they lead, or only inside it."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetConfig(Section):
    """Which videos.

    Attributes:
        name: a reader's name.
        root: the data set's folder; for ``shapes`` rendered there if missing.
        split: the split to label and train on.
        predict_split: the split that the student predicts; None for ``valid`` where there is
            one, else the labelled split.
        only_videos: ids to restrict the run to; empty for all.
        links: ``follow`` reads through links to files wherever they lie, as caches and version
            control of data lay data sets out; ``inside`` refuses a link that leads out of the data
            set, for one that is not trusted.

    Name and splits are parts of paths, and no paths.
    """

    name: str = "shapes"
    root: UsersPath | None = None
    split: str = "train"
    predict_split: str | None = None
    only_videos: tuple[str, ...] = ()
    links: Links = "follow"

    @field_validator("name", "split", "predict_split")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not _PLAIN_NAME.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is no plain name: letters, digits, - _ . and spaces")
        return value


class ShapesConfig(Section):
    """What is rendered when ``dataset.name`` is ``shapes`` and its root is missing."""

    train_videos: int = Field(24, ge=1)
    valid_videos: int = Field(8, ge=1)
    seed: int = Field(2026, ge=0, le=MAX_SEED)


class AugmentConfig(Section):
    """Stage ``augment`` (WSRVOS, contrastive referring expression augmentation).

    Attributes:
        source: ``model`` (a transformers image-text-to-text model), ``endpoint`` (any
            OpenAI-compatible server), ``lexicon`` (rules, no model), ``file`` (a WSRVOS
            augmentation file), ``none`` (the original alone).
        positives: K, the original among them; the paper's is 6. The demo grounder knows few words,
            and paraphrases cost it more than they tell it, so the default is 2.
        negatives: N; the paper's is 48.
        siblings: other sentences of the data set about the same object are positives, where it says
            which object a sentence is about (its object ids, never its masks).
        frames: frames of the video that the model sees, evenly spaced.
        minimum_similarity: positives below it are dropped (the paper: 0.8).
        checkpoint: folder of the model; ``demo:NAME`` is one that ships with the project.
        sha256: digest of the weights file in it, checked where it is given.
        endpoint: base URL; ``api_key_env`` names the environment variable with the key.
        endpoint_model: what the server calls the model.
        timeout_seconds, concurrency: of one call of the endpoint; calls at a time.
        retries: further attempts where an answer does not parse; calls of an endpoint that fail are
            made up to five times.
        max_new_tokens: of one answer, which must hold all positives and negatives.
        temperature: 0 writes the most likely words.
        batch_texts: sentences in one pass of a model of transformers.
    """

    source: Literal["model", "endpoint", "lexicon", "file", "none"] = "lexicon"
    positives: int = Field(2, ge=1)
    negatives: int = Field(12, ge=0)
    siblings: bool = True
    frames: int = Field(4, ge=1)
    minimum_similarity: float = Field(0.5, ge=0, le=1)
    checkpoint: Checkpoint = "demo:captioner"
    sha256: str | None = None
    file: UsersPath | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = Field(120.0, gt=0)
    concurrency: int = Field(8, ge=1)
    retries: int = Field(2, ge=0)
    max_new_tokens: int = Field(1024, ge=16)
    temperature: float = Field(0.0, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_texts: int = Field(8, ge=1)

    @property
    def needs_frames(self) -> bool:
        """Whether the captioner looks at frames."""
        return self.source in ("model", "endpoint")

    @field_validator("endpoint")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that begins with http:// or https://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            # The value itself is not said: it is what must not be written anywhere.
            raise ValueError(
                "the address holds a user name, a password or a query, which would be stored with"
                " the run and shown in its report; give the plain address, up to and with /v1, and"
                " put the key into the environment variable OPENAI_API_KEY, or the one that"
                " augment.api_key_env names"
            )
        return value

    @model_validator(mode="after")
    def _complete(self) -> AugmentConfig:
        if self.source == "endpoint" and not (self.endpoint and self.endpoint_model):
            raise ValueError("source 'endpoint' needs endpoint and endpoint_model")
        if self.source == "file" and self.file is None:
            raise ValueError("source 'file' needs file, a WSRVOS augmentation JSON")
        return self


class GroundConfig(Section):
    """Stage ``ground``.

    Attributes:
        source: ``model`` (Grounding DINO) or ``annotation`` (the data set's boxes).
        checkpoint: weights file, or ``demo:ground``.
        backbone: ``demo``, ``swin_T_224_1k`` or ``swin_B_384_22k``, as groundingdino names them.
        text_encoder: folder of the BERT that goes with the weights; None for the demo model.
        adapter: ``model.safetensors`` of a GroPrompt student, whose decoder takes the place of the
            checkpoint's; None for the checkpoint as it is.
        runner_ups: boxes kept of a text beside its best (R - 1).
        score: a box's similarity to a sentence: the mean or the maximum over its tokens.
        joint: sentences that share a pass of the transformer, each with its own words only (the
            sub-sentence mask of Grounding DINO); 1 is exact, more is faster. Published models find
            less with many; the demo model was trained with up to ten.
        every: the model sees one frame in so many, the first and the last always; boxes of the
            frames between are filled in along straight lines. 1 sees every frame.
        short_side, long_side: pixels; the frame is resized to the first within the second.
        attention: of the transformer: ``fused``, deformable attention as one sum and the fusion of
            text and image without projecting the image, or ``explicit``, as groundingdino has
            them. They agree within rounding; a fingerprint does not tell them apart.
        compile: the image backbone with ``torch.compile``, once for each size of frames; agrees
            within rounding.
        batch_pairs: (frame, caption) pairs in one pass of the transformer.
    """

    source: Literal["model", "annotation"] = "model"
    checkpoint: Checkpoint = "demo:ground"
    sha256: str | None = None
    backbone: Literal["demo", "swin_T_224_1k", "swin_B_384_22k"] = "demo"
    text_encoder: UsersPath | None = None
    adapter: UsersPath | None = None
    runner_ups: int = Field(2, ge=0)
    score: Literal["mean", "max"] = "mean"
    joint: int = Field(8, ge=1, le=32)
    every: int = Field(1, ge=1)
    short_side: int = Field(96, ge=32)
    long_side: int = Field(192, ge=32)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["fused", "explicit"] = "fused"
    compile: bool = False
    batch_frames: int = Field(8, ge=1)
    batch_pairs: int = Field(32, ge=1)


class SegmentConfig(Section):
    """Stage ``segment``.

    Attributes:
        checkpoint: weights file, or ``demo:segment``.
        model: ``demo``, ``vit_b``, ``vit_l`` or ``vit_h``, as segment-anything names them.
        merge_iou: boxes of a frame that overlap at least this much are decoded once; 1 merges
            equal boxes only.
        attention: of the image encoder: ``sdpa``, PyTorch's fused kernels, or ``explicit``, as
            segment-anything writes it out. They agree within rounding, in bfloat16 that of
            bfloat16; a fingerprint does not tell them apart.
        compile: the image encoder with ``torch.compile``; agrees within rounding.
        batch_frames: frames in one pass of the encoder.
        batch_pairs: boxes in one pass of the decoder.
    """

    checkpoint: Checkpoint = "demo:segment"
    sha256: str | None = None
    model: Literal["demo", "vit_b", "vit_l", "vit_h"] = "demo"
    merge_iou: float = Field(0.95, gt=0, le=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "explicit"] = "sdpa"
    compile: bool = False
    batch_frames: int = Field(8, ge=1)
    batch_pairs: int = Field(64, ge=1)


class FuseConfig(Section):
    """Stage ``fuse`` (WSRVOS, positive-prediction fusion).

    Attributes:
        same_box_iou: boxes of a frame that overlap at least this much are one instance.
        absent_below: if no box has this much support by the positives, the target is absent from
            the frame.
        uncertain_below: if the best box has less support than this, the frame is unknown.
        telling_share: a negative objects if its own best box is the positives' best instance in at
            most this share of the frames; the grounder cannot tell any other from the positives.
        claim_margin: a negative that claims the box by this much more makes the frame absent; by
            half as much, unknown.
        negative_weight: how much of the strongest negative's claim counts against a box.
        hypotheses: instances of a frame handed on to ``rank``, best first.
    """

    same_box_iou: float = Field(0.7, gt=0, le=1)
    absent_below: float = Field(0.25, ge=0, le=1)
    uncertain_below: float = Field(0.3, ge=0, le=1)
    telling_share: float = Field(0.5, ge=0, le=1)
    claim_margin: float = Field(0.1, ge=0, le=1)
    negative_weight: float = Field(0.5, ge=0)
    hypotheses: int = Field(3, ge=1)


class RankConfig(Section):
    """Stage ``rank`` (WSRVOS, temporal segment ranking), as a filter.

    Attributes:
        enabled: False passes the best hypothesis of every frame on.
        threshold: a pixel is the target's where the fused probability exceeds it.
        epsilon: an overlap may grow with temporal distance by this much (the paper: 0.1).
        window: frames on either side that a frame is compared with.
        maximum_violation: a frame that breaks the order in a larger share of its triples is turned
            down.
        swap: take runner-up hypotheses where they fix the order.
        continuity: what a perfect overlap of neighbouring frames weighs against a hypothesis's
            score of 1, when runner-ups are looked at.
    """

    enabled: bool = True
    threshold: float = Field(0.5, gt=0, lt=1)
    epsilon: float = Field(0.1, ge=0, le=1)
    window: int = Field(4, ge=2)
    maximum_violation: float = Field(0.5, ge=0, le=1)
    swap: bool = True
    continuity: float = Field(0.6, ge=0)


class ViewsConfig(Section):
    """How a clip is varied before it is shown to a student; all its frames in the same way.

    Attributes:
        mirror: every second clip is mirrored, and left and right change places in its sentence.
        zoom: smallest and largest factor by which a clip is enlarged about a random place; what
            leaves the frame is cut off, and below 1 the border is filled with grey. Resizing and
            cropping in one; the paper's short sides of 288 to 512 for 360 are 0.8 to 1.4. Not where
            a sentence of the clip names a place in the frame, such as 'on the left'.
        brightness, contrast, saturation: each is multiplied by a factor from 1 - x to 1 + x.
    """

    mirror: bool = True
    zoom: tuple[float, float] = (1.0, 1.0)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    saturation: float = Field(0.0, ge=0, lt=1)

    @field_validator("zoom")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= value[0] <= value[1] <= 10:
            raise ValueError(
                f"{list(value)}; expected the smallest and the largest factor, within 0.1 to 10"
            )
        return value


class TrainingConfig(Section):
    """How a student is trained, whichever it is.

    Attributes:
        schedule: ``cosine`` falls to 0; ``steps`` divides the rate by ten at each milestone.
        milestones: shares of all steps; the paper's epochs 9 and 15 of 18.
        warm_up: share of all steps over which the rate rises from 0.
        max_grad_norm: gradients are clipped to this norm.
        dtype: what the forward pass is computed in; weights stay float32.
        ema_decay: decay of the moving average of the weights, which predicts; 0 for none.
        validate_every: steps between two measurements of J&F; 0 for none. The best is kept.
        validate_split, validate_videos: what is measured; the first so many videos of the split.
        patience: measurements without a better one that end the training; 0 for none.
        gradient_accumulation_steps: parts that a step's clips go through the model in.
        workers: processes that read clips; 0 reads them in between.
        checkpoint_every: steps between two checkpoints that training goes on from.
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
    """What a student sees and reads with.

    Attributes:
        backbone: ``demo`` is the demo grounder's Swin; the others are torchvision's.
        backbone_checkpoint: torchvision's weights of that model; None starts from random ones.
        text_encoder: ``demo``, or the folder of a text encoder of transformers, such as
            roberta-base; frozen.
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


class WsrvosConfig(Section):
    """The student WSRVOS: supervision from text alone (arXiv 2604.17797).

    The first four fields are parts of the paper, the fifth, ``refinement``, is ours; each can be
    switched off.

    Attributes:
        selection: each modality attends to the tokens of the other that are most like it; off, to
            all of them.
        classification: L_cls; off, sentences are not told true from untrue.
        fusion: the clip's own pseudo-mask is that of all its positives; off, of the original alone.
        ranking: L_tmp, soft IoU falls with the distance in time.
        refinement: masks at the finest map's stride; off, at that of the proposals.
        positives_per_clip, negatives_per_clip: other sentences of a sample that come with a clip,
            as the augment stage wrote them.
        freeze: the image encoder is not trained, as in the paper.
        depths: maps of the pyramid that the interactions read, finest first and counted from 0, an
            interaction each; past the last means the last. The paper's four depths are blocks 3,
            6, 9 and 12 of encoders that run together; here encoders run once for all sentences,
            and the depths are their maps.
        proposal_level: the map whose cells are the proposals.
        kept_tokens: of each modality (the paper: 10).
        rivals: which expressions a positive shares a proposal with in L_cls: ``all``, as the
            formula stands, or the ``negatives``, so that sentences of one target do not take it
            from each other.
        elsewhere: a negative that the data set has of another object of the video is true, of
            another place; off, every negative is true of nothing, as in the paper.
        threshold: of the fused prediction, above which a pixel is of the pseudo-mask (the paper:
            0.4).
        warm_up: epochs before the student's own pseudo-masks count.
        tolerance: epsilon of L_tmp (the paper: 0.1).
        classification_weight, mask_weight, ranking_weight: of L_cls, L_focal + L_dice, and L_tmp
            (the paper: 1, 2, 1).
        targets: of the mask terms: the student's ``own`` pseudo-masks; ``given`` takes the clip's
            supervision where it has masks, and its own elsewhere; ``both`` sums the two.
    """

    selection: bool = True
    classification: bool = True
    fusion: bool = True
    ranking: bool = True
    refinement: bool = True
    positives_per_clip: int = Field(2, ge=0)
    negatives_per_clip: int = Field(4, ge=0)
    freeze: bool = True
    depths: tuple[int, ...] = Field((0, 1, 2, 3), min_length=1)
    proposal_level: int = Field(1, ge=0)
    kept_tokens: int = Field(10, ge=1)
    rivals: Literal["all", "negatives"] = "negatives"
    elsewhere: bool = True
    threshold: float = Field(0.4, gt=0, lt=1)
    warm_up: int = Field(1, ge=0)
    tolerance: float = Field(0.1, ge=0, le=1)
    classification_weight: float = Field(1.0, ge=0)
    mask_weight: float = Field(2.0, ge=0)
    ranking_weight: float = Field(1.0, ge=0)
    targets: Literal["own", "given", "both"] = "own"


class GroPromptConfig(Section):
    """The student GroPrompt: boxes adapt the grounding model (CVPRW 2024).

    It starts from the models of the sections ``ground`` and ``segment``, of which the grounder's
    decoder is trained. A learning rate of 1e-4 is the paper's.

    Attributes:
        score_weight: of L_score, which the paper does not have: the nearest box is to score 1, the
            others 0; at 0 it is left out.
        text_weight, modal_weight: lambda_f and lambda_v, of TextCon and ModalCon (the paper: 0.01
            and 0.1 on Ref-YouTube-VOS, 1e-4 and 1e-3 on A2D-Sentences); 0 leaves one out.
        absent_below: if its best box scores less than this, a sentence has no target in a frame
            (the paper: 0, so that there always is one).
    """

    score_weight: float = Field(1.0, ge=0)
    text_weight: float = Field(0.01, ge=0)
    modal_weight: float = Field(0.1, ge=0)
    absent_below: float = Field(0.25, ge=0, le=1)


class SlvpConfig(Section):
    """How a student learns from optical flow (SLVP, WACVW 2024): what its sentences tell apart is
    to explain how the pixels move.

    Attributes:
        window: pixels that the flow of a pixel is estimated from, on a side; wider is calmer, and
            swells small objects.
        area_weight: of the share of a frame that a sentence takes; without it, a sentence may take
            all that stands still.
    """

    window: int = Field(13, ge=5)
    area_weight: float = Field(0.1, ge=0)


class SimrvosConfig(Section):
    """The student SimRVOS: masks from weak annotation (LGCFS and BLCL, eqs 1 to 21).

    Attributes:
        fusion: how frames and words meet: in ``both`` directions; with ``vision`` as query, frames
            attend to words (eq 1); with ``language`` as query, the reverse (eq 2).
        dice_weight, focal_weight: weights of the two terms of L_mask (eq 19).
        lgcfs: whether each frame's filters must find the target in the clip's other frames too.
        mil: whether frames with boxes teach, by the box-tightness prior.
        blcl: whether bi-level contrastive learning is on; it adds layers to the student.
        lgcfs_weight, mil_weight, blcl_weight: weights of these terms; the paper uses 1.
        blcl_threshold: d_th, how sure a prediction within a box must be (the paper: 0.9).

    A setting of a part that is off does not count in the fingerprint.
    """

    fusion: Literal["both", "vision", "language"] = "both"
    dice_weight: float = Field(5.0, ge=0)
    focal_weight: float = Field(2.0, ge=0)
    lgcfs: bool = False
    lgcfs_weight: float = Field(1.0, ge=0)
    mil: bool = False
    mil_weight: float = Field(1.0, ge=0)
    blcl: bool = False
    blcl_weight: float = Field(1.0, ge=0)
    blcl_threshold: float = Field(0.9, gt=0.5, lt=1)


Supervision = Literal[
    "pseudo_masks", "masks", "first_mask_boxes", "boxes", "first_mask", "text", "flow"
]
"""What can teach a student."""


class StudentConfig(Section):
    """Stage ``student``: the settings that every student has.

    Attributes:
        enabled: False ends the run after the pseudo-masks.
        model: which student: ``simrvos``, ``wsrvos`` or ``groprompt``. Its own settings are in the
            section of its name.
        supervision: what teaches the student. ``pseudo_masks`` are the run's. The others are the
            data set's own annotation of the same samples: all ``masks``, the ``first_mask`` of the
            target, ``boxes``, or ``first_mask_boxes``: the first mask, and boxes in the other
            frames. ``text`` is the sentences alone (WSRVOS). ``flow`` is the optical flow of the
            frames and needs no run (SimRVOS, by SLVP).
        masks: a mask store to use in place of the run's pseudo-masks, such as another student's
            predictions of the labelled split (two-step training). It may hold fewer samples.
        frame_weights: whether the weights of the pseudo-masks' frames count. False gives every
            frame of known status the weight 1.
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
        channels: C of the equations (SimRVOS, WSRVOS).
        learning_rate: of AdamW (the paper: 5e-5).
        backbone_learning_rate: of AdamW for the image encoder (the paper: 2.5e-5). 0 freezes it.
        weight_decay: of AdamW.
    """

    enabled: bool = True
    model: str
    supervision: Supervision = "pseudo_masks"
    masks: UsersPath | None = None
    frame_weights: bool = True
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
        return self


class SimrvosStudentConfig(StudentConfig):
    """Stage ``student`` with SimRVOS, or with SLVP's loss where optical flow teaches it."""

    model: Literal["simrvos"] = "simrvos"
    simrvos: SimrvosConfig = SimrvosConfig()
    slvp: SlvpConfig = SlvpConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text"}

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.supervision in ("boxes", "first_mask_boxes") and not self.simrvos.mil:
            raise ValueError(
                f"supervision {self.supervision!r} with simrvos.mil off: SimRVOS learns from boxes"
                " by MIL alone; set student.simrvos.mil=true, or student.supervision=first_mask to"
                " leave the boxes out"
            )
        if self.simrvos.lgcfs and self.frames_per_clip < 2:
            raise ValueError(
                "simrvos.lgcfs with frames_per_clip 1: there is no other frame; set"
                " student.frames_per_clip to 2 or more, or student.simrvos.lgcfs=false"
            )
        return self


class WsrvosStudentConfig(StudentConfig):
    """Stage ``student`` with WSRVOS."""

    model: Literal["wsrvos"] = "wsrvos"
    wsrvos: WsrvosConfig = WsrvosConfig()

    taught_by = frozenset({"pseudo_masks", "masks", "first_mask", "text"})


class GroPromptStudentConfig(StudentConfig):
    """Stage ``student`` with GroPrompt."""

    model: Literal["groprompt"] = "groprompt"
    groprompt: GroPromptConfig = GroPromptConfig()

    taught_by = frozenset(get_args(Supervision)) - {"text", "flow"}


AnyStudentConfig = SimrvosStudentConfig | WsrvosStudentConfig | GroPromptStudentConfig


class ReportConfig(Section):
    """The report page: how many samples it shows, frames of each, and their width in pixels."""

    samples: int = Field(60, ge=0)
    frames: int = Field(6, ge=1)
    width: int = Field(224, ge=32)


class RunnerConfig(Section):
    """Where shards are worked on; nothing that a result depends on.

    Attributes:
        kind: ``local`` is this process; ``ray`` the workers of a Ray cluster, each with one shard
            at a time.
        workers: of a cluster started here, and processes of a training; None for one per GPU of
            this machine, or two without one.
        address: of a cluster that runs, such as ``ray://host:10001``; None starts one here. Its
            machines must see the run's folder and the data set under the same absolute paths.
        decode_workers: threads that decode frames ahead of the model; 0 decodes in between.
        batches_ahead: batches of frames that wait for the model, at most.
        writes_behind: results that wait to be written, at most; 0 writes in between.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1)
    address: str | None = None
    decode_workers: int = Field(2, ge=0, le=64)
    batches_ahead: int = Field(2, ge=1)
    writes_behind: int = Field(1, ge=0)


class RunConfig(Section):
    """Everything a run is told.

    Attributes:
        out: folder that holds runs; the run's own is ``<out>/<dataset>-<split>``.
        seed: of all random numbers.
        device: ``auto`` takes CUDA where there is one; a named device must exist.
        shard_videos: videos a shard, the unit that is done, committed and resumed.
        maximum_failed_share: the flow fails where a larger share of the shards failed.
    """

    out: UsersPath = Path("runs")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    device: str = "auto"
    shard_videos: int = Field(4, ge=1)
    maximum_failed_share: float = Field(0.0, ge=0, le=1)
    dataset: DatasetConfig = DatasetConfig()
    shapes: ShapesConfig = ShapesConfig()
    augment: AugmentConfig = AugmentConfig()
    ground: GroundConfig = GroundConfig()
    segment: SegmentConfig = SegmentConfig()
    fuse: FuseConfig = FuseConfig()
    rank: RankConfig = RankConfig()
    student: AnyStudentConfig = Field(SimrvosStudentConfig(), discriminator="model")
    report: ReportConfig = ReportConfig()
    runner: RunnerConfig = RunnerConfig()

    @field_validator("student", mode="before")
    @classmethod
    def _default_model(cls, value: Any) -> Any:
        """A section that names no student is of SimRVOS."""
        return {"model": "simrvos", **value} if isinstance(value, Mapping) else value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError(f"{value!r} is no device; expected auto, cpu, cuda, cuda:N or mps")
        return value

    @property
    def run_folder(self) -> Path:
        return self.out / f"{self.dataset.name}-{self.dataset.split}"


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a TOML file and lays ``section.key=value`` overrides over it.

    Args:
        path: the file; None for the defaults, which are the demo models'.
        overrides: such as ``rank.threshold=0.6``; the value is read as TOML, else as a string.

    Raises:
        ConfigError: the file is missing or not TOML, or a name or value does not fit.
    """
    values: dict[str, Any] = {}
    source = "the command line"
    if path is not None:
        source = str(path)
        try:
            values = tomllib.loads(read_text(path))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; give a TOML file to --config") from error
        except (ValueError, RecursionError) as error:
            # Not only TOMLDecodeError: a number of many thousand digits is a plain ValueError.
            raise ConfigError(f"{path}: not TOML ({error})") from error
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"override {override!r}: expected section.key=value")
        _assign(values, name.strip().split("."), _parse_value(text), override)
    return config_from(values, source)


def config_from(values: Mapping[str, Any], source: str) -> RunConfig:
    """Validates plain values; every misfit is named with its section and key."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            _problem(item["loc"], item["type"], item["msg"]) for item in error.errors()
        )
        # The values are left out of the chain too: one of them may be a secret.
        raise ConfigError(f"{source}: {problems}") from None


def _problem(place: Sequence[int | str], kind: str, message: str) -> str:
    student = None
    if place[:1] == ("student",) and len(place) > 1:
        # After the field, pydantic names the member of the union.
        student, place = place[1], (place[0], *place[2:])
    name = ".".join(map(str, place))
    if kind == "union_tag_invalid":
        return f"{name}.model: {message}"
    if kind == "extra_forbidden" and name in _settings(RunConfig):
        return (
            f"{name}: not a setting of the student {student!r}; set student.model to the student"
            " that it belongs to, or remove it"
        )
    if kind != "extra_forbidden":
        return f"{name}: {message.removeprefix('Value error, ')}"
    return f"{name}: no such setting{_did_you_mean(name)}"


def _did_you_mean(name: str) -> str:
    """The settings that a wrong name is most like, in words; empty where it is like none."""
    every = list(dict.fromkeys(_settings(RunConfig)))
    # The right name in the wrong section, or in none.
    last = name.rpartition(".")[2]
    near = [setting for setting in every if setting.rpartition(".")[2] == last][:3]
    near = near or difflib.get_close_matches(name, every, 3, 0.8)
    near = near or difflib.get_close_matches(name, every, 1, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _settings(section: type[Section], within: str = "") -> Iterator[str]:
    """The full name of every section and setting."""
    for name, info in section.model_fields.items():
        yield within + name
        kinds = get_args(info.annotation) if isinstance(info.annotation, UnionType) else ()
        for kind in kinds or (info.annotation,):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _settings(kind, f"{within}{name}.")


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as TOML that :func:`load_config` reads back unchanged."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _assign(values: dict[str, Any], keys: Sequence[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {key} is not a section")
    values[keys[-1]] = value


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
