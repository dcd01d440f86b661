"""Frames as a processor takes them: loose images, or a video that says when each was shown.

A request with times is a video. Letters: F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as Pillow
from transformers.video_utils import VideoMetadata

from pipeline.ports import CaptionRequest

TICKS = 1000
"""Times are given in these parts of a second."""

STILL_SECONDS = 1.0
"""What the frames of a video without any length are apart; nothing depends on it."""


def placeholders(request: CaptionRequest) -> list[dict[str, str]]:
    """Returns the parts of a message that stand for the frames of a request."""
    if request.times:
        return [{"type": "video"}]
    return [{"type": "image"} for _ in request.images]


def visual_inputs(batch: Sequence[CaptionRequest]) -> dict[str, Any]:
    """Returns the arguments of a processor that hold the frames of some requests.

    Requests of one batch are all videos or all loose images.
    """
    if any(request.times for request in batch):
        return {
            "videos": [np.stack(_two_or_more(request.images)) for request in batch],
            "video_metadata": [metadata(_two_or_more(request.times)) for request in batch],
            "do_sample_frames": False,
        }
    pictures = [[Pillow.fromarray(image) for image in request.images] for request in batch]
    return {"images": pictures if any(pictures) else None}


def _two_or_more(items: Sequence[Any]) -> Sequence[Any]:
    """Returns the frames of a video, or their times. Processors refuse a video of one frame."""
    return items if len(items) > 1 else [*items, *items]


def metadata(times: Sequence[float]) -> VideoMetadata:
    """Returns what tells a processor of transformers when each of F frames is shown.

    Args:
        times: seconds after the first frame of the video, ascending [F].
    """
    span = times[-1] - times[0]
    # Models that know a rate alone get that of the frames they see.
    step = span / (len(times) - 1) if span > 0 else STILL_SECONDS
    return VideoMetadata(
        total_num_frames=max(1, round(len(times) * step * TICKS)),
        fps=float(TICKS),
        duration=max(times[-1], step),
        frames_indices=[round(time * TICKS) for time in times],
    )


def takes_videos(processor: Any) -> bool:
    """Whether a processor has a place for a video in its chat template."""
    token = getattr(processor, "video_token", None)
    if getattr(processor, "video_processor", None) is None or token is None:
        return False
    content = [{"type": "video"}, {"type": "text", "text": "a"}]
    message = [{"role": "user", "content": content}]
    return str(token) in processor.apply_chat_template(message, tokenize=False)


def frame_token(processor: Any, request: CaptionRequest) -> int | None:
    """Returns the id of the token that stands for frames of a request in a prompt; None if the
    processor names none."""
    if not request.times:
        return getattr(processor, "image_token_id", None)
    known = getattr(processor, "video_token_id", None)
    token = getattr(processor, "video_token", None)
    if known is None and token is not None:
        known = processor.tokenizer.convert_tokens_to_ids(token)
    return known
