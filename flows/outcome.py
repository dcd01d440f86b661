"""What came of a run: frames with a mask, absent and unknown ones, skipped videos, and advice.

A run has come to nothing if no frame of any sentence has a mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.planning.mirrored import fetch_products
from flows.planning.run_paths import RunPaths
from flows.planning.stages import shard_stages_of
from flows.planning.stand_ins import stand_in_warning
from pipeline.config import RunConfig
from pipeline.types import Status
from stages.fuse.votes import (
    CLAIMED_BY_NEGATIVE,
    IN_DOUBT,
    NOT_SEEN,
    NOTHING_FOUND,
    UNCLAIMED,
)
from storage.run.ledger import Ledger

if TYPE_CHECKING:
    from storage.quality_counts import FrameCount

LITTLE = 0.1
"""Share of frames with a mask below which advice is given."""

FEW = 8
"""Expressions up to which each one without a mask is told; more are told where little came out."""

_ADVISED = 3
_MOST_TOLD = 1000
_SHOWN_SKIPPED = 5
_SHOWN_REASONS = 4


@dataclass
class SampleOutcome:
    """The frames of one sentence.

    Attributes:
        statuses: frames by status.
        reasons: frames without a mask, by reason.
        best_scores: reason -> the highest score that the sentence gave the best box of such a
            frame.
    """

    statuses: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    best_scores: dict[str, float] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return self.statuses.total()

    def add(self, count: FrameCount) -> None:
        """Adds frames."""
        self.statuses[Status(count.status)] += count.frames
        if count.status != Status.PRESENT:
            self.reasons[count.reason] += count.frames
        best = max(self.best_scores.get(count.reason, 0.0), count.best_score)
        self.best_scores[count.reason] = best


@dataclass
class RunOutcome:
    """What came of some videos of a run.

    Attributes:
        samples: (video, expression) -> its frames, of samples that are told one by one.
        skipped: video -> why.
        others: the frames of all other samples together.
        other_samples, other_videos: their number, and that of videos without any in ``samples``.
        others_empty: number of the other samples that have no mask at all.
    """

    samples: dict[tuple[str, str], SampleOutcome] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    others: SampleOutcome = field(default_factory=SampleOutcome)
    other_samples: int = 0
    other_videos: int = 0
    others_empty: int = 0

    def add(self, samples: Mapping[tuple[str, str], SampleOutcome]) -> None:
        """Adds all samples of some videos. Those that have a mask, and those without one beyond
        the first, are added up, so that a large run fits into memory."""
        told: set[str] = set()
        for key, item in sorted(samples.items()):
            empty = not item.statuses[Status.PRESENT]
            if empty and len(self.samples) < _MOST_TOLD:
                self.samples[key] = item
                told.add(key[0])
                continue
            self.others.statuses.update(item.statuses)
            self.others.reasons.update(item.reasons)
            self.other_samples += 1
            self.others_empty += empty
        self.other_videos += len({video for video, _ in samples} - told)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.samples) + self.other_samples

    @property
    def videos(self) -> int:
        """Number of videos with samples."""
        return len({video for video, _ in self.samples}) + self.other_videos

    @property
    def statuses(self) -> Counter[Status]:
        """Frames by status, counted once for each sentence."""
        mine = (item.statuses for item in self.samples.values())
        return sum(mine, Counter(self.others.statuses))

    @property
    def reasons(self) -> Counter[str]:
        """Frames without a mask, by reason."""
        return sum((item.reasons for item in self.samples.values()), Counter(self.others.reasons))

    @property
    def is_little(self) -> bool:
        """Whether few frames have a mask."""
        statuses = self.statuses
        return statuses[Status.PRESENT] < LITTLE * statuses.total() or not statuses.total()

    @property
    def is_nothing(self) -> bool:
        """Whether no frame has a mask."""
        return not self.statuses[Status.PRESENT]


def read_outcome(config: RunConfig, videos: Collection[str] | None = None) -> RunOutcome:
    """Reads what a run has made.

    Args:
        config: of the run.
        videos: ids to look at; None for all.

    Raises:
        StoreError: a quality table is damaged.
    """
    from storage.quality_counts import count_frames

    ledger, paths, found = Ledger(config.run_folder), RunPaths(config.run_folder), RunOutcome()
    fetch_products(config.run_folder, ["rank"], part="rank/")
    for stage in shard_stages_of(config):
        for receipt in ledger.each(stage):
            for video, reason in receipt.skipped.items():
                if videos is None or video in videos:
                    found.skipped.setdefault(video, reason)
    for receipt in ledger.each("rank"):
        if videos is not None and not set(videos) & set(receipt.videos):
            continue
        samples: dict[tuple[str, str], SampleOutcome] = {}
        for count in count_frames(paths.part("rank", receipt.shard)):
            if videos is None or count.video in videos:
                key = count.video, count.expression
                samples.setdefault(key, SampleOutcome()).add(count)
        found.add(samples)
    return found


def outcome_lines(outcome: RunOutcome) -> list[str]:
    """Returns what came out, in sentences."""
    statuses = outcome.statuses
    lines = [
        f"{_counted(outcome.videos, 'video')}, {_counted(outcome.count, 'expression')}:"
        f" {statuses[Status.PRESENT]:,} of {_counted(statuses.total(), 'frame')} have a mask;"
        f" the target is absent from {statuses[Status.ABSENT]:,};"
        f" {statuses[Status.UNKNOWN]:,} are unknown"
    ]
    reasons = outcome.reasons
    if reasons:
        common = reasons.most_common(_SHOWN_REASONS)
        told = "; ".join(f"{reason} ({count:,})" for reason, count in common)
        lines.append(f"Frames without a mask: {told}")
    for video, reason in sorted(outcome.skipped.items())[:_SHOWN_SKIPPED]:
        lines.append(f"Skipped {video}: {reason}")
    if len(outcome.skipped) > _SHOWN_SKIPPED:
        lines.append(f"… and {len(outcome.skipped) - _SHOWN_SKIPPED} more videos are skipped")
    return lines


def advice(outcome: RunOutcome, config: RunConfig) -> list[str]:
    """Returns why sentences got no mask, and what to try; empty where enough came out."""
    if not outcome.is_little and outcome.count > FEW:
        return []
    empty = [key for key, item in outcome.samples.items() if not item.statuses[Status.PRESENT]]
    texts = _texts(config, {video for video, _ in empty[:_ADVISED]})
    lines = []
    for key in sorted(empty)[:_ADVISED]:
        item = outcome.samples[key]
        [(reason, _), *_] = item.reasons.most_common(1)
        why, remedy = _reason(reason, item, config)
        text = texts.get(key, key[1])
        lines.append(
            f"{key[0]}: 0 of {_counted(item.frames, 'frame')} have a mask for {text!r}:"
            f" {why}. That is right if the target is not there; else try {remedy}"
        )
    more = len(empty) + outcome.others_empty - _ADVISED
    if more > 0:
        lines.append(f"… and {more} more expressions have no mask at all")
    return lines


def _reason(reason: str, item: SampleOutcome, config: RunConfig) -> tuple[str, str]:
    """(why most frames have no mask, what to try)."""
    fuse, score = config.fuse, item.best_scores.get(reason, 0.0)
    best = f"its own best box there scores {score:.2f}"
    weights = "published weights" if stand_in_warning(config) else "other weights"
    words = f"a simpler sentence, {weights}"
    if reason == UNCLAIMED:
        lower = max(0.0, round(min(score, fuse.absent_below) - 0.05, 2))
        what = "object" if fuse.level == "track" else "box"
        why = f"no {what} has a support of {fuse.absent_below:g} (fuse.absent_below); {best}"
        return why, f"{words}, or fuse.absent_below={lower:g} fuse.uncertain_below={lower:g}"
    if reason == IN_DOUBT:
        why = f"no box is sure enough (fuse.uncertain_below is {fuse.uncertain_below:g}); {best}"
        return why, f"{words}, or fuse.uncertain_below={fuse.absent_below:g}"
    if reason == NOT_SEEN:
        why = f"the chosen object has less support than {fuse.present_above:g} there; {best}"
        return why, f"{words}, or a lower fuse.present_above"
    if reason == CLAIMED_BY_NEGATIVE:
        why = f"another sentence fits the best box better; {best}"
        return why, "a sentence that says what tells the target apart, or augment.negatives=0"
    if reason == NOTHING_FOUND:
        return "no box was found", words
    if config.rank.enabled:
        return reason, f"rank.enabled=false, or a lower rank.threshold than {config.rank.threshold}"
    return reason, words


def _texts(config: RunConfig, videos: Collection[str]) -> Mapping[tuple[str, str], str]:
    """(video, expression) -> its sentence."""
    from storage.tables import read_augmentations

    paths = RunPaths(config.run_folder)
    return {
        (video, item.key.expression): item.original
        for receipt in Ledger(config.run_folder).each("augment")
        if set(receipt.videos) & set(videos)
        for video, mine in read_augmentations(paths.part("augment", receipt.shard)).items()
        for item in mine
    }


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
