"""Runs the frames of a video through the model once for all of its sentences.

The frames come first in every prompt and are most of it. Their keys and values in every layer are
computed for the first sentence and repeated for each batch of the others.

Letters: B prompts of a batch, P tokens up to the last frame's, S tokens of the longest rest.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.ports import CaptionRequest
from stages.augment.vision import frame_token, visual_inputs


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

    Two requests share frames if they have the same sequence object, not an equal one.

    Args:
        model: an image-text-to-text model.
        processor: of that model.
        requests: all that are to be asked. They must outlive this object.
    """

    def __init__(self, model: Any, processor: Any, requests: Sequence[CaptionRequest]) -> None:
        self._model, self._processor = model, processor
        self._prompts = Counter(id(each.images) for each in requests)
        self._read: dict[int, SharedPrefix | None] = {}

    def inputs(
        self, texts: Sequence[str], batch: Sequence[CaptionRequest]
    ) -> Mapping[str, Any] | None:
        """Returns the inputs with which ``model.generate`` continues after the frames of B prompts.

        Args:
            texts: the prompts, as the chat template gives them.
            batch: the request of each prompt.

        Returns:
            None if the B prompts do not share one sequence of frames with other prompts, or if the
            end of the frames cannot be found in them.
        """
        first = batch[0]
        frames = first.images
        if not frames or self._prompts[id(frames)] < 2:
            return None
        if any(each.images is not frames for each in batch):
            return None
        token = frame_token(self._processor, first)
        found = (rest_of(self._processor, text, token) for text in texts)
        rests = [rest for rest in found if rest is not None]
        if len(rests) < len(texts):
            return None
        if id(frames) not in self._read:
            self._read[id(frames)] = read_frames(self._model, self._processor, texts[0], first)
        prefix = self._read[id(frames)]
        if prefix is None:
            return None
        return continued(self._model, prefix, rests, self._processor.tokenizer.pad_token_id)


def read_frames(
    model: Any, processor: Any, text: str, request: CaptionRequest
) -> SharedPrefix | None:
    """Runs the frames of a request through a model; None if this cannot be done for the model.

    Args:
        text: its prompt as the chat template gives it.
    """
    inputs = processor(text=[text], **visual_inputs([request]), return_tensors="pt")
    inputs = inputs.to(model.device, dtype=model.dtype)
    ids: Tensor = inputs["input_ids"]
    rest = rest_of(processor, text, frame_token(processor, request))
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
    deltas = getattr(_inner(model), "rope_deltas", None)
    if deltas is not None and request.times:
        # What was noted for the frames alone is of the last second of the video, and text does not
        # follow it: its positions follow those of a frame's own tokens.
        deltas = _deltas_of_text(model, inputs, length)
        if deltas is None:
            return None
    return SharedPrefix(ids[:, :length], cache, deltas)


def _deltas_of_text(model: Any, inputs: Mapping[str, Any], length: int) -> Tensor | None:
    """Returns what a Qwen-VL model adds to the positions of the text of a prompt after its video.

    Args:
        inputs: of the whole prompt.
        length: its tokens up to the last frame's.

    Returns:
        int64 [1, 1]; None if answers get another number than the text does, as after a video of
        more seconds than the text has tokens.
    """
    find = _inner(model).get_rope_index
    known = inspect.signature(find).parameters
    positions, deltas = find(**{name: item for name, item in inputs.items() if name in known})
    places = torch.arange(length, positions.shape[2], device=positions.device)
    own = (positions[:, 0, length:] - places).unique()
    return deltas if own.tolist() == deltas.flatten().tolist() else None


def rest_of(processor: Any, text: str, token: int | None) -> list[int] | None:
    """Returns a prompt's tokens after its last frame; None if the frames are not marked.

    Args:
        token: that stands for frames.
    """
    if token is None:
        return None
    tokens: list[int] = processor.tokenizer(text)["input_ids"]
    if token not in tokens:
        return None
    return tokens[len(tokens) - tokens[::-1].index(token) :]


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
