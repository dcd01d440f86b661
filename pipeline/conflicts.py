"""Samples about which people disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.decisions import Decision, Sample, by_sample, verdict_of


@dataclass(frozen=True)
class Conflict:
    """A sample about which people disagree.

    Attributes:
        verdicts: person -> what that person's decisions alone come to, in words.
        holds: what holds: all decisions in the order of their times.
    """

    sample: Sample
    verdicts: Mapping[str, str] = field(default_factory=dict)
    holds: str = ""


def conflicts_of(decisions: Iterable[Decision]) -> list[Conflict]:
    """Returns the samples about which people disagree, by sample."""
    conflicts = []
    for sample, mine in sorted(by_sample(decisions).items()):
        people = sorted({item.who for item in mine})
        alone = {who: verdict_of([item for item in mine if item.who == who]) for who in people}
        said = {who: verdict.words() for who, verdict in alone.items() if verdict}
        if len(set(said.values())) > 1:
            conflicts.append(Conflict(sample, said, verdict_of(mine).words()))
    return conflicts
