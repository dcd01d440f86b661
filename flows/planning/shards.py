"""Cuts videos into shards. Existing shards stay as they are; new videos get new shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Videos that are processed, committed and resumed together."""

    name: str
    videos: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """The shards of a run.

    Attributes:
        shards: all shards by name, with the videos that the data set still has.
        selected: the shards to work on.
        retired: names of shards whose videos are all gone from the data set.
        along: number of videos that are included because they share a shard with one asked for.
        gone: shard -> its videos that are gone from the data set.
    """

    shards: tuple[Shard, ...]
    selected: tuple[Shard, ...]
    retired: tuple[str, ...] = ()
    along: int = 0
    gone: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def cut_shards(
    known: Mapping[str, Sequence[str]], video_ids: Sequence[str], only: Sequence[str], size: int
) -> Cut:
    """Cuts videos without a shard into shards of ``size`` videos, in sorted order.

    Args:
        known: shard -> videos, as cut by earlier runs.
        video_ids: of the data set.
        only: videos asked for; empty for all. Shards that hold one of them are selected whole, and
            new shards are cut from these videos only.
        size: number of videos of a new shard.

    Raises:
        ConfigError: ``only`` names a video that the data set lacks.
    """
    there, asked = set(video_ids), set(only)
    _check_asked(video_ids, asked)
    kept = {name: tuple(v for v in videos if v in there) for name, videos in known.items()}
    gone = {
        name: lost
        for name, videos in known.items()
        if (lost := tuple(v for v in videos if v not in there))
    }
    placed = {video for videos in kept.values() for video in videos}
    new = sorted((asked or there) - placed)
    first = 1 + max((int(name) for name in kept if name.isdecimal()), default=-1)
    for number, start in enumerate(range(0, len(new), size), first):
        kept[f"{number:05d}"] = tuple(new[start : start + size])
    shards = tuple(Shard(name, kept[name]) for name in sorted(kept) if kept[name])
    selected = tuple(s for s in shards if not asked or asked & set(s.videos))
    return Cut(
        shards,
        selected,
        retired=tuple(name for name in sorted(kept) if not kept[name]),
        along=sum(len(set(s.videos) - asked) for s in selected) if asked else 0,
        gone=gone,
    )


def _check_asked(video_ids: Sequence[str], asked: set[str]) -> None:
    missing = sorted(asked - set(video_ids))
    if missing:
        raise ConfigError(
            f"only_videos: no video {missing[0]!r} in the data set, which has {len(video_ids)}"
            + (f", such as {min(video_ids)!r}" if video_ids else "")
            + "; check the ids"
        )
