"""The configuration of a run: one frozen model per stage, read from TOML.

Unknown names are refused. The result of a stage depends on the settings in its section, except for
those in :data:`EXECUTION`, which change only how fast a result is computed.
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

from pipeline.cache import PUBLISHED, resolve_published
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
"""Settings that change no result. Fingerprints leave them out."""


_PLAIN_NAME = re.compile(r"\w[\w .+-]{0,99}")


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")

MAX_SEED = (1 << 32) - 1
"""The largest seed that every generator of random numbers accepts. The smallest is 0."""


def _users_path(value: Path) -> Path:
    """Returns a path with ``~`` replaced by the user's home folder, and ``published:NAME`` by the
    path of these weights in the cache folder."""
    if "\0" in str(value):
        raise ValueError("contains a null character; expected a path")
    try:
        return Path(resolve_published(str(value))).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}; give the whole path, or set HOME") from error


def _checkpoint(value: str) -> str:
    return str(_users_path(Path(value))) if value.startswith(("~", PUBLISHED)) else value


UsersPath = Annotated[Path, AfterValidator(_users_path)]
Checkpoint = Annotated[str, AfterValidator(_checkpoint)]


Links = Literal["follow", "inside"]
"""Which links in a data set are read: ``follow`` reads all, ``inside`` only those within it."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetConfig(Section):
    """Which videos a run works on.

    Attributes:
        name: name of a reader, such as ``refytvos``.
        root: the data set's folder. For ``shapes``, videos are rendered there if it is missing.
        split: the split to label and to train on.
        predict_split: the split that the student predicts. None stands for ``valid`` if the data
            set has one, else for the labelled split.
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
    root: UsersPath | None = None
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
    """How many videos are rendered if ``dataset.name`` is ``shapes`` and its root is missing."""

    train_videos: int = Field(24, ge=1)
    valid_videos: int = Field(8, ge=1)
    seed: int = Field(2026, ge=0, le=MAX_SEED)


def _plain_address(value: str | None) -> str | None:
    """Refuses the address of a server that is none, or that holds a secret."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address that begins with http:// or https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The message leaves the value out, since it may be a secret.
        raise ValueError(
            "the address contains a user name, a password or a query, which would be stored"
            " with the run and shown in its report; give the plain address, up to and with /v1,"
            " and put the key into the environment variable OPENAI_API_KEY, or into the one"
            " that api_key_env names"
        )
    return value


