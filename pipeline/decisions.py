"""What people decide about masks: single decisions, and what they come to for a sample.

A decision is of one sample and of one person. A log of decisions only grows: a later decision
replaces an earlier one, and ``undo`` takes the same person's last one of the sample back.
Letter: T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.fingerprint import digest
from pipeline.types import Tracks

Action = Literal["accept", "reject", "absent", "choose", "undo"]
ACTIONS: tuple[Action, ...] = get_args(Action)

KEPT, ABSENT = -1, -2
"""What :meth:`Verdict.frames` says of a frame that is not given a track."""

Sample = tuple[str, str]
"""Ids of a video and of an expression."""

_LONGEST = 200
_KEYS = ("who", "when", "video", "expression", "action", "from", "to", "track", "masks")


@dataclass(frozen=True)
class Decision:
    """What one person decided about one sample.

    Attributes:
        who: name of the person.
        when: time in UTC, ISO 8601.
        action: ``accept`` and ``reject`` are about the whole sample. ``absent`` says that frames do
            not show the target, ``choose`` that a track is the target in them. ``undo`` takes this
            person's last decision about the sample back.
        first, last: the frames of ``absent`` and ``choose``, both included; None: to the end.
        track: of ``choose``: its number in the run's track table.
        masks: digest of what the person saw: for ``choose`` the video's tracks, else the masks.
            Empty if nobody knows.
    """

    who: str
    when: str
    video: str
    expression: str
    action: Action
    first: int = 0
    last: int | None = None
    track: int | None = None
    masks: str = ""

    def __post_init__(self) -> None:
        texts = (self.who, self.when, self.video, self.expression, self.masks)
        if not all(isinstance(text, str) and len(text) <= _LONGEST for text in texts):
            raise ValueError(f"a text is none, or longer than {_LONGEST} characters")
        if not (self.who and self.video and self.expression):
            raise ValueError("who, video and expression must not be empty")
        if self.action not in ACTIONS:
            raise ValueError(f"action {str(self.action)[:40]!r}; expected {', '.join(ACTIONS)}")
        if datetime.fromisoformat(self.when).tzinfo is None:
            raise ValueError(f"when {self.when!r} has no time zone")
        last = self.first if self.last is None else self.last
        if not (_is_count(self.first) and _is_count(last) and self.first <= last):
            raise ValueError(
                f"frames {self.first!r} to {self.last!r}; expected 0 or more, in order"
            )
        if (self.action == "choose") != _is_count(self.track):
            raise ValueError(f"action {self.action} with the track {self.track!r}")

    @property
    def sample(self) -> Sample:
        return self.video, self.expression

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.when)

    def as_json(self) -> dict[str, Any]:
        """Returns the object that stands for it in ``review.jsonl``."""
        values = (self.who, self.when, self.video, self.expression, self.action)
        return dict(
            zip(_KEYS, (*values, self.first, self.last, self.track, self.masks), strict=True)
        )

    @classmethod
    def from_json(cls, values: object) -> Decision:
        """Reads what :meth:`as_json` returns. Raises ValueError if it is something else."""
        if not isinstance(values, Mapping) or not {"who", "when", "video", "expression"} <= set(
            values
        ):
            raise ValueError("expected an object with who, when, video, expression and action")
        first, track = values.get("from"), values.get("track")
        return cls(
            values["who"],
            values["when"],
            values["video"],
            values["expression"],
            values.get("action", ""),
            0 if first is None else first,
            values.get("to"),
            track,
            values.get("masks") or "",
        )


def now() -> str:
    """Returns the time of a decision that is made now."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Span:
    """Frames that a person decided about: a track, or None where the target is absent.

    Attributes:
        tracks: digest of the tracks that the number is one of; empty if nobody knows.
    """

    first: int
    last: int | None
    track: int | None
    tracks: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the decisions about a sample come to.

    Attributes:
        judged: whether the whole sample was accepted or rejected; empty if neither.
        spans: decisions about frames; a later one counts where two overlap.
    """

    judged: Literal["", "accept", "reject"] = ""
    spans: tuple[Span, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.judged or self.spans)

    @property
    def reviewed(self) -> bool:
        """Whether people vouch for it: it was accepted, or a track was chosen."""
        chosen = any(span.track is not None for span in self.spans)
        return self.judged == "accept" or (chosen and self.judged != "reject")

    def without_other_tracks(self, tracks: str) -> Verdict:
        """Returns the verdict without spans whose number is of other tracks than those of a digest.

        If the tracks of a video are made anew, a number may mean another object.
        """
        fitting = (span for span in self.spans if not span.tracks or span.tracks == tracks)
        return replace(self, spans=tuple(fitting))

    def frames(self, count: int) -> NDArray[np.int64]:
        """Returns int64 [T]: the track of each frame, ``ABSENT``, or ``KEPT`` where none says."""
        found = np.full(count, KEPT, np.int64)
        for span in self.spans:
            end = count if span.last is None else span.last + 1
            found[span.first : end] = ABSENT if span.track is None else span.track
        return found

    def words(self) -> str:
        """Returns the verdict in words."""
        parts = [self.judged + "ed"] if self.judged else []
        for span in self.spans:
            to = "the end" if span.last is None else str(span.last)
            what = "absent" if span.track is None else f"track {span.track}"
            parts.append(f"{what} in frames {span.first} to {to}")
        return ", ".join(parts) or "undecided"


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


def verdicts_of(decisions: Iterable[Decision]) -> dict[Sample, Verdict]:
    """Returns what decisions come to, sample by sample. Samples without a verdict are left out."""
    found = {sample: _verdict(mine) for sample, mine in _by_sample(decisions).items()}
    return {sample: verdict for sample, verdict in found.items() if verdict}


def conflicts_of(decisions: Iterable[Decision]) -> list[Conflict]:
    """Returns the samples about which people disagree, by sample."""
    conflicts = []
    for sample, mine in sorted(_by_sample(decisions).items()):
        people = sorted({item.who for item in mine})
        alone = {who: _verdict([item for item in mine if item.who == who]) for who in people}
        said = {who: verdict.words() for who, verdict in alone.items() if verdict}
        if len(set(said.values())) > 1:
            conflicts.append(Conflict(sample, said, _verdict(mine).words()))
    return conflicts


def digest_of_verdicts(verdicts: Mapping[Sample, Verdict], videos: Sequence[str]) -> str:
    """Returns a digest of the verdicts about some videos; empty if there are none."""
    wanted = set(videos)
    said = [
        [*sample, verdict.judged, [[s.first, s.last, s.track, s.tracks] for s in verdict.spans]]
        for sample, verdict in sorted(verdicts.items(), key=lambda item: item[0])
        if sample[0] in wanted
    ]
    return digest(said) if said else ""


def digest_of_tracks(tracks: Tracks) -> str:
    """Returns a digest of which candidates of a video are which track."""
    return digest([frame.tolist() for frame in tracks.of_candidate])


def _by_sample(decisions: Iterable[Decision]) -> dict[Sample, list[Decision]]:
    """Decisions by sample, each list by time. Equal ones count once: a log may be merged twice."""
    found: dict[Sample, list[Decision]] = {}
    for item in sorted(dict.fromkeys(decisions), key=lambda item: item.time):
        found.setdefault(item.sample, []).append(item)
    return found


def _verdict(decisions: Sequence[Decision]) -> Verdict:
    """Returns what the decisions about one sample come to, given in the order of their times."""
    left: list[Decision] = []
    for item in decisions:
        if item.action != "undo":
            left.append(item)
            continue
        own = [place for place, other in enumerate(left) if other.who == item.who]
        if own:
            del left[own[-1]]
    judged: Literal["", "accept", "reject"] = ""
    spans: list[Span] = []
    for item in left:
        if item.action == "accept" or item.action == "reject":
            judged = item.action
            continue
        # Who says what a frame shows does not reject the sample any more.
        judged = "" if judged == "reject" else judged
        seen = item.masks if item.action == "choose" else ""
        span = Span(item.first, item.last, item.track, seen)
        spans = [other for other in spans if not _covers(span, other)] + [span]
    return Verdict(judged, tuple(spans))


def _covers(span: Span, other: Span) -> bool:
    to_end = span.last is None or (other.last is not None and other.last <= span.last)
    return span.first <= other.first and to_end


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
