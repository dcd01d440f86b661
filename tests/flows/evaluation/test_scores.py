import math
from pathlib import Path

import numpy as np
import pytest

from flows.evaluation.scores import (
    SampleScore,
    evaluate_sample,
    score_sample,
    summarise,
)
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Expression,
    FrameIndex,
    Positive,
    Provenance,
    SampleKey,
    Status,
    VideoRef,
)
from stages.baseline import baseline_masks
from storage.datasets import open_dataset
from tests.storage.datasets import trees

U, P, A = Status.UNKNOWN, Status.PRESENT, Status.ABSENT


def square(x: int, filled: bool = True) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:15, x : x + 10] = filled
    return mask


EMPTY = square(0, False)


def test_a_dropped_frame_leaves_the_mean_and_counts_as_a_miss_beside_it() -> None:
    score = score_sample("place", [square(5), square(5)], [P, U], [square(5), square(5)])
    assert score is not None
    assert (score.j, score.f) == (1, 1)
    assert (score.strict_j, score.strict_f) == (0.5, 0.5)
    assert (score.frames, score.present, score.absent) == (2, 1, 0)


def test_a_dropped_frame_without_the_target_is_no_miss() -> None:
    score = score_sample(None, [square(5), EMPTY], [P, U], [square(5), EMPTY])
    assert score is not None
    assert score.strict_j == 1
    assert (score.empty, score.found_empty) == (1, 0)


def test_an_absent_frame_counts_as_an_empty_mask() -> None:
    # The stored mask of an absent frame is not looked at.
    score = score_sample(None, [square(5), square(5)], [A, A], [EMPTY, square(5)])
    assert score is not None
    assert score.j == 0.5
    assert (score.empty, score.found_empty) == (1, 1)


def test_errors_divide_into_wrong_object_too_much_too_little_and_missed() -> None:
    truth = square(5)
    everything, part = np.ones_like(truth), truth.copy()
    part[:, 9:] = False
    masks = [truth, everything, part, square(19), EMPTY, truth, truth]
    states = [P, P, P, P, P, U, A]
    score = score_sample(None, masks, states, [truth] * 7)
    assert score is not None
    expected = {"right": 1, "too much": 1, "too little": 1, "wrong object": 1, "missed": 3}
    assert score.outcomes == expected
    absent = score_sample(None, [square(5)], [P], [EMPTY])
    assert absent is not None and not absent.outcomes, "it holds no target"
    figures = summarise([score, absent])
    assert figures is not None
    assert figures["visible_frames"]["missed"] == pytest.approx(300 / 7, abs=0.01)
    assert sum(figures["visible_frames"].values()) == pytest.approx(100, abs=0.05)


def test_an_absent_frame_is_never_counted_as_one_with_a_mask() -> None:
    figures = summarise(
        [score] if (score := score_sample(None, [EMPTY] * 2, [A, A], [EMPTY] * 2)) else []
    )
    assert figures is not None
    assert (figures["frames_present"], figures["frames_absent"]) == (0.0, 100.0)


def test_frames_without_truth_are_left_out_and_none_gives_none() -> None:
    score = score_sample(None, [EMPTY, square(5)], [P, P], [None, square(5)])
    assert score is not None
    assert score.frames == 1
    assert score_sample(None, [EMPTY], [P], [None]) is None


def test_a_sample_with_no_kept_frame_has_no_figure_of_its_own() -> None:
    score = score_sample("motion", [EMPTY], [U], [square(5)])
    assert score is not None
    assert math.isnan(score.j)
    other = score_sample("motion", [square(5)], [P], [square(5)])
    assert other is not None
    figures = summarise([score, other])
    assert figures is not None
    assert figures["overall"] == {"J": 100.0, "F": 100.0, "J&F": 100.0}
    assert figures["overall_with_dropped_as_misses"]["J"] == 50.0
    assert (figures["frames_present"], figures["frames_unknown"]) == (50.0, 50.0)


