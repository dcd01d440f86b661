"""How a clip is varied: frames, masks, boxes and the sentence together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import ViewsConfig
from stages.student.data.supervision import ABSENT, UNKNOWN, of_boxes, of_mask
from stages.student.data.views import View, between, draw_view, mirror_sentence, names_a_place
from tests.pipeline.boxes import box_to_mask

HEIGHT, WIDTH = 40, 60


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the star on the left", "the star on the right"),
        ("a cross to the right of the left one", "a cross to the left of the right one"),
        ("the leftmost circle", "the rightmost circle"),
        ("Left of the cross", "Right of the cross"),
        ("a bright man in the middle", "a bright man in the middle"),
        ("the star moving up", "the star moving up"),
        ("the one going leftwards", "the one going rightwards"),
        ("the left-hand and lefthand one", "the right-hand and righthand one"),
        ("the LEFT one", "the RIGHT one"),
        ("a left-most, right-handed man", "a right-most, left-handed man"),
        ("the wheel that turns clockwise", "the wheel that turns counterclockwise"),
        ("Clockwise", "Counterclockwise"),
        ("an upright dog with leftover food", "an upright dog with leftover food"),
    ],
)
def test_mirroring_a_sentence(text: str, mirrored: str) -> None:
    assert mirror_sentence(text) == mirrored
    assert mirror_sentence(mirrored) == text


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_a_view_that_changes_nothing_gives_the_frame_itself() -> None:
    image, mask = picture(), of_mask(np.eye(HEIGHT, WIDTH, dtype=bool))
    assert View().of_image(image) is image
    assert View().of_supervision(mask, (HEIGHT, WIDTH)) is mask
    assert View().of_text("left") == "left"


def test_zooming_in_by_two_shows_each_pixel_as_four() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[12:20, 20:33] = True
    view = View(zoom=2.0, corner=(10.0, 5.0))
    found = view.of_supervision(of_mask(mask, 0.5), (HEIGHT, WIDTH))
    expected = np.kron(mask[5 : 5 + HEIGHT // 2, 10 : 10 + WIDTH // 2], np.ones((2, 2), bool))
    assert found.mask is not None and found.weight == 0.5
    np.testing.assert_array_equal(found.mask, expected)
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[mask] = 200
    shown = view.of_image(image)[..., 0] > 120
    assert (shown != expected).mean() < 0.02, "the same place, but for the edge's blur"


def test_zooming_out_fills_the_border() -> None:
    view = View(zoom=0.5, corner=(-WIDTH / 2, -HEIGHT / 2))
    shown = view.of_image(np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    assert (shown[12:28, 18:42] == 255).all() and (shown[:8] == (124, 116, 104)).all()
    whole = view.of_supervision(of_mask(np.ones((HEIGHT, WIDTH), bool)), (HEIGHT, WIDTH))
    assert whole.mask is not None and whole.mask.mean() == pytest.approx(0.25, abs=0.01)


def test_a_target_that_is_cut_off_is_absent() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:5, :5] = True
    away = View(zoom=2.0, corner=(30.0, 20.0))
    cut = away.of_supervision(of_mask(mask, 0.25), (HEIGHT, WIDTH))
    assert cut.kind == "absent" and cut.weight == 0.25
    boxes = np.array([[0, 0, 5, 5]], np.float32)
    assert away.of_supervision(of_boxes(boxes), (HEIGHT, WIDTH)) == ABSENT
    for known in (UNKNOWN, ABSENT):
        assert away.of_supervision(known, (HEIGHT, WIDTH)) == known


@given(
    zoom=st.floats(0.6, 3),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mirrored=st.booleans(),
    box=st.tuples(st.integers(0, 40), st.integers(0, 25), st.integers(6, 18), st.integers(6, 14)),
)
def test_a_box_goes_where_its_mask_goes(
    zoom: float,
    place: tuple[float, float],
    mirrored: bool,
    box: tuple[int, int, int, int],
) -> None:
    x, y, width, height = box
    xyxy = np.array([[x, y, x + width, y + height]], np.float32)
    corner = (place[0] * WIDTH * (1 - 1 / zoom), place[1] * HEIGHT * (1 - 1 / zoom))
    view = View(mirrored=mirrored, zoom=zoom, corner=corner)
    mask = of_mask(box_to_mask(xyxy[0], HEIGHT, WIDTH))
    shown = view.of_supervision(mask, (HEIGHT, WIDTH))
    moved = view.of_supervision(of_boxes(xyxy), (HEIGHT, WIDTH))
    if shown.mask is None:
        assert moved.boxes is None or (moved.boxes[0, 2:] - moved.boxes[0, :2]).min() <= 1
        return
    ys, xs = np.nonzero(shown.mask)
    assert moved.boxes is not None
    tight = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    np.testing.assert_allclose(moved.boxes[0], tight, atol=1.01)


def test_views_between_two_lead_evenly_from_one_to_the_other() -> None:
    first = View(mirrored=True, zoom=1.0, corner=(0.0, 0.0), brightness=1.2)
    last = View(zoom=2.0, corner=(8.0, 4.0), brightness=0.7)
    views = between(first, last, 5)
    assert views[0] == first
    assert [view.zoom for view in views] == [1, 1.25, 1.5, 1.75, 2]
    assert [view.corner for view in views] == [(0, 0), (2, 1), (4, 2), (6, 3), (8, 4)]
    assert all(view.mirrored and view.brightness == 1.2 for view in views)


def test_light_changes_frames_alone_and_no_more_than_it_may() -> None:
    config = ViewsConfig(mirror=False, brightness=0.3, contrast=0.2, saturation=0.2)
    image = picture()
    for seed in range(5):
        view = draw_view(config, (HEIGHT, WIDTH), np.random.default_rng(seed))
        assert not view.mirrored and view.zoom == 1
        assert 0.7 <= view.brightness <= 1.3 and 0.8 <= view.contrast <= 1.2
        shown = view.of_image(image)
        assert shown.dtype == np.uint8 and shown.shape == image.shape and (shown != image).any()
    darker = View(brightness=0.5).of_image(image)
    np.testing.assert_allclose(darker, image / 2, atol=1)
    grey = View(saturation=0.0).of_image(image)
    assert (grey == grey[..., :1]).all()
    red = np.zeros((2, 2, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    np.testing.assert_array_equal(View(hue=1 / 3).of_image(red)[0, 0], [0, 200, 0])
    some = [np.random.default_rng(seed) for seed in range(9)]
    turned = [draw_view(ViewsConfig(hue=0.1), (HEIGHT, WIDTH), rng).hue for rng in some]
    assert all(abs(hue) <= 0.1 for hue in turned) and len(set(turned)) == 9


def test_views_stay_within_the_frame_and_follow_the_seed() -> None:
    config = ViewsConfig(zoom=(1.0, 2.0))
    flips = 0
    for seed in range(40):
        view = draw_view(config, (HEIGHT, WIDTH), np.random.default_rng(seed))
        assert view == draw_view(config, (HEIGHT, WIDTH), np.random.default_rng(seed))
        x, y = view.corner
        assert 1 <= view.zoom <= 2
        assert 0 <= x <= WIDTH - WIDTH / view.zoom + 1e-9
        assert 0 <= y <= HEIGHT - HEIGHT / view.zoom + 1e-9
        flips += view.mirrored
    assert 8 < flips < 32


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the star on the right side", True),
        ("a dog at the far left", True),
        ("the circle in the upper part", True),
        ("the leftmost parrot", True),
        ("The one In The Middle", True),
        ("right hand side person", True),
        ("the red circle left of the star", False),
        ("the cat to the left of a dog", False),
        ("the ball on the left of the box", False),
        ("a square moving left", False),
        ("the one that moves to the right", False),
        ("a person on top of a horse", False),
        ("the man raising the right hand", False),
    ],
)
def test_which_sentences_name_a_place_in_the_frame(text: str, place: bool) -> None:
    assert names_a_place(text) == place


@pytest.mark.parametrize("word", ["anticlockwise", "counter-clockwise", "anti-clockwise"])
def test_every_spelling_of_the_other_turn_is_mirrored(word: str) -> None:
    assert mirror_sentence(f"it turns {word}") == "it turns clockwise"


@pytest.mark.parametrize("zoom", [(2.0, 1.0), (0.0, 1.0), (1.0, 50.0)])
def test_a_zoom_that_makes_no_sense_is_refused(zoom: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="smallest and the largest"):
        ViewsConfig(zoom=zoom)
