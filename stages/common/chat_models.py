"""What image-text-to-text models of transformers have in common when they answer."""

from __future__ import annotations

from typing import Any


def without_thoughts(processor: Any) -> dict[str, Any]:
    """Returns what switches thinking off in the chat template, if the template knows it."""
    owners = (processor, processor.tokenizer)
    known = any("enable_thinking" in str(getattr(owner, "chat_template", "")) for owner in owners)
    return {"enable_thinking": False} if known else {}


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Returns the tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return set()
    return {ends} if isinstance(ends, int) else set(ends)
