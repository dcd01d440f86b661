"""What scenes hold: the statistics of Ref-YouTube-VOS, and paths that leave and come back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.shapes.scene import (
    COLOURS,
    HARD_FRAMES,
    HEIGHT,
    MOTIONS,
    SHAPES,
    SIZES,
    WIDTH,
    Scene,
    sample_hard_scene,
    sample_scene,
)

DIRECTION = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0), "still": (0, 0)}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(np.random.default_rng((3, number))) for number in range(800)]


def test_videos_are_as_long_as_those_of_ref_youtube_vos(scenes: list[Scene]) -> None:
    frames = np.array([scene.frames for scene in scenes])
    assert frames.min() >= 4 and frames.max() <= 36
    assert abs(frames.mean() - 27) < 1
    assert frames.min() < 10, "short videos exist"


def test_two_to_five_objects_all_told_apart(scenes: list[Scene]) -> None:
    counts = {len(scene.objects) for scene in scenes}
    assert counts == {2, 3, 4, 5}
    for scene in scenes:
        names = [item.name for item in scene.objects]
        assert len(set(names)) == len(names), "no two of one size, colour and shape"


def test_every_shape_colour_size_and_motion_is_drawn(scenes: list[Scene]) -> None:
    objects = [item for scene in scenes for item in scene.objects]
    assert {item.shape for item in objects} == set(SHAPES)
    assert {item.colour for item in objects} == set(COLOURS)
    assert {item.size for item in objects} == set(SIZES)
    assert {item.motion for item in objects} == set(MOTIONS)
    assert any(item.spinning for item in objects)


def test_sizes_are_in_their_ranges_and_do_not_meet(scenes: list[Scene]) -> None:
    for scene in scenes:
        for item in scene.objects:
            low, high = SIZES[item.size]
            assert low <= item.radius <= high
    assert SIZES["small"][1] < SIZES["large"][0]


def test_a_turning_circle_would_not_be_seen_to_turn(scenes: list[Scene]) -> None:
    circles = [item for scene in scenes for item in scene.objects if item.shape == "circle"]
    assert circles and not any(item.spinning for item in circles)


def test_many_scenes_hold_objects_that_one_attribute_tells_apart(scenes: list[Scene]) -> None:
    twins = [
        scene
        for scene in scenes
        if len({item.shape for item in scene.objects}) < len(scene.objects)
        or len({item.colour for item in scene.objects}) < len(scene.objects)
    ]
    assert len(twins) > 0.4 * len(scenes)


def test_objects_start_inside_the_frame(scenes: list[Scene]) -> None:
    for scene in scenes:
        for item in scene.objects:
            x, y = item.centre(0)
            assert item.radius <= x <= WIDTH - item.radius
            assert item.radius <= y <= HEIGHT - item.radius


def test_an_object_moves_its_way_at_its_speed_and_jumps_only_out_of_sight(
    scenes: list[Scene],
) -> None:
    jumps = 0
    for scene in scenes[:200]:
        for item in scene.objects:
            way = np.array(DIRECTION[item.motion]) * item.speed
            for time in range(1, scene.frames):
                before, now = np.array(item.centre(time - 1)), np.array(item.centre(time))
                if np.allclose(now - before, way, atol=1e-6):
                    continue
                jumps += 1
                # A step along the way from where it was, or back to where it is, is out of sight.
                for point in (before + way, now - way):
                    beyond = np.maximum(-point, point - (WIDTH, HEIGHT)).max()
                    assert beyond >= item.radius - 1e-6
    assert jumps > 20, "objects do leave and come back"


def test_objects_leave_and_come_back(scenes: list[Scene]) -> None:
    returned = 0
    for scene in scenes:
        for item in scene.objects:
            shown = []
            for time in range(scene.frames):
                x, y = item.centre(time)
                shown.append(
                    -item.radius < x < WIDTH + item.radius
                    and -item.radius < y < HEIGHT + item.radius
                )
            if not all(shown) and any(shown[shown.index(False) :]):
                returned += 1
    assert returned > 50


def test_the_same_generator_gives_the_same_scene() -> None:
    one, two = (sample_scene(np.random.default_rng(11)) for _ in range(2))
    assert one.objects == two.objects and one.frames == two.frames and one.seed == two.seed
    np.testing.assert_array_equal(one.shots[0].waves, two.shots[0].waves)
    assert sample_scene(np.random.default_rng(12)).objects != one.objects


@pytest.fixture(scope="module")
def hard() -> list[Scene]:
    return [sample_hard_scene(np.random.default_rng((5, number))) for number in range(60)]


def shown(scene: Scene, index: int) -> list[bool]:
    """Whether any part of an object can be in each frame, pillars left aside."""
    radius = scene.objects[index].radius
    places = [scene.centre(index, frame) for frame in range(scene.frames)]
    return [-radius < x < WIDTH + radius and -radius < y < HEIGHT + radius for x, y in places]


def test_hard_scenes_are_long_and_cut(hard: list[Scene]) -> None:
    assert {scene.frames for scene in hard} == {HARD_FRAMES}
    assert {len(scene.shots) for scene in hard} == {2, 3}
    for scene in hard:
        assert scene.shots[0].first == 0 and scene.moment(0) == 0
        for before, after in itertools.pairwise(scene.shots):
            assert before.first < after.first < scene.frames
            assert not np.array_equal(before.waves, after.waves), "another background"
            assert after.ahead >= 15, "and another part of the paths"


def test_look_alikes_of_a_hard_scene_cross_in_sight(hard: list[Scene]) -> None:
    met = 0
    for scene in hard:
        one, two = scene.objects[:2]
        assert one.name == two.name and {one.motion, two.motion} in (
            {"left", "right"},
            {"up", "down"},
        )
        others = [item.name for item in scene.objects[2:]]
        assert len({*others, one.name}) == len(others) + 1, "the others have names of their own"
        places = [
            np.subtract(scene.centre(0, frame), scene.centre(1, frame))
            for frame in range(scene.frames)
            if shown(scene, 0)[frame] and shown(scene, 1)[frame]
        ]
        met += min(float(np.abs(place).max()) for place in places) < one.radius
    assert met > 0.9 * len(hard)


def test_objects_of_hard_scenes_are_away_for_long_and_come_back(hard: list[Scene]) -> None:
    away = 0
    for scene in hard:
        runs = [len(list(run)) for seen, run in itertools.groupby(shown(scene, 0)) if not seen]
        away += max(runs, default=0) >= 10 and any(shown(scene, 0)[-40:])
    assert away > 0.5 * len(hard)


def test_pillars_hide_objects_for_long(hard: list[Scene]) -> None:
    longest = []
    for scene in hard:
        behind = [
            any(pillar.hides(scene.centre(index, frame)[0]) for pillar in scene.shot(frame).pillars)
            and shown(scene, index)[frame]
            for index in range(len(scene.objects))
            for frame in range(scene.frames)
        ]
        longest.append(
            max((len(list(run)) for hidden, run in itertools.groupby(behind) if hidden), default=0)
        )
    assert np.median(longest) >= 10
