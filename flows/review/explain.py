"""Explains a frame of a sample: the votes, what objected, and which threshold decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.context import RunContext
from flows.planning.released import check_there
from flows.planning.stages import SHARD_STAGES
from pipeline.config import JudgeConfig
from pipeline.decisions import KEPT, Sample
from pipeline.errors import PseudoLabelError
from pipeline.judgements import Judgement, answer_in_words
from pipeline.types import Augmentation, FrameQuality, Status
from storage.arrays.candidates import StoredCandidates
from storage.run.layout import known_layout
from storage.tables import iter_quality, read_augmentations, read_ground
from storage.track_table import read_tracks

if TYPE_CHECKING:
    from stages.fuse.explain import Comparison, Explanation, Vote

STATUS_WORDS = {Status.UNKNOWN: "unknown", Status.PRESENT: "present", Status.ABSENT: "absent"}

MOST_TRACKS = 5
"""Tracks that an explanation lists."""


@dataclass(frozen=True)
class FrameExplanation:
    """Why a frame of a sample is what it is.

    Attributes:
        found: what ``fuse`` made of the votes.
        row: what ``rank`` made of that; its status is the final one.
        judged: what the judge said of the sentence, in words; empty if it was not asked.
        decided: what people decided about the frame, in words; empty for nothing.
    """

    sample: Sample
    text: str
    found: Explanation
    row: FrameQuality | None
    decided: str
    judged: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Returns the explanation, a sentence or a figure a line."""
        found = self.found
        lines = [f"{self.sample[0]} {self.sample[1]}: {self.text!r}, frame {found.frame}"]
        lines += self._outcome()
        lines += self.judged
        unit = found.unit
        lines.append(f"Each {unit}, by score (support of the positives less what negatives claim):")
        lines += [
            f"  {unit} {item.track}: score {item.score:.3f}, support {item.support:.3f},"
            f" {item.frames} frames{', chosen' if item.chosen else ''}"
            for item in found.tracks[:MOST_TRACKS]
        ]
        if len(found.tracks) > MOST_TRACKS:
            lines.append(f"  and {len(found.tracks) - MOST_TRACKS} more")
        lines.append(f"Votes (mean score over the frames of each {unit}):")
        lines += [f"  {_vote(vote, unit)}" for vote in found.votes if vote.weight]
        objecting = [vote for vote in found.votes if vote.objects]
        silent = sum(not vote.weight and not vote.objects for vote in found.votes)
        lines.append(f"Negatives: {len(objecting)} object, {silent} cannot tell the {unit}s apart")
        lines += [f"  {_vote(vote, unit)}" for vote in objecting]
        return lines

    def _outcome(self) -> list[str]:
        found, lines = self.found, []
        reason = f" ({found.reason})" if found.reason else ""
        who = "The judge's choice makes" if found.ruled else "The votes make"
        lines.append(f"{who} the frame {STATUS_WORDS[found.status]}{reason}.")
        for item in found.tests:
            sign = ">=" if item.passes else "<"
            lines.append(f"  {item.setting}: {item.value:.3f} {sign} {item.limit:.3f}")
        if (test := found.decisive) is not None:
            lines.append(f"  {_moved(test)}")
        if len(found.tracks) > 1:
            first, second = found.tracks[:2]
            lines.append(
                f"  {found.unit.capitalize()} {first.track} leads {found.unit} {second.track} by"
                f" {first.score - second.score:.3f}: a shift of that much turns the choice"
            )
        if self.row is not None and self.row.status != int(found.status):
            status = STATUS_WORDS[Status(self.row.status)]
            lines.append(f"rank made it {status} ({self.row.reason}).")
        if self.row is not None:
            lines.append(f"Weight: {self.row.weight:.3f}")
        if self.decided:
            lines.append(f"People decided: {self.decided}")
        return lines


