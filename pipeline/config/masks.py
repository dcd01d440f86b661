"""The sections of the stages that make masks: ``segment``, ``track``, ``fuse`` and ``rank``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Checkpoint, Section, UsersPath


class SegmentConfig(Section):
    """Stage ``segment``: masks for the boxes.

    Attributes:
        checkpoint: weights file, or ``demo:segment``.
        sha256: expected digest of the weights file; None skips the check.
        model: ``demo``, ``vit_b``, ``vit_l`` or ``vit_h``, by segment-anything's names; or
            ``transformers``, whose checkpoint is a folder with SAM or HQ-SAM of transformers.
        merge_iou: boxes of a frame with at least this IoU are decoded once. 1 merges only equal
            boxes.
        dtype: of the image encoder and the mask decoder.
        attention: of the image encoder. ``sdpa`` uses PyTorch's fused kernels; ``explicit``
            computes it as segment-anything does. The results agree within rounding of ``dtype``.
        compile: whether the image encoder is compiled with ``torch.compile``. The results agree
            within rounding.
        batch_frames: frames in one pass of the encoder.
        batch_pairs: boxes in one pass of the decoder.
    """

    checkpoint: Checkpoint = "demo:segment"
    sha256: str | None = None
    model: Literal["demo", "vit_b", "vit_l", "vit_h", "transformers"] = "demo"
    merge_iou: float = Field(0.95, gt=0, le=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "explicit"] = "sdpa"
    compile: bool = False
    batch_frames: int = Field(8, ge=1)
    batch_pairs: int = Field(64, ge=1)


class TrackConfig(Section):
    """Stage ``track``: links the masks of a video into tracks of one object each.

    Attributes:
        source: ``association`` links the segmenter's masks, without a model. ``model`` then follows
            each track through the whole video with a video model, which finds the object in frames
            where the grounding model missed it. ``sam3`` finds all objects of the sorts that the
            sentences name, and follows them; the nouns come from the model
            of ``augment`` with ``augment.nouns``, else from rules (``pipeline.phrases``).
        checkpoint: with ``model``, a folder of transformers with SAM 2.1, EdgeTAM, or SAM 3's
            tracker, or ``demo:track``; with ``sam3``, one with SAM 3 itself (``sam3_video``).
        sha256: expected digest of its weights; None skips the check.
        dtype: of the model.
        objects: most tracks of a video to follow, those with the most evidence.
        prompts: most frames to follow a track from, those with its best scores.
        same_mask_iou: masks of a frame with at least this IoU are one instance.
        minimum_score: an instance is left out if no sentence scores it as high as this.
        cuts: whether cuts are looked for in the frames (PySceneDetect); no track is linked across a
            cut by its place.
        gap: a track goes on after at most this many frames without an instance.
        profile_weight: how much the agreement of sentences' scores counts for a link, against the
            overlap with the box that is expected.
        heading_weight: how much the agreement of movements counts when tracks are joined: this much
            more than the cosine of their profiles if both move the same way, and this much less if
            they move in opposite ways.
        link_above: an instance joins a track if they agree at least this much, in [0, 1].
        join_above: two tracks without a common frame are joined if the cosine of their profiles,
            with the agreement of their movements, is at least this.
    """

    source: Literal["association", "model", "sam3"] = "association"
    checkpoint: Checkpoint = "demo:track"
    sha256: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    objects: int = Field(16, ge=1)
    prompts: int = Field(3, ge=1)
    same_mask_iou: float = Field(0.6, gt=0, le=1)
    minimum_score: float = Field(0.05, ge=0, le=1)
    cuts: bool = True
    gap: int = Field(8, ge=1)
    profile_weight: float = Field(0.35, ge=0, le=1)
    heading_weight: float = Field(0.3, ge=0, le=1)
    link_above: float = Field(0.5, ge=0, le=1)
    join_above: float = Field(0.6, ge=-1, le=1)

    @property
    def uses_checkpoint(self) -> bool:
        """Whether tracks come from the weights that ``checkpoint`` names."""
        return self.source != "association"

    @model_validator(mode="after")
    def _sam3_has_a_checkpoint(self) -> Self:
        if self.source == "sam3" and self.checkpoint.startswith("demo:"):
            raise ValueError('source = "sam3" needs checkpoint, the folder of facebook/sam3')
        return self


class FuseConfig(Section):
    """Stage ``fuse`` (WSRVOS, positive-prediction fusion).

    Attributes:
        level: ``track``: the positives vote for whole tracks. ``frame``: they vote in every frame
            alone, as in the paper.
        present_above: with tracks, the target is present where the chosen track has at least this
            much support by the positives.
        stand_in: with tracks, where the chosen track is not, another one is taken if it has at
            least this share of its score.
        several: with tracks, whether a sentence that names several objects, such as 'the two dogs',
            gets several tracks, up to ``hypotheses``; see ``pipeline.plural``. False for data sets
            whose target is always one object.
        alike: with ``several``, a further track needs at least this share of the best one's score.
        motion_weight: with tracks, how much less a sentence that names a movement, such as 'moving
            to the left', counts for a track that moves otherwise; see ``pipeline.movement``. 0
            leaves movements to the grounding model.
        same_box_iou: boxes of a frame with at least this IoU are one instance.
        absent_below: if no box has this much support by the positives, the target is absent from
            the frame.
        uncertain_below: if the best box has less support than this, the frame is unknown.
        telling_share: a negative counts only if its own best box is the positives' best instance in
            at most this share of the frames. The grounder cannot tell the others from the
            positives.
        claim_margin: a negative that scores the box higher than the positives by this much makes
            the frame absent; by half as much, unknown.
        negative_weight: how much of the strongest negative's score counts against a box or a track.
        hypotheses: instances per frame that are passed on to ``rank``, best first.
        calibration: a file of `pseudolabels calibrate`, for this checkpoint. ``present_above``,
            ``absent_below`` and ``uncertain_below`` are then probabilities that a box is the
            target. Without it they are scores.
    """

    level: Literal["track", "frame"] = "track"
    present_above: float = Field(0.1, ge=0, le=1)
    stand_in: float = Field(0.5, ge=0, le=1)
    several: bool = True
    alike: float = Field(0.6, ge=0, le=1)
    motion_weight: float = Field(0.5, ge=0, le=1)
    same_box_iou: float = Field(0.7, gt=0, le=1)
    absent_below: float = Field(0.25, ge=0, le=1)
    uncertain_below: float = Field(0.3, ge=0, le=1)
    telling_share: float = Field(0.5, ge=0, le=1)
    claim_margin: float = Field(0.1, ge=0, le=1)
    negative_weight: float = Field(1.0, ge=0)
    hypotheses: int = Field(3, ge=1)
    calibration: UsersPath | None = None


CALIBRATED = ("present_above", "absent_below", "uncertain_below")
"""Settings of ``fuse`` that are probabilities if there is a calibration, and scores if not."""


class RankConfig(Section):
    """Stage ``rank`` (WSRVOS, temporal segment ranking), used as a filter.

    Attributes:
        enabled: False takes the best hypothesis of every frame and rejects none.
        threshold: a pixel belongs to the target if its fused probability exceeds this (the paper:
            0.4).
        epsilon: an overlap may grow with temporal distance by this much (the paper: 0.1).
        window: frames on either side that a frame is compared with.
        maximum_violation: a frame is rejected if it breaks the order in a larger share of its
            triples.
        swap: whether a runner-up may replace the best hypothesis of a frame to fix the order. Votes
            for tracks leave nothing to fix; it can help with ``fuse.level = "frame"``.
        continuity: weight of a perfect overlap of neighbouring frames against a hypothesis's score
            of 1, when runner-ups are compared.
    """

    enabled: bool = True
    threshold: float = Field(0.5, gt=0, lt=1)
    epsilon: float = Field(0.1, ge=0, le=1)
    window: int = Field(4, ge=2)
    maximum_violation: float = Field(0.5, ge=0, le=1)
    swap: bool = False
    continuity: float = Field(0.6, ge=0)
