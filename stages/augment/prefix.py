"""Runs the frames of a video through the model once for all of its sentences.

The frames come first in every prompt and are most of it. Their keys and values in every layer are
computed for the first sentence and repeated for each batch of the others.

Letters: B prompts of a batch, P tokens up to the last frame's, S tokens of the longest rest.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor

from pipeline.ports import Image

Frames = Sequence[Image]


@dataclass(frozen=True)
class SharedPrefix:
    """Frames that a model has read.

    Attributes:
        ids: int64 [1, P], the tokens up to the end of the last frame.
        cache: keys and values of every layer.
        rope_deltas: what Qwen-VL models add to the positions of the text that follows; None for
            other models.
    """

    ids: Tensor
    cache: Any
    rope_deltas: Tensor | None


class SharedFrames:
    """The frames that prompts share. Each sequence of frames is read once.

    Two prompts share frames if they have the same sequence object, not an equal one.

    Args:
        model: an image-text-to-text model.
        processor: of that model.
        frames: the frames of each prompt. They must outlive this object.
    """

    def __init__(self, model: Any, processor: Any, frames: Sequence[Frames]) -> None:
        self._model, self._processor = model, processor
        self._prompts = Counter(id(each) for each in frames)
        self._read: dict[int, SharedPrefix | None] = {}

    def inputs(self, texts: Sequence[str], frames: Sequence[Frames]) -> Mapping[str, Any] | None:
        """Returns the inputs with which ``model.generate`` continues after the frames of B prompts.

        Args:
            texts: the prompts, as the chat template gives them.
            frames: the frames of each prompt.

        Returns:
            None if the B prompts do not share one sequence of frames with other prompts, or if the
            end of the frames cannot be found in them.
        """
        first = frames[0]
        if not first or self._prompts[id(first)] < 2 or any(each is not first for each in frames):
            return None
        rests = [rest for text in texts if (rest := rest_of(self._processor, text)) is not None]
        if len(rests) < len(texts):
            return None
        if id(first) not in self._read:
            self._read[id(first)] = read_frames(self._model, self._processor, texts[0], first)
        prefix = self._read[id(first)]
        if prefix is None:
            return None
        return continued(self._model, prefix, rests, self._processor.tokenizer.pad_token_id)


def read_frames(model: Any, processor: Any, text: str, frames: Frames) -> SharedPrefix | None:
    """Runs the frames of a prompt through a model; None if this cannot be done for the model.

    Args:
        text: a prompt as the chat template gives it.
    """
    pictures = [Pillow.fromarray(frame) for frame in frames]
    inputs = processor(text=[text], images=[pictures], return_tensors="pt")
    inputs = inputs.to(model.device, dtype=model.dtype)
    ids: Tensor = inputs["input_ids"]
    rest = rest_of(processor, text)
    if rest is None or ids[0, len(ids[0]) - len(rest) :].tolist() != rest:
        return None
    length = len(ids[0]) - len(rest)
    shared = {
        name: value[:, :length] if value.shape == ids.shape else value
        for name, value in inputs.items()
    }
    with torch.inference_mode():
        cache = model(**shared, use_cache=True, logits_to_keep=1).past_key_values
    if cache is None or cache.get_seq_length() != length:
        return None
    return SharedPrefix(ids[:, :length], cache, getattr(_inner(model), "rope_deltas", None))


def rest_of(processor: Any, text: str) -> list[int] | None:
    """Returns a prompt's tokens after its last frame; None if the frames are not marked."""
    image = getattr(processor, "image_token_id", None)
    if image is None:
        return None
    tokens: list[int] = processor.tokenizer(text)["input_ids"]
    if image not in tokens:
        return None
    return tokens[len(tokens) - tokens[::-1].index(image) :]


def continued(
    model: Any, prefix: SharedPrefix, rests: Sequence[Sequence[int]], pad: int
) -> Mapping[str, Any]:
    """Returns the inputs with which ``model.generate`` continues a prefix with B prompts.

    Padding lies between the frames and the shorter rests. Nothing attends to it.

    Args:
        rests: the rest of each prompt, from :func:`rest_of`.
        pad: id of the padding token.

    Returns:
        ``input_ids`` and ``attention_mask``, int64 [B, P + S], and ``past_key_values``.
    """
    count, length = len(rests), max(len(rest) for rest in rests)
    ids = torch.tensor([[pad] * (length - len(rest)) + list(rest) for rest in rests])
    known = torch.tensor([[0] * (length - len(rest)) + [1] * len(rest) for rest in rests])
    frames = prefix.ids.repeat(count, 1)
    cache = copy.deepcopy(prefix.cache)
    cache.batch_repeat_interleave(count)
    if prefix.rope_deltas is not None:
        _inner(model).rope_deltas = prefix.rope_deltas
    return {
        "input_ids": torch.cat([frames, ids.to(frames)], 1),
        "attention_mask": torch.cat([torch.ones_like(frames), known.to(frames)], 1),
        "past_key_values": cache,
    }


def _inner(model: Any) -> Any:
    return getattr(model, "model", None)
