"""The section of stage ``ground``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Checkpoint, Section, UsersPath, plain_address


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
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @field_validator("endpoint")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        return plain_address(value)

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
        annotated_frames: with ``annotation``, only the first so many frames of a video get boxes,
            which a tracker can follow from there; None for all frames.
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
    annotated_frames: int | None = Field(None, ge=1)
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
