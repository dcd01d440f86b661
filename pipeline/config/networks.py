"""The sections of each student's own settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section


class WsrvosConfig(Section):
    """The student WSRVOS: supervision from text alone (arXiv 2604.17797).

    ``selection``, ``classification``, ``fusion`` and ``ranking`` are parts of the paper, and
    ``refinement`` is ours. Each can be switched off.

    Attributes:
        selection: each modality attends to the tokens of the other that are most similar to it.
            Off: to all of them.
        classification: L_cls. Off: the student does not learn to tell true sentences from false
            ones.
        fusion: the clip's own pseudo-mask is that of all its positives. Off: of the original alone.
        ranking: L_tmp; soft IoU must fall with temporal distance.
        refinement: masks have the stride of the finest map. Off: that of the proposals.
        positives_per_clip, negatives_per_clip: other sentences of a sample that come with a clip,
            as the augment stage wrote them.
        freeze: whether the image encoder is frozen, as in the paper.
        depths: maps of the pyramid that the interactions read, one each, finest first from 0. A
            number past the last map means the last. The paper's four depths are blocks 3, 6, 9 and
            12 of encoders that run together. Here the encoders run once for all sentences, and the
            depths are their maps.
        proposal_level: the map whose cells are the proposals.
        kept_tokens: tokens that are selected of each modality (the paper: 10).
        rivals: the expressions that a positive shares a proposal with in L_cls. ``all`` follows the
            formula. With ``negatives``, sentences of one target do not compete for it.
        elsewhere: a negative that the data set gives for another object of the video counts as true
            of another place. Off: every negative is true of nothing, as in the paper.
        threshold: fused probability above which a pixel is in the student's own pseudo-mask (the
            paper: 0.4).
        warm_up: epochs before the student's own pseudo-masks count.
        tolerance: epsilon of L_tmp (the paper: 0.1).
        classification_weight, mask_weight, ranking_weight: weights of L_cls, L_focal + L_dice, and
            L_tmp (the paper: 1, 2, 1).
        targets: of the mask terms. ``own`` uses the student's own pseudo-masks; ``given`` uses the
            clip's supervision where it has masks, else the student's own; ``both`` adds the two.
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

    It starts from the models of the sections ``ground`` and ``segment`` and trains the grounder's
    decoder. The paper's learning rate is 1e-4.

    Attributes:
        score_weight: weight of L_score, which is ours: the nearest box should score 1, the others
            0. A weight of 0 leaves the term out.
        text_weight: lambda_f, weight of TextCon (the paper: 0.01 on Ref-YouTube-VOS, 1e-4 on
            A2D-Sentences). 0 leaves it out.
        modal_weight: lambda_v, weight of ModalCon (the paper: 0.1 on Ref-YouTube-VOS, 1e-3 on
            A2D-Sentences). 0 leaves it out.
        absent_below: if its best box scores less than this, a sentence has no target in a frame
            (the paper: 0, so that there always is one).
    """

    score_weight: float = Field(1.0, ge=0)
    text_weight: float = Field(0.01, ge=0)
    modal_weight: float = Field(0.1, ge=0)
    absent_below: float = Field(0.25, ge=0, le=1)


class GroundedConfig(Section):
    """The student ``grounded``: it chooses among the instances of the run's grounder.

    The grounder is frozen. For each sentence and frame, one of its instances is chosen, or none, by
    its score, its movement and its place; filters made from its features draw the mask. The design
    follows ReferDINO (arXiv 2501.14607) and CondInst (arXiv 2003.05664).

    Attributes:
        instances: of the grounder's queries in a frame, those that are kept.
        positives_per_clip, negatives_per_clip: other sentences of a sample that come with a clip,
            as the augment stage wrote them.
        choice_weight: weight of the cross-entropy of the choice for true sentences.
        objection_weight: weight of the loss of false sentences, which must not choose the target.
        dice_weight, focal_weight: weights of the two terms of the mask's loss.
    """

    instances: int = Field(12, ge=1)
    positives_per_clip: int = Field(1, ge=0)
    negatives_per_clip: int = Field(1, ge=0)
    choice_weight: float = Field(1.0, ge=0)
    objection_weight: float = Field(0.5, ge=0)
    dice_weight: float = Field(5.0, ge=0)
    focal_weight: float = Field(20.0, ge=0)


class SlvpConfig(Section):
    """How SimRVOS learns from optical flow (SLVP, WACVW 2024).

    The regions that the sentences tell apart must explain how the pixels move.

    Attributes:
        window: side of the square of pixels that a pixel's flow is estimated from. A larger one
            gives smoother flow, and makes small objects appear larger.
        area_weight: weight of the share of a frame that a sentence covers. Without it, a sentence
            may cover everything that stands still.
    """

    window: int = Field(13, ge=5)
    area_weight: float = Field(0.1, ge=0)


class WeakConfig(Section):
    """The losses of masks of the students that learn from weak annotation (SimRVOS, eqs 6 to 21).

    Attributes:
        dice_weight, focal_weight: weights of the two terms of L_mask (eq 19; the paper: 5 and 2).
        lgcfs: whether each frame's filters must find the target in the clip's other frames too.
        lgcfs_boxes: how a frame with boxes takes part in LGCFS: by the ``sum`` over the other
            frames' filters (eq 9), by their ``mean``, or with ``none`` not at all. The paper
            compares the three. A frame with a mask always takes the sum (eq 8).
        mil: whether frames with boxes teach, by the box-tightness prior.
        blcl: whether bi-level contrastive learning is on; it adds layers to the student.
        lgcfs_weight, mil_weight, blcl_weight: weights of these terms; the paper uses 1.
        blcl_threshold: d_th, how sure a prediction within a box must be (the paper: 0.9).
        blcl_levels: the levels of BLCL: language-vision (eq 15), ``consistency`` (eqs 16 and 17),
            or ``both``.
        blcl_predictions: whether predictions within boxes are pseudo-masks of BLCL (eqs 12, 13).
            Without them, a frame with boxes teaches BLCL its background alone.
        blcl_balanced: whether BLCL averages target and background each by itself. The paper has one
            mean over both (eq 14), in which a small target hardly counts.

    A setting of a part that is off does not count in the fingerprint.
    """

    dice_weight: float = Field(5.0, ge=0)
    focal_weight: float = Field(2.0, ge=0)
    lgcfs: bool = False
    lgcfs_weight: float = Field(1.0, ge=0)
    lgcfs_boxes: Literal["sum", "mean", "none"] = "sum"
    mil: bool = False
    mil_weight: float = Field(1.0, ge=0)
    blcl: bool = False
    blcl_weight: float = Field(1.0, ge=0)
    blcl_threshold: float = Field(0.9, gt=0.5, lt=1)
    blcl_levels: Literal["both", "language_vision", "consistency"] = "both"
    blcl_predictions: bool = True
    blcl_balanced: bool = False


class SimrvosConfig(WeakConfig):
    """The student SimRVOS: masks from weak annotation (LGCFS and BLCL, eqs 1 to 21).

    Attributes:
        fusion: how frames and words meet: in ``both`` directions; with ``vision`` as query, frames
            attend to words (eq 1); with ``language`` as query, the reverse (eq 2).
    """

    fusion: Literal["both", "vision", "language"] = "both"


class ReferformerConfig(WeakConfig):
    """The student ReferFormer (arXiv 2201.00487); it can learn from weak annotation too.

    Attributes:
        queries: queries of a frame, each the same object in all frames of a clip (the paper: 5).
        encoder_layers, decoder_layers: of the deformable transformer (the paper: 4 and 4).
        heads, points: heads of the attention, and sampled points of each (the paper: 8 and 4).
        feedforward: channels within the transformer's layers (the paper: 2048).
        score_weight, box_weight, giou_weight: weights of the losses of scores and boxes, which are
            also the weights of the matching (the paper: 2, 5 and 2).
    """

    queries: int = Field(5, ge=1)
    encoder_layers: int = Field(2, ge=1)
    decoder_layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    points: int = Field(4, ge=1)
    feedforward: int = Field(128, ge=1)
    score_weight: float = Field(2.0, ge=0)
    box_weight: float = Field(5.0, ge=0)
    giou_weight: float = Field(2.0, ge=0)