class AugmentConfig(Section):
    """Stage ``augment``: positives and hard negatives for every expression (WSRVOS).

    Attributes:
        source: who writes them: ``model`` (an image-text-to-text model of transformers),
            ``endpoint`` (any OpenAI-compatible server), ``lexicon`` (rules, without a model),
            ``file`` (a WSRVOS augmentation file), or ``none`` (the original expression alone).
        positives: K, the largest number of positives, the original included (the paper: 6). The
            default is 2 because the demo grounder knows few words, so more paraphrases hurt it.
        negatives: N, the largest number of negatives (the paper: 48).
        siblings: whether other sentences about the same object are used as positives. This needs a
            data set that gives object ids; its masks are never used.
        frames: frames of the video that the model sees, evenly spaced.
        input: how a model of transformers gets them. ``images``: as loose images. ``video``: as a
            video that says when each frame is shown, for models that take one, such as Qwen2.5-VL
            and Qwen3-VL. Two frames then share their tokens.
        frames_per_second: of the data set, for ``input = "video"`` where it does not say when its
            frames are shown. Ref-YouTube-VOS has 6, for example, and Ref-DAVIS17 24.
        similarity: what says how similar a positive is. ``captioner``: the probability that the
            model of ``source`` gives its words. ``encoder``: a model of frames and sentences, whose
            cosine for the positive is taken as a share of that for the original.
        similarity_checkpoint: with ``encoder``, a folder of transformers with CLIP, SigLIP,
            SigLIP 2 or X-CLIP.
        minimum_similarity: positives less similar than this are dropped. It belongs to the measure:
            the paper's 0.8 is of InternVideo2. `pseudolabels calibrate` shows percentiles of a run.
        checkpoint: folder of the model. ``demo:NAME`` is one that ships with the project;
            ``published:NAME`` is one in the cache folder, where `pseudolabels weights fetch` puts
            it. All settings that name weights accept this form.
        sha256: expected digest of the weights file; None skips the check.
        file: the augmentation file, for the source ``file``.
        endpoint: base URL of the server, up to and with ``/v1``.
        endpoint_model: the server's name for the model.
        api_key_env: environment variable that holds the server's key.
        timeout_seconds: longest time of one call.
        concurrency: calls at the same time.
        retries: further attempts if an answer does not parse. A call that fails is repeated up to
            four times beside these.
        max_new_tokens: largest number of tokens in an answer, which holds all positives and
            negatives.
        temperature: of the sampling; 0 takes the most likely words.
        chat_template_kwargs: what else the chat template gets. `{enable_thinking = false}` switches
            the thoughts of a Qwen3 model off. A model of transformers gets this one by itself if
            its template knows it; an endpoint gets what is given here (vLLM and SGLang take it,
            others may refuse).
        extra_body: further fields of a request to an endpoint, which win over the others. A vLLM
            server takes what is not in a request from the model's ``generation_config.json``, so
            `{repetition_penalty = 1.0, top_p = 1.0, top_k = -1}` lets it inherit nothing.
        json_schema: whether an endpoint gets the JSON schema of the answer. One that refuses it is
            asked without it, with a warning.
        max_pixels: frames with more pixels are scaled down to so many before the model sees them;
            None for the size that they have. Pixels are tokens: Qwen2.5-VL makes one of 28 x 28.
        max_video_pixels: the same for all frames of a video together.
        dtype: of the model's weights.
        batch_texts: expressions in one pass of a model of transformers.
    """

    source: Literal["model", "endpoint", "lexicon", "file", "none"] = "lexicon"
    positives: int = Field(2, ge=1)
    negatives: int = Field(12, ge=0)
    siblings: bool = True
    frames: int = Field(4, ge=1)
    input: Literal["images", "video"] = "images"
    frames_per_second: float | None = Field(None, gt=0, le=1000)
    similarity: Literal["captioner", "encoder"] = "captioner"
    similarity_checkpoint: Checkpoint | None = None
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
    chat_template_kwargs: dict[str, bool | int | float | str] = {}
    extra_body: dict[str, Any] = {}
    json_schema: bool = True
    max_pixels: int | None = Field(None, ge=28 * 28)
    max_video_pixels: int | None = Field(None, ge=28 * 28)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_texts: int = Field(8, ge=1)

    @property
    def needs_frames(self) -> bool:
        """Whether a model of the stage looks at frames of the video."""
        return self.source in ("model", "endpoint") or self.similarity == "encoder"

    @property
    def pixels_of_frame(self) -> int | None:
        """The most pixels of each of the frames that the model sees; None for no limit."""
        limits = [self.max_pixels] if self.max_pixels else []
        if self.max_video_pixels:
            limits.append(max(1, self.max_video_pixels // self.frames))
        return min(limits, default=None)

    @field_validator("endpoint")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        return _plain_address(value)

    @model_validator(mode="after")
    def _complete(self) -> AugmentConfig:
        if self.source == "endpoint" and not (self.endpoint and self.endpoint_model):
            raise ValueError("source 'endpoint' needs endpoint and endpoint_model")
        if self.input == "video" and self.source != "model":
            raise ValueError(
                f"input 'video' with source {self.source!r}; only a model of transformers (source"
                " 'model') gets a video; set input to 'images'"
            )
        if self.similarity == "encoder" and self.similarity_checkpoint is None:
            raise ValueError(
                "similarity 'encoder' needs similarity_checkpoint, a folder of transformers with"
                " CLIP, SigLIP, SigLIP 2 or X-CLIP"
            )
        if self.source == "file" and self.file is None:
            raise ValueError("source 'file' needs file, a WSRVOS augmentation JSON")
        return self


class MllmConfig(Section):
    """A multimodal language model that finds boxes (``ground.source = "mllm"``).

    Without an endpoint it is the model of transformers in the folder ``ground.checkpoint``.

    Attributes:
        endpoint: base URL of an OpenAI-compatible server, up to and with ``/v1``.
        endpoint_model: the server's name for the model.
        api_key_env: environment variable that holds the server's key.
        timeout_seconds: longest time of one call.
        concurrency: calls at the same time.
        coordinates: of its answers: ``pixels`` of the image that it sees (Qwen2.5-VL), or
            ``thousandths`` of the image's width and height (Qwen2-VL, Qwen3-VL). None decides by
            the model of a folder; an endpoint needs it.
        max_pixels: frames with more pixels are scaled down to so many before the model sees them.
        max_new_tokens: largest number of tokens in an answer.
        extra_body: further fields of a request to an endpoint, as in `augment`.
    """

    endpoint: str | None = None
    endpoint_model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = Field(120.0, gt=0)
    concurrency: int = Field(8, ge=1)
    coordinates: Literal["pixels", "thousandths"] | None = None
    max_pixels: int = Field(1_003_520, ge=56 * 56)
    max_new_tokens: int = Field(256, ge=16)
    extra_body: dict[str, Any] = {}

    @field_validator("endpoint")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        return _plain_address(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.endpoint and not (self.endpoint_model and self.coordinates):
            raise ValueError(
                "endpoint needs endpoint_model, and coordinates: 'pixels' for Qwen2.5-VL,"
                " 'thousandths' for Qwen3-VL"
            )
        return self


class GroundConfig(Section):
    """Stage ``ground``: boxes for every sentence.

    Attributes:
        source: ``model`` (Grounding DINO or OWLv2), ``mllm`` (a multimodal language model, asked
            for each sentence in each key frame), or ``annotation`` (the data set's own boxes).
        mllm: which model that is, and how it answers.
        checkpoint: weights file, or ``demo:ground``.
        sha256: expected digest of the weights file; None skips the check.
        backbone: ``demo``, ``swin_T_224_1k`` or ``swin_B_384_22k``, by groundingdino's names; or
            ``transformers``, whose checkpoint is a folder of transformers with Grounding DINO, MM
            Grounding DINO or OWLv2. The folder has all, so ``text_encoder`` is not set.
        text_encoder: folder of the BERT that the weights belong to; None for the demo model.
        adapter: ``model.safetensors`` of a GroPrompt student, whose decoder replaces the
            checkpoint's; None for the checkpoint as it is.
        runner_ups: boxes that are kept per sentence beside its best one (R - 1).
        score: how a box's similarities to a sentence's tokens make its similarity to the sentence.
            ``best`` is the mean of the ``best_words`` highest, and does not depend on the length
            of the sentence: published models score one or two words of it high, and the rest near
            0. ``mean`` is over all tokens; the demo model was trained for it. ``max`` is the
            highest, and sees no attribute beside the noun. The default is ``mean`` for the demo
            model, and ``best`` for the others. Thresholds of ``fuse`` belong to a score. OWLv2
            scores sentences as a whole; this, ``best_words`` and ``joint`` change nothing there.
        best_words: tokens that count with ``best``. A sentence with fewer of them is not scored
            higher for it: a missing one counts 0.
        joint: sentences that share a pass of the transformer. Each attends to its own words only
            (the sub-sentence mask of Grounding DINO). 1 is exact, more is faster. Published models
            find fewer objects with many; the demo model was trained with up to ten.
        screen: frames of a video in which all sentences are grounded first, evenly spaced. In the
            others, negatives are left out whose best box was the positives' own in each of these:
            they cannot tell two objects apart. 0 grounds all sentences in every frame.
        every: the model sees every n-th frame, and always the first and the last. Boxes of the
            frames between are interpolated linearly. 1 sees every frame.
        short_side, long_side: pixels. A frame's short side is resized to the first, unless its long
            side would exceed the second. With ``backbone = "transformers"``, the defaults are 800
            and 1333; OWLv2 has a size of its own.
        dtype: of the forward pass. Weights stay float32, except those of a multimodal language
            model.
        attention: of the transformer. ``fused`` computes deformable attention as one sum, and the
            fusion of text and image without projecting the image; ``explicit`` computes both as
            groundingdino does. The results agree within rounding.
        compile: whether the image backbone is compiled with ``torch.compile``, once per size of
            frames. The results agree within rounding.
        batch_frames: frames in one pass of the image backbone.
        batch_pairs: pairs of a frame and a caption in one pass of the transformer.
    """

    source: Literal["model", "mllm", "annotation"] = "model"
    mllm: MllmConfig = MllmConfig()
    checkpoint: Checkpoint = "demo:ground"
    sha256: str | None = None
    backbone: Literal["demo", "swin_T_224_1k", "swin_B_384_22k", "transformers"] = "demo"
    text_encoder: UsersPath | None = None
    adapter: UsersPath | None = None
    runner_ups: int = Field(2, ge=0)
    score: Literal["best", "mean", "max"] = "mean"
    best_words: int = Field(2, ge=1)
    joint: int = Field(8, ge=1, le=32)
    screen: int = Field(0, ge=0)
    every: int = Field(1, ge=1)
    short_side: int = Field(96, ge=32)
    long_side: int = Field(192, ge=32)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["fused", "explicit"] = "fused"
    compile: bool = False
    batch_frames: int = Field(8, ge=1)
    batch_pairs: int = Field(32, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_model(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("source") == "mllm":
            return {"joint": 1} | dict(values)
        if not isinstance(values, Mapping) or values.get("backbone", "demo") == "demo":
            return values
        sizes = {"short_side": 800, "long_side": 1333}
        own = sizes if values["backbone"] == "transformers" else {}
        return {"score": "best"} | own | dict(values)

    @property
    def uses_checkpoint(self) -> bool:
        """Whether boxes come from the weights that ``checkpoint`` names."""
        return self.source == "model" or (self.source == "mllm" and not self.mllm.endpoint)

    @model_validator(mode="after")
    def _mllm_is_named(self) -> Self:
        if self.source != "mllm":
            return self
        if not self.mllm.endpoint and self.checkpoint.startswith("demo:"):
            raise ValueError(
                "source 'mllm' needs checkpoint, a folder of transformers with Qwen2.5-VL or"
                " Qwen3-VL, or mllm.endpoint"
            )
        if self.joint != 1:
            raise ValueError("source 'mllm' asks for each sentence alone; set joint to 1")
        return self

    @model_validator(mode="after")
    def _a_folder_has_all(self) -> Self:
        if self.backbone != "transformers":
            return self
        for name in ("text_encoder", "adapter", "compile"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} with backbone 'transformers'; it belongs to groundingdino's own model;"
                    " leave it out"
                )
        return self


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
            where the grounding model missed it.
        checkpoint: with ``model``, a folder of transformers with SAM 2.1, EdgeTAM, or SAM 3's
            tracker.
        sha256: expected digest of its weights; None skips the check.
        dtype: of the model.
        objects: most tracks of a video to follow, those with the most evidence.
        prompts: most frames to follow a track from, those with its best scores.
        same_mask_iou: masks of a frame with at least this IoU are one instance.
        minimum_score: an instance is left out if no sentence scores it as high as this.
        gap: a track goes on after at most this many frames without an instance.
        profile_weight: how much the agreement of sentences' scores counts for a link, against the
            overlap with the box that is expected.
        link_above: an instance joins a track if they agree at least this much, in [0, 1].
        join_above: two tracks without a common frame are joined if the cosine of their profiles is
            at least this.
    """

    source: Literal["association", "model"] = "association"
    checkpoint: Checkpoint | None = None
    sha256: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    objects: int = Field(16, ge=1)
    prompts: int = Field(3, ge=1)
    same_mask_iou: float = Field(0.6, gt=0, le=1)
    minimum_score: float = Field(0.05, ge=0, le=1)
    gap: int = Field(8, ge=1)
    profile_weight: float = Field(0.5, ge=0, le=1)
    link_above: float = Field(0.5, ge=0, le=1)
    join_above: float = Field(0.6, ge=-1, le=1)

    @model_validator(mode="after")
    def _model_has_a_checkpoint(self) -> Self:
        if self.source == "model" and self.checkpoint is None:
            raise ValueError(
                'source = "model" needs checkpoint, such as "published:sam2.1-hiera-small"'
            )
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

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.mask_frames or self.boxes_every or self.points_every):
            raise ValueError("no masks, boxes or points; expected one of them above 0")
        return self


FIRST_MASK = BudgetConfig(boxes_every=0)
FIRST_MASK_BOXES = BudgetConfig()
BOXES = BudgetConfig(mask_frames=0)


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
        return self

    @property
    def weak(self) -> WeakConfig | None:
        """The losses of masks by weak annotation; None for a student without them."""
        return None

    @property
    def needs_masks(self) -> bool:
        """Whether it learns from the run's masks, or from samples that they decide."""
        part = self.annotation
        by_masks = part is not None and (part.mask_choice == "weight" or part.others != "nothing")
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


def _model_of(section: Mapping[str, Any]) -> str:
    """Returns the student that a section is of: ``grounded`` if its settings fit any."""
    signs = [*section, f"supervision={section.get('supervision')}"]
    return next((_OWNERS[sign] for sign in signs if sign in _OWNERS), "grounded")


class ReportConfig(Section):
    """The report page.

    Attributes:
        samples: how many samples it shows.
        frames: frames that it shows of each.
        width: of the frames, pixels.
    """

    samples: int = Field(60, ge=0)
    frames: int = Field(6, ge=1)
    width: int = Field(224, ge=32)


class RunnerConfig(Section):
    """Where shards are worked on. No result depends on it.

    Attributes:
        kind: ``local`` works in this process; ``ray`` on the workers of a Ray cluster, each on one
            shard at a time.
        workers: workers of a cluster that is started here, and processes of a training. None stands
            for one per GPU of this machine, or two without a GPU.
        address: of a running cluster, such as ``ray://host:10001``; None starts one here. Its
            machines must see the run's folder and the data set under the same absolute paths.
        decode_workers: threads that decode frames ahead of the model; 0 decodes in the main thread.
        batches_ahead: largest number of frame batches that wait for the model.
        writes_behind: largest number of results that wait to be written; 0 writes at once.
        shard_timeout: seconds that a stage may take for one shard, as where a device hangs. The
            shard fails then, and the run goes on with the others. None waits for ever.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1)
    address: str | None = None
    decode_workers: int = Field(2, ge=0, le=64)
    batches_ahead: int = Field(2, ge=1)
    writes_behind: int = Field(1, ge=0)
    shard_timeout: float | None = Field(None, gt=0)


class RunConfig(Section):
    """All settings of a run.

    Attributes:
        out: folder that holds runs. This run's folder is ``<out>/<dataset>-<split>``.
        seed: random seed.
        device: ``auto`` uses CUDA if there is a GPU. A device that is named must exist.
        shard_videos: videos per shard. A shard is the unit that is processed, stored and resumed.
        maximum_failed_share: the run fails if a larger share of its shards failed.
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
    track: TrackConfig = TrackConfig()
    fuse: FuseConfig = FuseConfig()
    rank: RankConfig = RankConfig()
    student: AnyStudentConfig = Field(GroundedStudentConfig(), discriminator="model")
    report: ReportConfig = ReportConfig()
    runner: RunnerConfig = RunnerConfig()

    @field_validator("student", mode="before")
    @classmethod
    def _default_model(cls, value: Any) -> Any:
        """A section that names no student is of the one that its settings belong to, else of
        ``grounded``."""
        return {"model": _model_of(value), **value} if isinstance(value, Mapping) else value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError(f"{value!r} is not a device; expected auto, cpu, cuda, cuda:N or mps")
        return value

    @property
    def run_folder(self) -> Path:
        return self.out / f"{self.dataset.name}-{self.dataset.split}"


def given(name: str, value: object) -> str:
    """Returns the override that sets a setting to the value of an option."""
    return f"{name}={_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a TOML file and applies ``section.key=value`` overrides to it.

    Args:
        path: the file; None for the defaults, which use the demo models.
        overrides: such as ``rank.threshold=0.6``. A value that is not TOML is a string.

    Raises:
        ConfigError: the file is missing or is not TOML, or a name or a value is wrong.
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
    assigned = []
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"override {override!r}: expected section.key=value")
        assigned.append((name.strip(), _parse_value(text), override))
    named = [value for name, value, _ in assigned if name == "student.model"]
    if named and isinstance(values.get("student"), dict):
        values["student"] = _of_student(values["student"], named[-1])
    for name, value, override in assigned:
        _assign(values, name.split("."), value, override)
    return config_from(values, source)


def _of_student(section: dict[str, Any], model: object) -> dict[str, Any]:
    """Returns a file's section of the student for the student that the command line names.

    Sizes and rates of another student do not fit it, so nothing of its section is left but
    ``enabled``.
    """
    if section.get("model", _model_of(section)) == model:
        return section
    return {name: value for name, value in section.items() if name == "enabled"}


def config_from(values: Mapping[str, Any], source: str) -> RunConfig:
    """Validates plain values.

    Raises:
        ConfigError: names the section and key of every wrong value, and ``source``.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            _problem(item["loc"], item["type"], item["msg"]) for item in error.errors()
        )
        # `from None` leaves the values out of the traceback too: one of them may be a secret.
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
    """Returns the settings that are most similar to a wrong name, in words; empty for none."""
    every = list(dict.fromkeys(_settings(RunConfig)))
    # The right name in the wrong section, or in none.
    last = name.rpartition(".")[2]
    near = [setting for setting in every if setting.rpartition(".")[2] == last][:3]
    near = near or difflib.get_close_matches(name, every, 3, 0.8)
    near = near or difflib.get_close_matches(name, every, 1, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _settings(section: type[Section], within: str = "") -> Iterator[str]:
    """Yields the full name of every section and setting."""
    for name, info in section.model_fields.items():
        yield within + name
        kinds = get_args(info.annotation) if isinstance(info.annotation, UnionType) else ()
        for kind in kinds or (info.annotation,):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _settings(kind, f"{within}{name}.")


def dump_config(config: RunConfig) -> str:
    """Returns the configuration as TOML that :func:`load_config` reads back unchanged."""
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
