"""A stand-in for a judge, for the demo: a rule that looks at no frame.

It takes the track that the sentence itself scores highest, without its paraphrases and negatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.judgements import JudgeReply, JudgeRequest
from pipeline.types import Provenance

NAME = "stand-in (a rule, no model)"

LEAST = 0.2
"""Mean score of the sentence below which no track is meant."""

SPREAD = 0.05
"""Difference of scores that makes an answer e times as likely as another."""


class StandIn:
    """A :class:`pipeline.ports.Judge` without a model."""

    needs_frames = False

    def __init__(self, seed: int) -> None:
        self.provenance = Provenance(NAME, "", "stand-in-1", seed)

    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Returns one reply per request, in their order."""
        return [_reply(request) for request in requests]


def _reply(request: JudgeRequest) -> JudgeReply:
    scored = [(LEAST, 0), *zip(request.scores, request.numbers, strict=True)]
    best, number = max(scored, key=lambda item: item[0])
    total = sum(math.exp((score - best) / SPREAD) for score, _ in scored)
    return JudgeReply(str(number), (number,) if number else (), 1 / total)
