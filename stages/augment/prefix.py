"""The part of a prompt that all sentences of a video share: its frames, run through the model once.

The frames come first in every prompt, and are most of it. What the model keeps of them (keys and
values of every layer) is computed for the first sentence and repeated for each batch of the rest.

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
    """Frames as a model has read them.

    Attributes:
        ids: int64 [1, P], the tokens up to the last of the last frame.
        cache: keys and values of every layer.
        rope_deltas: what Qwen-VL models add to the positions of text that follows; else None.
    """

    ids: Tensor
    cache: Any
    rope_deltas: Tensor | None


class SharedFrames:
    """The frames that prompts have in common, each sequence of them read once.

    Two prompts share frames where they have the same sequence, not an equal one.

    Args:
        model: an image-text-to-text model.
        processor: of that model.
        frames: of each prompt; they must outlive this object.
    """

    def __init__(self, model: Any, processor: Any, frames: Sequence[Frames]) -> None:
        self._model, self._processor = model, processor
        self._prompts = Counter(id(each) for each in frames)
        self._read: dict[int, SharedPrefix | None] = {}

    def inputs(self, texts: Sequence[str], frames: Sequence[Frames]) -> Mapping[str, Any] | None:
        """What ``model.generate`` takes to go on after the frames of B prompts; None where the
        prompts are not of one sequence of frames that others have too, or where the model does not
        say where frames end.

        Args:
            texts: the prompts, as the chat template gives them.
            frames: of each.
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
    """What a model keeps of the frames of a prompt; None for a model that it cannot be told of.

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
    """The tokens of a prompt after the last frame's; None where the frames cannot be told."""
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
    """What ``model.generate`` takes to go on from a prefix with B prompts.

    Padding stands between the frames and the shorter rests, and is attended to by nothing.

    Args:
        rests: of each prompt, by :func:`rest_of`.
        pad: the token of padding.

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
