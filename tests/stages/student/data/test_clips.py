"""What a student is shown: clips by number, in an epoch each sample once."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import ViewsConfig
from pipeline.errors import InputError, PseudoLabelError
from pipeline.ports import Image
from pipeline.shapes.scene import Scene
from pipeline.types import (
    Augmentation,
    Expression,
    FrameIndex,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    VideoRef,
)
from stages.student.data.clips import Clip, Clips, Shape
from stages.student.data.supervision import PseudoMasks
from tests.fakes.student import Videos, two_scenes


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return two_scenes()


def clips_of(videos: Videos, shape: Shape, seed: int = 0, mirror: bool = True) -> Clips:
    views = ViewsConfig(mirror=mirror)
    return Clips(videos, PseudoMasks(videos), shape, seed=seed, views=views)


def same(one: Clip, two: Clip) -> bool:
    return (
        one.text == two.text
        and one.mask.shape == two.mask.shape
        and bool((one.mask == two.mask).all())
        and bool((np.stack(one.images) == np.stack(two.images)).all())
    )


def test_a_draw_follows_from_the_seed_and_its_number_alone(scenes: list[Scene]) -> None:
    one, two, other = (clips_of(Videos(scenes), Shape(3), seed) for seed in (5, 5, 6))
    drawn = [one[number] for number in range(8)]
    again = [two[number] for number in reversed(range(8))][::-1]
    for left, right in zip(drawn, again, strict=True):
        assert same(left[0], right[0])
    assert not all(same(left[0], other[n][0]) for n, left in enumerate(drawn))
    assert same(pickle.loads(pickle.dumps(one))[3][0], drawn[3][0])


@pytest.mark.parametrize("expressions", [1, 2, 3])
def test_an_epoch_holds_every_sample_once(scenes: list[Scene], expressions: int) -> None:
    videos = Videos(scenes)
    clips = clips_of(videos, Shape(1, expressions), mirror=False)
    known = Counter(item.text for video in videos.video_ids() for item in videos.expressions(video))
    assert clips.samples == sum(known.values())
    orders = []
    for epoch in range(3):
        numbers = range(epoch * len(clips), (epoch + 1) * len(clips))
        texts = [clip.text for number in numbers for clip in clips[number]]
        assert Counter(texts) == known
        orders.append(texts)
    assert len({tuple(order) for order in orders}) > 1


def test_sentences_of_one_draw_are_of_one_video_and_share_its_frames(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    clips = clips_of(videos, Shape(2, 2))
    for number in range(4):
        one, two = clips[number]
        assert one.images is two.images and one.text != two.text
        assert one.size == two.size and len(one.supervision) == len(two.supervision) == 2


def test_a_clip_is_frames_of_one_sample_in_order_mirrored_or_not(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    clips = clips_of(videos, Shape(3))
    mirrored = 0
    for number in range(20):
        [clip] = clips[number]
        frames = {
            (video, time, flip): item.image[:, ::-1] if flip else item.image
            for video, drawn in videos.drawn.items()
            for time, item in enumerate(drawn)
            for flip in (False, True)
        }
        found = [
            next(key for key, image in frames.items() if np.array_equal(image, shown))
            for shown in clip.images
        ]
        assert len({(video, flip) for video, _, flip in found}) == 1
        times = [time for _, time, _ in found]
        assert times == sorted(set(times))
        video, _, flip = found[0]
        side = "right" if flip else "left"
        rows = [f"the {item.name} on the {side}" for item in videos.scenes[video].objects]
        truth = np.stack([videos.drawn[video][time].masks[rows.index(clip.text)] for time in times])
        np.testing.assert_array_equal(clip.mask, truth[:, :, ::-1] if flip else truth)
        mirrored += flip
    assert 0 < mirrored < 20


class Unplaced(Videos):
    """Whose sentences say nothing of places."""

    def expressions(self, video_id: str) -> list[Expression]:
        found = super().expressions(video_id)
        return [replace(item, text=item.text.removesuffix(" on the left")) for item in found]


@pytest.mark.parametrize("kind", [Videos, Unplaced])
def test_frames_are_not_cut_where_a_sentence_names_a_place_in_them(
    kind: type[Videos], scenes: list[Scene]
) -> None:
    videos, views = kind(scenes), ViewsConfig(mirror=False, zoom=(1.5, 2.0))
    clips = Clips(videos, PseudoMasks(videos), Shape(1), views=views)
    whole = {item.image.tobytes() for drawn in videos.drawn.values() for item in drawn}
    kept = [clips[number][0].images[0].tobytes() in whole for number in range(6)]
    assert kept == [kind is Videos] * 6


class Pictures(Unplaced):
    """The first frames alone, each as a video."""

    def __init__(self, scenes: list[Scene]) -> None:
        super().__init__([replace(scene, frames=1) for scene in scenes])


def test_an_image_becomes_a_clip_by_a_camera_that_moves_over_it(scenes: list[Scene]) -> None:
    images, views = Pictures(scenes), ViewsConfig(mirror=False, zoom=(1.1, 1.6))
    clips = Clips(images, PseudoMasks(images), Shape(4), views=views)
    [clip] = clips[0]
    assert len(clip.images) == len(clip.supervision) == 4
    assert len({image.tobytes() for image in clip.images}) == 4
    for image, item in zip(clip.images, clip.supervision, strict=True):
        assert item.mask is not None
        inside = image[item.mask].reshape(-1, 3).astype(float)
        outside = image[~item.mask].reshape(-1, 3).astype(float)
        assert np.abs(inside.mean(0) - outside.mean(0)).max() > 20, "the mask moves with the image"
    [again] = clips[0]
    assert same(clip, again)
    [alone] = Clips(images, PseudoMasks(images), Shape(1), views=views)[0]
    assert len(alone.images) == 1


class Damaged(Videos):
    """Frames of some videos cannot be read."""

    def __init__(self, scenes: list[Scene], broken: set[tuple[str, int]]) -> None:
        super().__init__(scenes)
        self.broken = broken

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        if (video.id, index) in self.broken:
            raise InputError(f"{video.id}/{index}.jpg", "truncated", "an image", "restore it")
        return super().frame(video, index)


def test_for_a_clip_with_a_broken_frame_the_next_one_is_drawn(
    scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    whole = clips_of(Videos(scenes), Shape(3))
    damaged = Damaged(scenes, {("v0", 1)})
    hit = {item.image.tobytes(): item for item in [damaged.drawn["v0"][1]]}
    good = [
        not any(shown.tobytes() in hit or shown[:, ::-1].tobytes() in hit for shown in clip.images)
        for clip in (whole[number][0] for number in range(24))
    ]
    assert 3 < sum(good) < 20
    first = clips_of(damaged, Shape(3))
    drawn = [first[number][0] for number in range(18)]
    for number, clip in enumerate(drawn):
        assert same(clip, whole[good.index(True, number)][0])
    resumed = clips_of(damaged, Shape(3))
    for number in reversed(range(18)):
        assert same(resumed[number][0], drawn[number]), "whatever was drawn before"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("v0/1.jpg: truncated" in text for text in told), "each once"


def test_a_data_set_that_is_gone_ends_the_training(scenes: list[Scene]) -> None:
    gone = Damaged(scenes, {(video, time) for video in ("v0", "v1") for time in range(12)})
    with pytest.raises(InputError, match="truncated"):
        clips_of(gone, Shape(1))[0]


def weightless(scenes: list[Scene]) -> Videos:
    videos = Videos(scenes)
    for key in videos.weights:
        videos.weights[key][:] = 0
    return videos


def test_frames_without_weight_are_not_drawn_and_samples_without_any_are_left_out(
    scenes: list[Scene],
) -> None:
    videos = weightless(scenes)
    videos.weights["v1", "0"][[1, 3]] = (0.5, 1.0)
    clips = clips_of(videos, Shape(4, 2))
    assert len(clips) == clips.samples == 1
    for number in range(10):
        [clip] = clips[number]
        assert len(clip.images) == 2 and clip.weight.tolist() == [0.5, 1.0]


def test_frames_of_more_weight_come_more_often(scenes: list[Scene]) -> None:
    videos = weightless(scenes)
    videos.weights["v0", "0"][[0, 2]] = (0.1, 0.9)
    clips = clips_of(videos, Shape(1))
    heavy = [clips[number][0].weight[0] > 0.5 for number in range(60)]
    assert 0.75 < np.mean(heavy) < 1


def test_frame_weights_can_be_left_out(scenes: list[Scene]) -> None:
    videos = weightless(scenes)
    videos.weights["v0", "0"][[0, 2]] = (0.1, 0.9)
    clips = Clips(videos, PseudoMasks(videos, weighted=False), Shape(3))
    assert clips[0][0].weight.tolist() == [1.0, 1.0]


def test_masks_without_any_weight_are_refused(scenes: list[Scene]) -> None:
    videos = weightless(scenes)
    with pytest.raises(PseudoLabelError, match="nothing to train on"):
        Clips(videos, PseudoMasks(videos), Shape(2))


def test_positives_and_negatives_come_with_a_clip_and_are_mirrored_with_it(
    scenes: list[Scene],
) -> None:
    """A negative that the data set has of another object of the video is known to be elsewhere."""
    videos = Videos(scenes)

    def sentences(video: str) -> Mapping[str, Augmentation]:
        return {
            item.key.expression: Augmentation(
                SampleKey("shapes", "train", video, item.key.expression),
                (
                    Positive(item.text, 1.0),
                    *(Positive(f"{word} {item.text}", 0.5) for word in ("one", "two", "three")),
                ),
                (
                    *(Negative(f"{word} at the left", None) for word in ("a", "b", "c")),
                    *(
                        Negative(other.text.upper(), None)
                        for other in videos.expressions(video)
                        if other.key.expression != item.key.expression
                    ),
                ),
                Provenance("test", "", "", 0),
            )
            for item in videos.expressions(video)
        }

    shape = Shape(1, positives=2, negatives=50)
    clips = Clips(videos, PseudoMasks(videos), shape, sentences=sentences)
    sides = set()
    for number in range(12):
        [clip] = clips[number]
        side = clip.text.split()[-1]
        sides.add(side)
        assert len(clip.positives) == 2 and len(clip.negatives) == 3
        assert all(text.endswith(clip.text) and sure == 0.5 for text, sure in clip.positives)
        assert all(text.endswith(f"at the {side}") for text in clip.negatives)
        assert clip.elsewhere and not {clip.text.upper()} & set(clip.elsewhere)
        assert all(text.upper().endswith(side.upper()) for text in clip.elsewhere)
    assert sides == {"left", "right"}
