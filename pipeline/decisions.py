"""What people decide about masks: single decisions, and what they come to for a sample.

A decision is of one sample and of one person. A log of decisions only grows: a later decision
replaces an earlier one, and ``undo`` takes the same person's last one of the sample back.
Letter: T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.drawn import Drawn
from pipeline.fingerprint import digest
from pipeline.types import Tracks

Action = Literal["accept", "reject", "absent", "choose", "draw", "undo"]
ACTIONS: tuple[Action, ...] = get_args(Action)

KEPT, ABSENT, DRAWN = -1, -2, -3
"""What :meth:`Verdict.frames` says of a frame that is not given a track."""

RULES = 2
"""Raised when a run makes something else of the same decisions; 2 carries a track on that breaks
off."""

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
        drawn: of ``draw``: the mask that a person made, then those that a tracker made of it.
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
    drawn: tuple[Drawn, ...] = ()

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
            raise ValueError(f"frames {self.first!r} to {self.last!r}; expected an order from 0 on")
        if (self.action == "choose") != _is_count(self.track):
            raise ValueError(f"action {self.action} with the track {self.track!r}")
        inside = self.drawn and _in_span(self.drawn[0].frame, self.first, self.last)
        if (self.action == "draw") != bool(inside):
            raise ValueError(f"action {self.action} with {len(self.drawn)} masks of its frames")

    @property
    def sample(self) -> Sample:
        return self.video, self.expression

    def as_json(self) -> dict[str, Any]:
        """Returns the object that stands for it in ``review.jsonl``."""
        values: tuple[Any, ...] = self.who, self.when, self.video, self.expression, self.action
        values += (self.first, self.last, self.track, self.masks)
        drawn = {"drawn": [item.as_json() for item in self.drawn]} if self.drawn else {}
        return dict(zip(_KEYS, values, strict=True)) | drawn

    @classmethod
    def from_json(cls, values: object) -> Decision:
        """Reads what :meth:`as_json` returns. Raises ValueError if it is something else."""
        if not isinstance(values, Mapping) or not set(_KEYS[:4]) <= set(values):
            raise ValueError("expected an object with who, when, video, expression and action")
        first = values.get("from")
        return cls(
            values["who"],
            values["when"],
            values["video"],
            values["expression"],
            values.get("action", ""),
            0 if first is None else first,
            values.get("to"),
            values.get("track"),
            values.get("masks") or "",
            tuple(Drawn.from_json(item) for item in values.get("drawn") or ()),
        )


def now() -> str:
    """Returns the time of a decision that is made now."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Span:
    """Frames that a person decided about: a track, or None where the target is absent.

    Attributes:
        tracks: digest of the tracks that the number is one of; empty if nobody knows.
        drawn: as of :class:`Decision`. With masks, it is about the first one's frame, and may be
            carried to the others.
    """

    first: int
    last: int | None
    track: int | None
    tracks: str = ""
    drawn: tuple[Drawn, ...] = ()

    @property
    def own(self) -> tuple[int, int | None]:
        """The first and the last frame that were decided about."""
        return (self.drawn[0].frame,) * 2 if self.drawn else (self.first, self.last)

    def words(self) -> str:
        """Returns it in words."""
        if self.drawn:
            return f"a mask drawn in frame {self.drawn[0].frame}"
        what = "absent" if self.track is None else f"track {self.track}"
        return f"{what} in frames {self.first} to {'the end' if self.last is None else self.last}"


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
        """Whether people vouch for it: it was accepted, or given a track or a mask."""
        chosen = any(span.track is not None or span.drawn for span in self.spans)
        return self.judged == "accept" or (chosen and self.judged != "reject")

    def fitting(self, tracks: str, size: tuple[int, int]) -> Verdict:
        """Returns the verdict without spans that are of other tracks, or of frames of another size.

        If the tracks of a video are made anew, a number may mean another object.

        Args:
            tracks: digest of the video's tracks.
            size: (H, W) of its frames.
        """
        fitting = (
            span
            for span in self.spans
            if (not span.tracks or span.tracks == tracks)
            and all(item.size == size for item in span.drawn)
        )
        return replace(self, spans=tuple(fitting))

    def frames(self, count: int) -> NDArray[np.int64]:
        """Returns int64 [T]: the track of each frame, ``ABSENT``, ``DRAWN``, or ``KEPT`` where none
        says."""
        found = np.full(count, KEPT, np.int64)
        for span in self.spans:
            first, last = span.own
            said = ABSENT if span.track is None else span.track
            found[first : count if last is None else last + 1] = DRAWN if span.drawn else said
        return found

    def drawn(self, frame: int) -> Drawn | None:
        """Returns the mask that a person drew in a frame."""
        found = [span.drawn[0] for span in self.spans if span.drawn]
        return next((item for item in reversed(found) if item.frame == frame), None)

    def carried(self, count: int) -> list[Span | None]:
        """Returns, for each of the T frames, the drawn masks that are carried to it.

        A mask is carried both ways, up to the next frame that somebody decided about. The nearest
        one counts.
        """
        said, found = self.frames(count), list[Span | None]([None] * count)
        near = np.full(count, count)
        for span in self.spans:
            if not span.drawn or not span.drawn[0].frame < count:
                continue
            start = span.drawn[0].frame
            for step in (-1, 1):
                at = start + step
                while 0 <= at < count and said[at] == KEPT and _in_span(at, span.first, span.last):
                    if abs(at - start) < near[at]:
                        found[at], near[at] = span, abs(at - start)
                    at += step
        return found

    def words(self) -> str:
        """Returns the verdict in words."""
        parts = [self.judged + "ed"] if self.judged else []
        return ", ".join([*parts, *(span.words() for span in self.spans)]) or "undecided"


