"""How long the rest will take, by what is done."""

from __future__ import annotations

import pytest

from flows.planning.plan import Job, Plan, Shard
from flows.planning.time_estimate import forecast, in_words, seconds_left
from pipeline.types import Receipt


def jobs(stage: str, *seconds: float | None, videos: int = 4) -> tuple[Job, ...]:
    """A job for each; done in so many seconds, or due."""
    found = []
    for number, each in enumerate(seconds):
        shard = Shard(f"{number:05d}", tuple(f"v{number}{row}" for row in range(videos)))
        receipt = None
        if each is not None:
            receipt = Receipt(stage, shard.name, "", shard.videos, seconds=each)
        found.append(Job(stage, shard, "", "done" if receipt else "due", receipt=receipt))
    return tuple(found)


def plan(**stages: tuple[Job, ...]) -> Plan:
    return Plan((), stages)


def test_what_is_left_takes_as_long_a_video_as_what_is_done() -> None:
    assert seconds_left(jobs("ground", 30.0, 50.0, None)) == 40
    assert seconds_left(jobs("ground", 30.0, 50.0)) == 0
    assert seconds_left(jobs("ground", None, None)) is None


def test_what_is_done_again_takes_as_long_as_the_last_time() -> None:
    [done] = jobs("fuse", 60.0)
    again = Job("fuse", done.shard, "other", "due", receipt=done.receipt)
    assert seconds_left([again]) == 60


def test_shards_of_other_sizes_count_by_their_videos() -> None:
    [small] = jobs("ground", 10.0, videos=1)
    assert seconds_left([small, *jobs("ground", None, videos=6)]) == 60


def test_a_run_is_told_of_stages_that_have_no_pace_yet() -> None:
    some, none = jobs("ground", 3600.0, None, None), jobs("segment", None, None, None)
    assert forecast(plan(ground=some)) == "About 2 h of work are left."
    said = "About 2 h of work are left, and what segment takes: none of it is done yet."
    assert forecast(plan(ground=some, segment=none)) == said
    assert forecast(plan(segment=none)) == ""
    assert forecast(plan(ground=jobs("ground", 2.0, None))) == "", "too little to be said"
    assert forecast(plan()) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"),
        (3605, "1 h"), (12_000, "3 h 20 min"), (183_600, "2 d 3 h"), (86_400 + 120, "1 d"),
    ],
)  # fmt: skip
def test_times_are_said_in_two_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
