"""What a judge is asked about the tracks of a sentence, what it says, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.ports import Image
from pipeline.types import Provenance, SampleKey

UNSTATED = 0.5
"""Stands for the probability of an answer whose tokens have none."""


@dataclass(frozen=True, eq=False)
class JudgeRequest:
    """A question to a judge: which of the marked objects does a sentence mean?

    Attributes:
        key: the sample.
        text: the sentence.
        images: frames of the video in order, RGB [H, W, 3], with the objects marked.
        numbers: of the objects, from 1 on.
        scores: mean scores of the sentence for each object, for a rule without a model.
    """

    key: SampleKey
    text: str
    images: Sequence[Image]
    numbers: Sequence[int]
    scores: Sequence[float]


@dataclass(frozen=True)
class JudgeReply:
    """An answer of a judge.

    Attributes:
        text: as it was given.
        chosen: numbers that it names; empty for none of the objects; None if it cannot be read.
        probability: of the answer among those that were possible, by the model's tokens, in [0, 1];
            None if it is not known.
        tokens: that a model read and wrote; 0 where none did, or nobody says.
    """

    text: str
    chosen: tuple[int, ...] | None
    probability: float | None = None
    tokens: tuple[int, int] = (0, 0)


class Judge(Protocol):
    """Says which of some marked objects a sentence means.

    Attributes:
        provenance: what answers.
        needs_frames: whether it looks at the images of a request.
    """

    provenance: Provenance
    needs_frames: bool

    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Returns one reply per request, in their order."""
        ...


@dataclass(frozen=True)
class JudgeAnswer:
    """One answer.

    Attributes:
        tracks: the tracks that were shown.
        numbers: the number that each of them had.
        text: the answer as it was given.
        chosen: the tracks that it names, ascending; empty for none of them; None if it cannot be
            read.
        probability: of the answer by the model's tokens, in [0, 1]; None if it is not known.
    """

    tracks: tuple[int, ...]
    numbers: tuple[int, ...]
    text: str
    chosen: tuple[int, ...] | None
    probability: float | None


@dataclass(frozen=True)
class Ruling:
    """What a judge decided about a sentence.

    Attributes:
        chosen: tracks that are the target; empty if none of those shown is.
        rejected: tracks that were shown and are not the target.
        probability: of the decision, in (0, 1].
    """

    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    probability: float


@dataclass(frozen=True)
class Judgement:
    """The answers about one sentence.

    Attributes:
        key: the sample.
        margin: lead of the chosen track over the best other one, by the votes.
        voted: tracks that the votes choose, ascending; empty if they find the target absent.
        answers: two, to the same question with other numbers of the tracks.
        provenance: who answered.
    """

    key: SampleKey
    margin: float
    voted: tuple[int, ...]
    answers: tuple[JudgeAnswer, ...]
    provenance: Provenance

    @property
    def agreement(self) -> float | None:
        """Share of the tracks named by any answer that all answers name, in [0, 1]; 1 if all name
        none. None if an answer cannot be read."""
        named = [set(item.chosen) for item in self.answers if item.chosen is not None]
        if not named or len(named) < len(self.answers):
            return None
        either = set.union(*named)
        return len(set.intersection(*named)) / len(either) if either else 1.0

    @property
    def probability(self) -> float | None:
        """Mean probability of the answers; None if one has none."""
        known = [item.probability for item in self.answers if item.probability is not None]
        return sum(known) / len(known) if known and len(known) == len(self.answers) else None

    @property
    def ruling(self) -> Ruling | None:
        """What the answers decide together; None unless they agree."""
        if self.agreement != 1.0:
            return None
        chosen = self.answers[0].chosen or ()
        rejected = tuple(sorted(set(self.answers[0].tracks) - set(chosen)))
        known = self.probability
        return Ruling(chosen, rejected, UNSTATED if known is None else max(known, 1e-3))

    @property
    def trust(self) -> float:
        """What the weights of the sentence's frames are multiplied with: 1 if the answers agree or
        cannot be read, and 0.5 if they have nothing in common."""
        return 1.0 if self.agreement is None else (1 + self.agreement) / 2

    @property
    def outcome(self) -> str:
        """What came of it: one of :data:`OUTCOMES`."""
        if self.agreement is None:
            return NO_ANSWER
        if self.ruling is None:
            return INCONSISTENT
        if self.ruling.chosen == self.voted:
            return KEPT
        return TURNED_OVER if self.ruling.chosen else MADE_ABSENT

    def words(self) -> str:
        """Returns what came of it in a sentence."""
        said = "; ".join(answer_in_words(item) for item in self.answers)
        return f"{self.outcome} (margin {self.margin:.3f}): {said}"


def trust_of(judgements: Mapping[tuple[str, str], Judgement], key: SampleKey) -> float:
    """Returns the trust in the masks of a sample; 1 if no judge was asked about it."""
    found = judgements.get((key.video, key.expression))
    return 1.0 if found is None else found.trust


KEPT = "the votes' choice kept"
TURNED_OVER = "the votes' choice turned over"
MADE_ABSENT = "made absent"
INCONSISTENT = "answers disagree, nothing changed"
NO_ANSWER = "an answer cannot be read, nothing changed"

OUTCOMES = (KEPT, TURNED_OVER, MADE_ABSENT, INCONSISTENT, NO_ANSWER)


def answer_in_words(item: JudgeAnswer) -> str:
    """Returns what an answer says, and with which probability."""
    if item.chosen is None:
        return f"unreadable {item.text[:40]!r}"
    sure = "probability unknown" if item.probability is None else f"{item.probability:.2f}"
    return f"{tracks_in_words(item.chosen)} ({sure})"


def tracks_in_words(tracks: Sequence[int]) -> str:
    """Returns the numbers of tracks in words."""
    if not tracks:
        return "none of them"
    return f"track{'s' * (len(tracks) > 1)} {' and '.join(map(str, tracks))}"