def test_means_go_over_frames_first_then_over_samples() -> None:
    def score(j: float, frames: int, kind: str) -> SampleScore:
        return SampleScore(kind, j, j / 2, j, j / 2, frames, frames, 0, 0, 0)

    figures = summarise([score(1, 1, "place"), score(0.5, 99, "motion")])
    assert figures is not None
    assert figures["overall"] == {"J": 75.0, "F": 37.5, "J&F": 56.25}
    assert figures["by_kind"]["motion"] == {"J": 50.0, "F": 25.0, "J&F": 37.5}
    assert figures["by_kind"]["relation"] is None
    assert figures["absent_frames_found"] is None
    assert summarise([]) is None


def test_baseline_is_the_originals_best_box_in_every_frame() -> None:
    key = SampleKey("shapes", "train", "v", "0")
    augmentation = Augmentation(
        key, (Positive("the star", 1), Positive("a star", 1)), (), Provenance("", "", "", 0)
    )
    boxes = Boxes(
        np.zeros((3, 4), np.float32),
        np.ones(3, np.float32),
        np.array([0, 1, 1], np.int32),
        np.array([0, 0, 1], np.int32),
    )
    none = np.zeros(0, np.int32)
    nothing = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, none)
    logits = np.full((2, 5, 5), -1, np.float16)
    logits[1, :, :2] = 1
    found = Candidates(
        logits, np.ones(2, np.float32), np.ones(2, np.float32), np.array([0, 1, 0], np.int32)
    )
    empty = Candidates(logits[:0], np.ones(0, np.float32), np.ones(0, np.float32), none)
    masks, status = baseline_masks(
        augmentation, ("a star", "the star"), [boxes, nothing], [found, empty], 10, 10
    )
    assert status.tolist() == [P, A]
    assert masks[0, :, :4].all()
    assert not masks[0, :, 5:].any()
    assert not masks[1].any()


def test_void_pixels_count_for_nothing() -> None:
    void = square(15)
    score = score_sample(None, [square(5) | void], [P], [square(5)], [void])
    assert score is not None
    assert (score.j, score.f) == (1, 1)
    without = score_sample(None, [square(5) | void], [P], [square(5)])
    assert without is not None
    assert without.j == 0.5


@pytest.mark.parametrize("form", ["published", "converted"])
def test_255_is_void_in_ref_davis(tmp_path: Path, form: str) -> None:
    if form == "published":
        root = trees.refdavis(tmp_path, split="valid")
        place = root / "DAVIS/Annotations_unsupervised/480p/clip/00000.png"
    else:
        root = trees.refytvos(tmp_path, "valid")
        place = root / "valid/Annotations/clip/00000.png"
    ids = trees.index_mask(0)
    ids[:2] = 255
    trees.write_mask(place, ids)
    reader = open_dataset("refdavis", root, "valid")
    video = reader.video("clip")
    said = next(item for item in reader.expressions("clip") if "red" in item.text)

    def masks(video: VideoRef, expression: Expression) -> tuple[np.ndarray, np.ndarray]:
        found = np.stack([trees.object_mask(1, frame) for frame in range(len(video))])
        found[0, :2] = True
        return found, np.full(len(video), P, np.uint8)

    score = evaluate_sample(reader, video, said, masks)
    assert score is not None
    assert score.j == 1
    assert reader.void(video, FrameIndex(1)) is None
    if form == "converted":
        other = open_dataset("shapes", root, "valid")
        assert other.void(other.video("clip"), FrameIndex(0)) is None


def test_masks_are_not_read_where_there_is_no_ground_truth(tmp_path: Path) -> None:
    reader = open_dataset("refdavis", trees.refytvos(tmp_path, "valid"), "valid")
    video = reader.video("clip")
    said = reader.expressions("clip")[0]
    for path in (tmp_path / "valid" / "Annotations").rglob("*.png"):
        path.unlink()

    def masks(video: VideoRef, expression: Expression) -> None:
        raise AssertionError("nothing can be measured")

    assert evaluate_sample(open_dataset("refdavis", tmp_path, "valid"), video, said, masks) is None