def verdicts_of(decisions: Iterable[Decision]) -> dict[Sample, Verdict]:
    """Returns what decisions come to, sample by sample. Samples without a verdict are left out."""
    found = {sample: verdict_of(mine) for sample, mine in by_sample(decisions).items()}
    return {sample: verdict for sample, verdict in found.items() if verdict}


def digest_of_verdicts(verdicts: Mapping[Sample, Verdict], videos: Sequence[str]) -> str:
    """Returns a digest of the verdicts about some videos; empty if there are none."""
    wanted = set(videos)
    said = [
        [*sample, verdict.judged, [_values(span) for span in verdict.spans]]
        for sample, verdict in sorted(verdicts.items(), key=lambda item: item[0])
        if sample[0] in wanted
    ]
    return digest([RULES, said]) if said else ""


def _values(span: Span) -> list[Any]:
    drawn = [[item.frame, *item.size, item.counts] for item in span.drawn]
    return [span.first, span.last, span.track, span.tracks, drawn]


def digest_of_tracks(tracks: Tracks) -> str:
    """Returns a digest of which candidates of a video are which track."""
    return digest([frame.tolist() for frame in tracks.of_candidate])


def by_sample(decisions: Iterable[Decision]) -> dict[Sample, list[Decision]]:
    """Decisions by sample, each list by time. Equal ones count once: a log may be merged twice."""
    found: dict[Sample, list[Decision]] = {}
    for item in sorted(
        dict.fromkeys(decisions), key=lambda item: datetime.fromisoformat(item.when)
    ):
        found.setdefault(item.sample, []).append(item)
    return found


def verdict_of(decisions: Sequence[Decision]) -> Verdict:
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
        span = Span(item.first, item.last, item.track, seen, item.drawn)
        spans = [other for other in spans if not _covers(span, other)] + [span]
    return Verdict(judged, tuple(spans))


def _covers(span: Span, other: Span) -> bool:
    (first, last), (other_first, other_last) = span.own, other.own
    to_end = last is None or (other_last is not None and other_last <= last)
    return first <= other_first and to_end


def _in_span(frame: int, first: int, last: int | None) -> bool:
    return first <= frame and (last is None or frame <= last)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
