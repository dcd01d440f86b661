"""Drawn frames: the masks are exactly what is seen of the geometry."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.shapes.render import render
from pipeline.shapes.scene import (
    COLOURS,
    HEIGHT,
    SHAPES,
    WIDTH,
    Pillar,
    Scene,
    SceneObject,
    Shot,
    sample_hard_scene,
    sample_scene,
)

Y, X = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5


def make_object(shape: str = "square", **changes: object) -> SceneObject:
    item = SceneObject(
        shape=shape,
        colour="red",
        size="large",
        radius=28.3,
        motion="still",
        start=(101.3, 70.9),
        speed=0.0,
        gap=0.0,
        angle=0.37,
        spin=0.0,
        tint=(0.0, 0.0, 0.0),
        depth=0,
    )
    return replace(item, **changes)  # type: ignore[arg-type]


def make_scene(*objects: SceneObject, frames: int = 8) -> Scene:
    plain = Shot(np.zeros((1, 6), np.float32), (0.5, 0.5, 0.5))
    return Scene(frames, objects, (plain,), 5)


def outlines(item: SceneObject, time: int) -> list[NDArray[np.float64]]:
    """Polygons [n, 2] whose union the object is, in pixels: written from the shapes' meaning."""
    radius, turns = item.radius, []
    if item.shape == "square":
        half = 0.78 * radius
        turns = [np.array([[-half, -half], [half, -half], [half, half], [-half, half]])]
    elif item.shape == "cross":
        long, short = 0.95 * radius, 0.32 * radius
        bar = np.array([[-long, -short], [long, -short], [long, short], [-long, short]])
        turns = [bar, bar[:, ::-1]]
    else:
        points = {"triangle": 3, "star": 5}[item.shape]
        rings = [radius] if item.shape == "triangle" else [radius, 0.45 * radius]
        steps = points * len(rings)
        angles = 2 * np.pi * np.arange(steps) / steps
        reach = np.array([rings[step % len(rings)] for step in range(steps)])
        turns = [np.stack([reach * np.sin(angles), -reach * np.cos(angles)], axis=1)]
    angle = item.angle + item.spin * time
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [polygon @ turned + item.centre(time) for polygon in turns]


def inside(polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd rule at every pixel's centre: crossings of a ray to the right."""
    result = np.zeros((HEIGHT, WIDTH), np.bool_)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        spans = (y0 > Y) != (y1 > Y)
        result ^= spans & (x0 + (Y - y0) / (y1 - y0) * (x1 - x0) > X)
    return result


def silhouette(item: SceneObject, time: int) -> NDArray[np.bool_]:
    if item.shape == "circle":
        x, y = item.centre(time)
        return np.asarray(np.hypot(X - x, Y - y) < 0.92 * item.radius)
    return np.logical_or.reduce([inside(polygon) for polygon in outlines(item, time)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spin", [0.0, 0.25])
@pytest.mark.parametrize("start", [(101.3, 70.9), (3.2, 140.1)])
def test_a_mask_is_the_shape(shape: str, spin: float, start: tuple[float, float]) -> None:
    item = make_object(shape, spin=spin, start=start)
    drawn = render(make_scene(item), 3)
    expected = silhouette(item, 3)
    assert expected.sum() > 200
    assert (drawn.masks[0] ^ expected).sum() <= 2, "rounding at the very edge alone"
    assert drawn.whole[0] == drawn.masks[0].sum()


def test_the_image_shows_the_colour_where_the_mask_is() -> None:
    for colour, wanted in COLOURS.items():
        drawn = render(make_scene(make_object(colour=colour)), 0)
        shown = drawn.image[drawn.masks[0]].mean(0) / 255
        nearest = min(
            COLOURS, key=lambda name: float(np.abs(shown - np.array(COLOURS[name])).sum())
        )
        assert nearest == colour, (shown, wanted)
        around = drawn.image[~drawn.masks[0]].mean(0) / 255
        assert np.abs(around - 0.5).max() < 0.02, "and the background elsewhere"


def test_what_is_nearer_hides_what_is_farther() -> None:
    near = make_object("circle", depth=0, colour="blue")
    far = make_object("square", depth=3, start=(125.0, 75.0))
    for order in itertools.permutations((near, far)):
        drawn = render(make_scene(*order), 0)
        place_near, place_far = order.index(near), order.index(far)
        whole_near, whole_far = silhouette(near, 0), silhouette(far, 0)
        assert (whole_near & whole_far).any()
        assert (drawn.masks[place_near] ^ whole_near).sum() <= 2
        assert (drawn.masks[place_far] ^ (whole_far & ~whole_near)).sum() <= 2
        assert abs(int(drawn.whole[place_far]) - int(whole_far.sum())) <= 2
        assert drawn.masks[place_far].sum() < drawn.whole[place_far]


def test_masks_of_a_scene_are_disjoint_and_each_what_is_left_of_its_shape() -> None:
    for number in range(25):
        scene = sample_scene(np.random.default_rng((17, number)))
        time = scene.frames // 2
        drawn = render(scene, time)
        assert drawn.masks.sum(0).max() <= 1
        hidden = np.zeros((HEIGHT, WIDTH), np.bool_)
        for row in sorted(range(len(scene.objects)), key=lambda i: scene.objects[i].depth):
            whole = silhouette(scene.objects[row], time)
            assert (drawn.masks[row] ^ (whole & ~hidden)).sum() <= 4
            hidden |= whole


def test_an_object_that_is_away_has_an_empty_mask() -> None:
    item = make_object(motion="left", speed=6.0, start=(30.0, 70.0), gap=40.0)
    scene = make_scene(item, frames=36)
    sizes = [int(render(scene, time).masks[0].sum()) for time in range(scene.frames)]
    away = sizes.index(0)
    assert sizes[0] > 0 and away > 0
    assert any(sizes[away:]), "and it comes back"
    assert render(scene, away).whole[0] == 0


def test_the_same_frame_is_drawn_the_same_and_frames_differ() -> None:
    scene = sample_scene(np.random.default_rng(4))
    first, again, later = render(scene, 1), render(scene, 1), render(scene, 2)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert (first.image != later.image).mean() > 0.5, "noise and background move"
    assert first.image.shape == (HEIGHT, WIDTH, 3) and first.image.dtype == np.uint8


def test_a_pillar_hides_what_is_behind_it() -> None:
    item = make_object(start=(100.0, 70.0))
    [plain] = make_scene(item).shots
    scene = Scene(1, (item,), (replace(plain, pillars=(Pillar(90.0, 60.0, 0.4),)),), 5)
    drawn, free = render(scene, 0), render(make_scene(item), 0)
    assert not drawn.masks[0, :, 90:150].any()
    np.testing.assert_array_equal(drawn.masks[0, :, :90], free.masks[0, :, :90])
    assert drawn.masks[0].any() and drawn.whole[0] == free.masks[0].sum()
    columns = drawn.image[:, 95:145].astype(float)
    assert np.ptp(columns.mean((0, 1))) < 2, "it is grey"


def test_a_cut_shows_objects_elsewhere_before_another_background() -> None:
    scene = sample_hard_scene(np.random.default_rng(6))
    cut = scene.shots[1].first
    before, after, later = (
        render(scene, time).image.astype(float) for time in (cut - 1, cut, cut + 1)
    )
    assert np.abs(after - before).mean() > 3 * np.abs(later - after).mean()
    moves = [np.abs(np.subtract(scene.centre(0, cut), scene.centre(0, cut - 1))).max()]
    assert max(moves) > 10
