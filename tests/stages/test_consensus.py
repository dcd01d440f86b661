from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages.consensus
from pipeline.metrics import region_similarity
from pipeline.types import SampleKey, Status
from stages.consensus import Tracks, choose_tracks, consensus, track_overlaps, vote

KEY = SampleKey("refdavis", "valid", "clip", "0")
T, H, W = 6, 24, 32


def box(x: int, y: int = 6, side: int = 10) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + side, max(x, 0) : x + side] = True
    return mask


def moving(offset: int = 0) -> np.ndarray:
    return np.stack([box(4 + t + offset) for t in range(T)])


def tracks(name: str, *masks: np.ndarray, grounded: bool = False, trust: float = 1) -> Tracks:
    ids = np.zeros((T, H, W), np.uint8)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    return Tracks(name, ids, np.ones(T, bool), grounded, np.full(T, trust, np.float32))


def fuse(*methods: Tracks, only_target: bool = True):  # type: ignore[no-untyped-def]
    return consensus(KEY, [str(t) for t in range(T)], methods, "f", only_target)


OTHER = np.stack([box(20, 0, 5)] * T)


def test_the_track_that_both_methods_have_is_chosen_whatever_its_id() -> None:
    first = tracks("a", moving())
    second = tracks("b", OTHER, moving(1))
    assert choose_tracks([first, second], only_target=True) == (1, 2)
    found = fuse(first, second)
    assert np.array_equal(found.mask.mask, moving() & moving(1))
    assert (found.mask.status == Status.PRESENT).all()
    assert ((found.mask.weight > 0) & (found.mask.weight < 1)).all()


def test_a_grounded_mask_decides_between_tracks() -> None:
    both = [tracks("a", moving(), OTHER), tracks("b", OTHER, moving())]
    grounded = tracks("run", OTHER, grounded=True, trust=0.5)
    assert choose_tracks([*both, grounded], only_target=True) == (2, 1, 1)
    assert choose_tracks([*both, grounded], only_target=False) == (2, 1, 1)


def test_a_grounded_mask_that_nobody_shares_gives_way_where_there_is_one_target() -> None:
    both = [tracks("a", moving()), tracks("b", moving(1))]
    astray = tracks("run", OTHER, grounded=True)
    assert choose_tracks([*both, astray], only_target=True) == (1, 1, None)
    assert choose_tracks([*both, astray], only_target=False) == (None, None, 1)


def test_without_a_grounded_mask_several_targets_stay_unknown() -> None:
    found = fuse(tracks("a", moving(), OTHER), tracks("b", moving()), only_target=False)
    assert (found.mask.status == Status.UNKNOWN).all()
    assert "several targets" in found.reason
    assert not found.mask.weight.any()


def test_a_mask_that_floods_the_frame_for_a_while_is_outvoted() -> None:
    flood = moving()
    flood[2:4] = True
    found = fuse(tracks("a", flood), tracks("b", moving()))
    assert np.array_equal(found.mask.mask, moving())
    assert found.mask.weight[2] < found.mask.weight[0]


def test_a_frame_that_no_method_shows_is_absent_and_one_that_none_has_is_unknown() -> None:
    gone = moving()
    gone[3] = False
    found = fuse(tracks("a", gone), tracks("b", gone))
    assert found.mask.status.tolist() == [1, 1, 1, 2, 1, 1]
    there = np.ones(T, bool)
    there[0] = False
    ids = moving().astype(np.uint8)
    ids[0] = 0
    missing = Tracks("a", ids, there, False, np.ones(T, np.float32))
    assert fuse(missing, missing).mask.status.tolist() == [0, 1, 1, 1, 1, 1]


def test_one_method_alone_counts_half() -> None:
    found = fuse(tracks("a", moving()))
    assert np.array_equal(found.mask.mask, moving())
    assert (found.mask.weight <= 0.5).all()


def test_no_masks_at_all() -> None:
    found = fuse(tracks("a"), tracks("b"))
    assert found.chosen == (None, None)
    assert found.reason == "no method has a mask"
    assert [row.reason for row in found.quality] == [found.reason] * T


