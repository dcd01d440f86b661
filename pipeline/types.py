"""The values that flow between stages.

Letters: K positives, N negatives, Q boxes, R ranked boxes of one text, T frames, H W pixels,
h w cells of a low-resolution mask.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NewType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PseudoLabelError
from pipeline.packed_masks import PackedMasks

FrameIndex = NewType("FrameIndex", int)
"""Position in a video's sorted list of frames, from 0; never the number in a file's name."""

NegativeKind = Literal["category", "attribute", "action", "relation"]
"""What a hard negative changes about the target."""

NEGATIVE_KINDS: tuple[NegativeKind, ...] = ("category", "attribute", "action", "relation")


class Status(IntEnum):
    """What is known about the target in one frame.

    A frame that was not written is unknown, not background.
    """

    UNKNOWN = 0
    PRESENT = 1
    ABSENT = 2


@dataclass(frozen=True, order=True)
class SampleKey:
    """One expression of one video: the unit that masks are made for."""

    dataset: str
    split: str
    video: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dataset}:{self.split}:{self.video}:{self.expression}"


@dataclass(frozen=True)
class VideoRef:
    """Where the frames of a video are. None of them is decoded.

    Attributes:
        id: the data set's name of the video; one path component.
        frames: names of the frames in order, without suffix, such as ``00005``.
        paths: image file of each frame, in the same order.
        height: height of every frame, pixels.
        width: width of every frame, pixels.
        times: when each frame is shown, seconds after the first; empty if nothing says so.
    """

    id: str
    frames: tuple[str, ...]
    paths: tuple[Path, ...]
    height: int
    width: int
    times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.paths):
            raise PseudoLabelError(
                f"video {self.id}: {len(self.frames)} frame names for {len(self.paths)} files"
            )

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Expression:
    """A sentence that refers to one target, or several, in a video.

    Attributes:
        key: the sample it belongs to.
        text: the sentence, stripped, not empty.
        kind: appearance, place, motion or relation; None if the data set does not give it.
        object_ids: ids of the target in the data set's masks; empty if the data set gives none.
        no_target: whether the data set says that the sentence refers to nothing in the video. Its
            ground truth is then empty in every frame.
    """

    key: SampleKey
    text: str
    kind: str | None = None
    object_ids: tuple[str, ...] = ()
    no_target: bool = False


@dataclass(frozen=True)
class Positive:
    """Another expression for the target.

    Attributes:
        text: the sentence.
        confidence: in [0, 1]; the original has 1.
        similarity: to the original and the video, in [0, 1]; ``minimum_similarity`` applies to it.
    """

    text: str
    confidence: float
    similarity: float = 1.0


@dataclass(frozen=True)
class Negative:
    """A sentence that is similar to the expression but not true of the target.

    Attributes:
        text: the sentence.
        kind: what it changes; None if its source does not say.
    """

    text: str
    kind: NegativeKind | None


@dataclass(frozen=True)
class Provenance:
    """What wrote a text, so that it can be reproduced."""

    model: str
    revision: str
    prompt_version: str
    seed: int


@dataclass(frozen=True)
class Augmentation:
    """An expression with its positives and hard negatives (WSRVOS, augmentation).

    Attributes:
        key: the sample.
        positives: K sentences, the original first with confidence 1.
        negatives: N sentences with their kinds.
        provenance: what wrote them, and the noun.
        noun: the sort of object that the target is, such as ``tennis player``; None if nothing
            named it.
    """

    key: SampleKey
    positives: tuple[Positive, ...]
    negatives: tuple[Negative, ...]
    provenance: Provenance
    noun: str | None = None

    @property
    def original(self) -> str:
        return self.positives[0].text


@dataclass(frozen=True)
class Boxes:
    """The boxes that the grounding model found in one frame for some texts.

    Attributes:
        xyxy: float32 [Q, 4], pixels of the frame, half-open, inside the frame.
        score: float32 [Q] in [0, 1], similarity of the box to the whole sentence.
        text: int32 [Q], row of the text that each box was found for.
        rank: int32 [Q], 0 for a text's best box in the frame, 1 for its runner-up, and so on.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    text: NDArray[np.int32]
    rank: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True)
