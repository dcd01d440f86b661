"""What a chat completion of an OpenAI-compatible server says beside its text."""

from __future__ import annotations

import codecs
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np


def without_content(choice: dict[str, Any]) -> str:
    """Returns why a message may have no content."""
    refusal = choice["message"].get("refusal")
    if refusal:
        return f"the model refuses ({str(refusal)[:80]!r}); expected JSON"
    ends = choice.get("finish_reason")
    return (
        f"the answer has no content (finish_reason {ends!r}); a thinking model may have used all of"
        " augment.max_new_tokens for its thoughts; raise it, or switch thinking off with"
        " augment.chat_template_kwargs.enable_thinking=false"
    )


def tokens_of(answer: Any) -> tuple[int, int]:
    """Returns the tokens that a server says it read and wrote; 0 where it says nothing."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    found = [
        usage.get(name) if isinstance(usage, Mapping) else None
        for name in ("prompt_tokens", "completion_tokens")
    ]
    read, written = (
        count if isinstance(count, int) and 0 <= count < 1 << 53 else 0 for count in found
    )
    return read, written


def similarity_of(choice: dict[str, Any], answer: str) -> Callable[[tuple[int, int]], float | None]:
    """Returns a function from a part of the answer to the likelihood that the model gave it.

    It uses the token probabilities that the server reports. If there are none that can be read, the
    function returns None for every part; if they are of other words, 0.
    """
    try:
        content = choice["logprobs"]["content"]
        pieces = _pieces(content)
        chances = np.array([float(item["logprob"]) for item in content])
    except (AttributeError, LookupError, TypeError, ValueError):
        return lambda span: None
    if not pieces:
        return lambda span: None
    ends = _ends(pieces, answer)
    if ends is None:
        return lambda span: 0.0
    return lambda span: likelihood(span, ends, chances)


def alternatives_of(
    choice: dict[str, Any], answer: str
) -> Callable[[int], tuple[str, Mapping[str, float]] | None]:
    """Returns a function from a character of the answer to the token there, and to the natural log
    of the probabilities of the tokens that could stand in its place.

    The function returns None where the server does not report them.
    """
    try:
        content = choice["logprobs"]["content"]
        pieces = _pieces(content)
        others = [
            {str(top["token"]): float(top["logprob"]) for top in item["top_logprobs"]}
            | {str(item["token"]): float(item["logprob"])}
            for item in content
        ]
    except (AttributeError, LookupError, TypeError, ValueError):
        return lambda character: None
    ends = _ends(pieces, answer)

    def at(character: int) -> tuple[str, Mapping[str, float]] | None:
        row = len(pieces) if ends is None else bisect_right(ends, character)
        return (str(content[row]["token"]), others[row]) if row < len(pieces) else None

    return at


def _pieces(content: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the text of each token; a letter may be of several, none of which is text alone."""
    letters = codecs.getincrementaldecoder("utf-8")("replace")
    return [letters.decode(_bytes_of(item)) for item in content]


def _ends(pieces: Sequence[str], answer: str) -> list[int] | None:
    """Returns the character of the answer at which each token ends; None if they are not its
    tokens. Those of thoughts may stand before them."""
    offset = "".join(pieces).rfind(answer)
    return None if offset < 0 else [end - offset for end in accumulate(map(len, pieces))]


def likelihood(
    span: tuple[int, int],
    ends: Sequence[int],
    log_probability: np.ndarray[Any, np.dtype[np.float64]],
) -> float:
    """Returns the likelihood that a model gave a text of its answer, in [0, 1].

    It is the geometric mean of the probabilities of the text's tokens, given the frames, the
    expression and what was written before.

    Args:
        span: the first character of the text, and the one after its last.
        ends: the character at which each of the L tokens ends; it is searched by bisection.
        log_probability: natural log of each token's probability [L].
    """
    start, end = span
    first = bisect_right(ends, start)
    last = max(first + 1, bisect_left(ends, end) + 1)
    chances = log_probability[first:last]
    return float(np.exp(chances.mean())) if chances.size else 0.0


def _bytes_of(token: Mapping[str, Any]) -> bytes:
    raw = token.get("bytes")
    return str(token["token"]).encode("utf-8", "replace") if raw is None else bytes(raw)
