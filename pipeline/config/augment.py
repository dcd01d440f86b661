"""The section of stage ``augment``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Checkpoint, Section, UsersPath, plain_address


class AugmentConfig(Section):
    """Stage ``augment``: positives and hard negatives for every expression (WSRVOS).

    Attributes:
        source: who writes them: ``model`` (an image-text-to-text model of transformers),
            ``endpoint`` (any OpenAI-compatible server), ``lexicon`` (rules, without a model),
            ``file`` (a WSRVOS augmentation file), or ``none`` (the original expression alone).
        positives: K, the largest number of positives, the original included (the paper: 6). The
            default is 2 because the demo grounder knows few words, so more paraphrases hurt it.
        negatives: N, the largest number of negatives (the paper: 48).
        nouns: whether the model of ``source`` also names the sort of object that each sentence
            means. ``track.source = "sam3"`` looks for these, and takes nouns from rules where there
            are none. A model with a prompt of its own is asked by that prompt.
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
    nouns: bool = False
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
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
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
        return plain_address(value)

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
