import pytest

from flows.planning.shards import Shard, cut_shards
from pipeline.errors import ConfigError

IDS = ["b", "a", "c", "d", "e"]
KNOWN = {"00000": ("a", "b"), "00001": ("c",)}


def test_shards_are_cut_in_sorted_order() -> None:
    cut = cut_shards({}, IDS, (), 2)
    assert cut.shards == (
        Shard("00000", ("a", "b")),
        Shard("00001", ("c", "d")),
        Shard("00002", ("e",)),
    )
    assert cut.selected == cut.shards
    assert cut_shards({}, [], (), 2).shards == ()


@pytest.mark.parametrize("size", [1, 2, 7])
def test_what_is_laid_out_stays_so_whatever_the_size(size: int) -> None:
    cut = cut_shards(KNOWN, IDS, (), size)
    assert cut.shards[:2] == (Shard("00000", ("a", "b")), Shard("00001", ("c",)))
    new = [video for shard in cut.shards[2:] for video in shard.videos]
    assert new == ["d", "e"]
    assert all(len(shard.videos) <= size for shard in cut.shards[2:])
    assert len({shard.name for shard in cut.shards}) == len(cut.shards)


def test_videos_that_are_gone_are_dropped_and_empty_shards_retired() -> None:
    cut = cut_shards(KNOWN, ["b", "d"], (), 2)
    assert cut.shards == (Shard("00000", ("b",)), Shard("00002", ("d",)))
    assert cut.retired == ("00001",)


def test_videos_asked_for_bring_their_shard_and_new_ones_are_cut_alone() -> None:
    cut = cut_shards(KNOWN, IDS, ("a", "e"), 2)
    assert cut.selected == (Shard("00000", ("a", "b")), Shard("00002", ("e",)))
    assert cut.along == 1
    assert Shard("00001", ("c",)) in cut.shards
    assert all("d" not in shard.videos for shard in cut.shards)


@pytest.mark.parametrize("ids", [IDS, []])
def test_a_video_that_is_not_there_is_an_error(ids: list[str]) -> None:
    with pytest.raises(ConfigError, match="'x'"):
        cut_shards({}, ids, ("x",), 2)