class Candidates:
    """The masks that were decoded for the distinct boxes of one frame.

    Attributes:
        logits: float16 [Q, h, w], mask logits at low resolution, positive inside. They cover the
            frame without the segmenter's padding.
        predicted_iou: float32 [Q], the decoder's own estimate of its mask's IoU.
        stability: float32 [Q] in [0, 1], IoU of the masks at the thresholds -1 and +1.
        box_row: int32 [n], for each of the n boxes asked for, the row in 0..Q-1 of its mask.
    """

    logits: NDArray[np.float16]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    box_row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def scores(self) -> CandidateScores:
        """All but the masks."""
        return CandidateScores(self.predicted_iou, self.stability, self.box_row)


@dataclass(frozen=True)
class CandidateScores:
    """What is known of the Q candidates of a frame beside their masks; see :class:`Candidates`."""

    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    box_row: NDArray[np.int32]


@dataclass(frozen=True)
class Tracks:
    """Which candidates of a video's frames show the same object.

    Attributes:
        of_candidate: for each of the T frames, int32 [Q], the track of each candidate; -1 for a
            candidate of none. Candidates of a frame in one track are one instance.
    """

    of_candidate: tuple[NDArray[np.int32], ...]

    def __len__(self) -> int:
        """Number of tracks."""
        return 1 + max((int(item.max(initial=-1)) for item in self.of_candidate), default=-1)


@dataclass(frozen=True)
class Hypotheses:
    """What ``fuse`` hands to ``rank`` for one sample: per frame, the instances it may be.

    P is ``fuse.hypotheses``; rows past ``count`` of a frame hold zeros. Best first. The mask of a
    hypothesis is the weighted sum of the logits of up to V of the frame's candidates.

    Of a sentence that names several objects, the first ``together`` hypotheses of a frame are the
    target, and its mask is the union of theirs.

    Attributes:
        candidate: int32 [T, P, V], rows of the frame's candidates; -1 past the last.
        share: float32 [T, P, V], their weights, which sum to 1; 0 past the last.
        count: int32 [T], hypotheses of each frame.
        together: int32 [T], number of them, the first ones, that are the target; 1 where it is one
            object.
        box: float32 [T, P, 4], xyxy pixels of the instance.
        score: float32 [T, P], support by the positives less the claim of the negatives.
        box_score: float32 [T, P], the original expression's score for the instance; 0 if none.
        agreement: float32 [T, P], share of the positives' confidence that takes the instance.
        negative_margin: float32 [T, P], support less the strongest negative's claim.
        predicted_iou: float32 [T, P], the segmenter's own estimate.
        stability: float32 [T, P].
        status: uint8 [T], values of :class:`Status`; what the gate says of each frame.
        reason: T words; why a frame is not PRESENT, empty where it is.
    """

    key: SampleKey
    candidate: NDArray[np.int32]
    share: NDArray[np.float32]
    count: NDArray[np.int32]
    together: NDArray[np.int32]
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    box_score: NDArray[np.float32]
    agreement: NDArray[np.float32]
    negative_margin: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    status: NDArray[np.uint8]
    reason: tuple[str, ...]


@dataclass(frozen=True)
class FrameQuality:
    """The quality of one frame of one pseudo-mask; a row of ``quality.parquet``.

    Attributes:
        temporal_iou: mean IoU with the neighbours that were kept; NaN if there are none.
        weight: in [0, 1]; 0 if the status is unknown.
        reason: why the frame was rejected or is absent; empty if the mask is kept.
    """

    video: str
    expression: str
    frame: int
    frame_name: str
    box_score: float
    predicted_iou: float
    stability: float
    agreement: float
    temporal_iou: float
    negative_margin: float
    weight: float
    status: int
    reason: str