def explain_frame(
    context: RunContext, shard: str, sample: Sample, frame: int | None
) -> FrameExplanation:
    """Explains a frame of a sample from what the run has stored. Loads no model.

    Args:
        frame: its position; None for the frame with the lowest weight.

    Raises:
        PseudoLabelError: there is no such sample or frame, or a product is missing.
    """
    from stages.fuse.explain import explain_frames, explain_tracks

    paths, config = context.paths, context.judging
    video, _ = sample
    mine = _augmentation(context, shard, sample)
    quality = [
        row
        for row in iter_quality(paths.part("rank", shard))
        if (row.video, row.expression) == sample
    ]
    check_there(paths, [shard], "an explanation")
    texts, boxes = read_ground(paths.boxes(shard), video)
    at = _frame(video, quality, len(boxes), frame)
    scores = StoredCandidates(paths.candidates(shard), video).scores
    tracks = read_tracks(paths.part("track", shard), video)
    judgement = context.judgements(shard).get(sample)
    if config.fuse.level == "track":
        ruling = None if judgement is None else judgement.ruling
        told = explain_tracks(mine, texts, boxes, scores, tracks, config.fuse, at, ruling)
    else:
        told = explain_frames(mine, texts, boxes, scores, config.fuse, at)
    if (calibration := context.calibration) is not None:
        tests = [
            replace(test, value=calibration(test.value), limit=calibration(test.limit))
            for test in told.tests
        ]
        told = replace(told, tests=tests)
    verdict = context.verdicts.get(sample)
    decided = verdict and (verdict.judged or verdict.frames(len(boxes))[at] != KEPT)
    row = next((row for row in quality if row.frame == at), None)
    words = verdict.words() if verdict and decided else ""
    judged = _judged(config.judge, judgement)
    return FrameExplanation(sample, mine.original, told, row, words, judged)


def _judged(config: JudgeConfig, judgement: Judgement | None) -> tuple[str, ...]:
    """Returns what the judge said, a line each; nothing without a judge."""
    if judgement is None:
        below = f"its margin is not below judge.below ({config.below:g})"
        return (f"The judge was not asked: {below}, or no track has a vote.",) * config.is_on
    source = judgement.provenance
    by = f"{source.model}, prompt {source.prompt_version}"
    lines = [f"The judge ({by}): {judgement.outcome}; its margin was {judgement.margin:.3f}"]
    for item in judgement.answers:
        shown = ", ".join(
            f"{number} is track {track}"
            for number, track in sorted(zip(item.numbers, item.tracks, strict=True))
        )
        lines.append(f"  {answer_in_words(item)}; it answered {item.text[:80]!r}, where {shown}")
    if judgement.agreement is not None:
        lines.append(f"  agreement {judgement.agreement:.2f}: weights times {judgement.trust:.2f}")
    return tuple(lines)


def shard_of(context: RunContext, video: str) -> str:
    """Returns the shard of a video. Raises PseudoLabelError if the run has no such video."""
    layout = known_layout(context.paths.folder, SHARD_STAGES)
    for shard, videos in layout.items():
        if video in videos:
            return shard
    raise PseudoLabelError(
        f"{context.paths.folder}: no video {video}; expected one of"
        f" {sum(map(len, layout.values()))}, see {context.paths.quality.name}"
    )


def _augmentation(context: RunContext, shard: str, sample: Sample) -> Augmentation:
    video, expression = sample
    found = read_augmentations(context.paths.part("augment", shard)).get(video, [])
    for item in found:
        if item.key.expression == expression:
            return item
    known = ", ".join(item.key.expression for item in found[:20])
    raise PseudoLabelError(f"{video}: no expression {expression}; expected one of {known}")


def _frame(video: str, quality: list[FrameQuality], count: int, asked: int | None) -> int:
    if asked is not None:
        if not 0 <= asked < count:
            raise PseudoLabelError(f"{video}: no frame {asked}; expected 0 to {count - 1}")
        return asked
    return min(quality, key=lambda row: row.weight).frame if quality else 0


def _moved(test: Comparison) -> str:
    """Returns by how much the value that decided would have to move for another outcome."""
    by = f"{abs(test.margin):.3f}"
    if test.passes:
        return f"{test.setting} is the closest: if its value falls by {by}, it is {test.fails_as}"
    return f"{test.setting} decided: its value has to rise by {by} to pass"


def _vote(vote: Vote, unit: str) -> str:
    share = f"{vote.weight:.0%} of the vote" if vote.weight else vote.kind
    if vote.best < 0:
        return f"{vote.text!r} ({share}): no box"
    return (
        f"{vote.text!r} ({share}): {unit} {vote.best} with {vote.score:.3f}; the chosen one has"
        f" {vote.for_chosen:.3f}"
    )
