"""The section of stage ``judge``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Checkpoint, Section, plain_address


class JudgeConfig(Section):
    """Stage ``judge``: a multimodal language model chooses among the tracks of doubtful sentences.

    Attributes:
        source: who judges: ``none`` (the run has no such stage), ``model`` (an image-text-to-text
            model of transformers), ``endpoint`` (any OpenAI-compatible server), or ``stand_in`` (a
            rule without a model, for the demo: it looks at no frame).
        below: sentences are asked about whose chosen track leads the best other one by less than
            this. The lead is in scores of ``fuse``, in [0, 1] as the grounder's.
        tracks: most tracks to choose from, those with the best votes.
        frames: frames of the video that the model sees.
        checkpoint: with ``model``, the folder of the model.
        sha256: expected digest of its weights; None skips the check.
        endpoint: base URL of the server, up to and with ``/v1``.
        endpoint_model: the server's name for the model.
        api_key_env: environment variable that holds the server's key.
        timeout_seconds: longest time of one call.
        concurrency: calls at the same time.
        max_pixels: frames with more pixels are scaled down to so many before the model sees them.
        max_new_tokens: largest number of tokens in an answer; a thinking model needs more.
        extra_body: further fields of a request to an endpoint, as in `augment`.
        dtype: of the model's weights.
        batch_texts: questions in one pass of a model of transformers.
    """

    source: Literal["none", "model", "endpoint", "stand_in"] = "none"
    below: float = Field(0.1, ge=0)
    tracks: int = Field(4, ge=1, le=9)
    frames: int = Field(6, ge=1)
    checkpoint: Checkpoint | None = None
    sha256: str | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = Field(120.0, gt=0)
    concurrency: int = Field(8, ge=1)
    max_pixels: int = Field(501_760, ge=56 * 56)
    max_new_tokens: int = Field(32, ge=1)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_texts: int = Field(4, ge=1)

    @property
    def is_on(self) -> bool:
        """Whether a run has the stage."""
        return self.source != "none"

    @field_validator("endpoint")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        return plain_address(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "model" and self.checkpoint is None:
            raise ValueError(
                "source 'model' needs checkpoint, a folder of transformers with Qwen2.5-VL,"
                " Qwen3-VL or another image-text-to-text model"
            )
        if self.source == "endpoint" and not (self.endpoint and self.endpoint_model):
            raise ValueError("source 'endpoint' needs endpoint and endpoint_model")
        return self