def test_quality_rows_are_those_of_the_masks() -> None:
    found = fuse(tracks("a", moving()), tracks("b", moving(1)))
    assert [row.frame for row in found.quality] == list(range(T))
    assert [row.weight for row in found.quality] == pytest.approx(found.mask.weight.tolist())
    assert all(0 < row.agreement < 1 and 0 < row.temporal_iou < 1 for row in found.quality)


def test_overlaps_count_frames_that_one_of_them_lacks() -> None:
    half = moving()
    half[3:] = False
    assert track_overlaps(tracks("a", moving()), tracks("b", half)) == {1: {1: 0.5}}


def noise(seed: int, grounded: bool = False) -> Tracks:
    rng = np.random.default_rng(seed)
    ids = np.zeros((T, H, W), np.uint8)
    for frame, track in np.ndindex(T, 4):
        y, x = rng.integers(0, H - 8), rng.integers(0, W - 8)
        if (rng.random() < 0.6 and not grounded) or track == 0:
            ids[frame, y : y + 8, x : x + 8] = track + 1
    return Tracks(str(seed), ids, rng.random(T) < 0.9, grounded, rng.random(T, np.float32))


@pytest.mark.parametrize("seed", range(8))
def test_overlaps_are_counted_once_a_video_and_turned_for_the_other_direction(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [noise(100 * seed + 10 + number, grounded=True) for number in range(3)]
    expected = [
        fuse(noise(100 * seed), noise(100 * seed + 1), sample, only_target=only)
        for sample in samples
        for only in (True, False)
    ]
    one, other = noise(100 * seed), noise(100 * seed + 1)
    track_overlaps(one, other)
    turned, direct = track_overlaps(other, one), track_overlaps(other, noise(100 * seed))
    assert turned == direct
    assert all(list(turned[track]) == list(row) for track, row in direct.items()), "ties"
    counted: list[set[Tracks]] = []
    count = stages.consensus._pairs

    def noted(first: Tracks, second: Tracks) -> dict[tuple[int, int], float]:
        counted.append({first, second})
        return count(first, second)

    monkeypatch.setattr(stages.consensus, "_pairs", noted)
    shared = noise(100 * seed), noise(100 * seed + 1)
    found = [fuse(*shared, item, only_target=only) for item in samples for only in (True, False)]
    assert counted.count(set(shared)) == 1 and len(counted) == 1 + 2 * len(samples)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.chosen == theirs.chosen and ours.reason == theirs.reason
        assert np.array_equal(ours.mask.mask, theirs.mask.mask)
        assert ours.mask.weight.tobytes() == theirs.mask.weight.tobytes()
        assert repr(ours.quality) == repr(theirs.quality)


def test_three_votes_elect_the_majority() -> None:
    mask, agreement = vote([(box(4), 1.0), (box(4), 1.0), (box(6), 1.0)])
    assert np.array_equal(mask, box(4))
    assert 0.5 < agreement < 1


def test_two_real_methods_fused_are_better_than_either(real_data: Path) -> None:
    """OSVOS ids and RVOS tracks of four DAVIS sequences; truth is looked at afterwards alone."""
    folder = real_data / "ref-davis-dev"
    figures: dict[str, list[float]] = {"osvos": [], "rvos": [], "fused": []}
    for place in sorted((folder / "valid" / "Annotations").iterdir()):
        paths = sorted(place.glob("*.png"))[::5]

        def read(root: Path, paths: list[Path] = paths) -> np.ndarray:
            files = [root / path.parent.name / path.name for path in paths]
            return np.stack([np.array(Image.open(file).copy()) for file in files])

        methods = [
            Tracks(name, ids, np.ones(len(ids), bool), False, np.ones(len(ids), np.float32))
            for name in ("osvos", "rvos")
            for ids in [read(folder / f"candidates-{name}")]
        ]
        found = consensus(KEY, [path.stem for path in paths], methods, "f", True)
        truth = read(folder / "valid" / "Annotations") == 1
        for method, track in zip(methods, found.chosen, strict=True):
            figures[method.name].append(region_similarity(method.ids == track, truth).mean())
        figures["fused"].append(region_similarity(np.asarray(found.mask.mask), truth).mean())
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    print(f"mean J of every fifth frame: {means}")  # noqa: T201
    assert means["fused"] >= max(means["osvos"], means["rvos"])
    assert means["fused"] > 0.9