QUALITY_FIGURES = tuple(item.name for item in fields(FrameQuality) if item.type == "float")
"""The names of the figures of a :class:`FrameQuality`, in order; the weight is the last."""


@dataclass(frozen=True)
class VideoSources:
    """Where the frames and the ground truth of a video are on disk.

    Attributes:
        names: frame names in their order, as an index lists them; empty if nothing lists them.
        frames: files, and folders whose files are frames.
        truth: files, and folders of files, that the ground truth is read from.
    """

    names: tuple[str, ...]
    frames: tuple[Path, ...]
    truth: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PseudoMask:
    """The product of a run for one sample: a mask, a weight and a status per frame.

    Attributes:
        key: the sample.
        mask: [T, H, W]; empty in every frame whose status is not PRESENT.
        weight: float32 [T] in [0, 1], the weight of the frame in a student's loss; 0 if unknown.
        status: uint8 [T], values of :class:`Status`.
        fingerprint: digest of everything that the masks depend on.
    """

    key: SampleKey
    mask: PackedMasks
    weight: NDArray[np.float32]
    status: NDArray[np.uint8]
    fingerprint: str

    def __post_init__(self) -> None:
        frames = len(self.mask)
        if self.weight.shape != (frames,) or self.status.shape != (frames,):
            raise PseudoLabelError(
                f"{self.key}: mask {self.mask.shape}, weight {self.weight.shape}, status"
                f" {self.status.shape}; expected [T,H,W], [T], [T]"
            )


@dataclass(frozen=True)
class Receipt:
    """What a stage did to one shard; the truth about what is done.

    Attributes:
        stage: name of the stage.
        shard: name of the shard, such as ``00003``.
        fingerprint: digest of the stage's configuration, weights, version and inputs.
        videos: ids that the shard holds.
        skipped: video id -> reason, for the videos that could not be worked on.
        counts: figures of the work: frames, texts, boxes, masks.
        seconds: wall-clock time of the work.
        basis: what the fingerprint was made of, to say later what changed; plain JSON values.
        made_from: stage -> digest of its product that this one was made from.
        files: path in the run's folder -> size in bytes and digest, of every file of the product.
        product: one digest of ``files``.
        released: bytes of the product that were removed on purpose when the masks were finished;
            0 if the product is whole. ``files`` then has what is left, and ``product`` stays.
    """

    stage: str
    shard: str
    fingerprint: str
    videos: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    basis: dict[str, Any] = field(default_factory=dict)
    made_from: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    product: str = ""
    released: int = 0

    def __post_init__(self) -> None:
        texts = (self.stage, self.shard, self.fingerprint, *self.videos)
        well = (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.skipped, dict)
            and isinstance(self.counts, dict)
            and all(isinstance(x, dict) for x in (self.basis, self.made_from, self.files))
            and all(isinstance(count, int | float) for count in self.counts.values())
            and isinstance(self.seconds, int | float)
            and isinstance(self.released, int)
        )
        if not well:
            raise PseudoLabelError(
                f"receipt of {self.stage!r} {self.shard!r}: a value of the wrong kind; expected"
                " what docs/format.md says; run the stage again"
            )


@dataclass(frozen=True)
class Failure:
    """A note that a stage failed on a shard. A receipt of the stage removes it.

    Attributes:
        stage, shard: what failed.
        fingerprint: of the work that failed.
        error: the error, as its type and its message.
        seconds: wall-clock time until it failed.
        attempts: how often work of this fingerprint has failed.
        time: of the last failure, UTC in ISO 8601.
    """

    stage: str
    shard: str
    fingerprint: str
    error: str
    seconds: float = 0.0
    attempts: int = 1
    time: str = ""

    def __post_init__(self) -> None:
        texts = (self.stage, self.shard, self.fingerprint, self.error, self.time)
        if not (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.seconds, int | float)
            and isinstance(self.attempts, int)
        ):
            raise PseudoLabelError(
                f"failure of {self.stage!r} {self.shard!r}: a value of the wrong kind; expected"
                " what docs/format.md says; remove the file"
            )
