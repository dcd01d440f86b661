"""Cuts are found where the shot changes, and not where the camera or the objects move."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.shapes.render import render
from pipeline.shapes.scene import sample_hard_scene, sample_scene
from stages.common.cuts import CutFinder


def cuts_of(images: list[np.ndarray]) -> list[int]:
    finder = CutFinder()
    for image in images:
        finder.add(image)
    return finder.finish()


@pytest.mark.parametrize("seed", [3, 4])
def test_the_cuts_of_a_hard_scene_are_found(seed: int) -> None:
    scene = sample_hard_scene(np.random.default_rng((2026, 1, seed)))
    found = cuts_of([render(scene, time).image for time in range(scene.frames)])
    assert found == [shot.first for shot in scene.shots[1:]]


def test_a_scene_without_cuts_has_none() -> None:
    scene = sample_scene(np.random.default_rng(3))
    assert cuts_of([render(scene, time).image for time in range(scene.frames)]) == []


def test_a_camera_that_pans_fast_makes_no_cut() -> None:
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (20, 120, 3), np.uint8), np.ones((12, 12, 1), np.uint8))
    assert cuts_of([wide[:, 40 * t : 40 * t + 420] for t in range(25)]) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_videos_have_no_cut(count: int) -> None:
    assert cuts_of([np.full((20, 30, 3), 90, np.uint8)] * count) == []


def test_large_frames_are_compared_small() -> None:
    dark, light = np.full((900, 1200, 3), 20, np.uint8), np.full((900, 1200, 3), 220, np.uint8)
    assert cuts_of([dark] * 6 + [light] * 6) == [6]
