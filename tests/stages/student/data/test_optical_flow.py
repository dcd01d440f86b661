"""Optical flow as supervision."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.types import VideoRef
from stages.student.data.optical_flow import OpticalFlow, optical_flow
from stages.student.data.supervision import of_flow
from stages.student.data.views import View
from tests.fakes.student import Videos, two_scenes

HEIGHT, WIDTH = 96, 128
OBJECT = slice(30, 60), slice(40, 80)


def texture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Waves of many lengths: every place is unlike its neighbours."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    waves = [
        np.sin(x * rng.uniform(0.1, 0.9) + y * rng.uniform(0.1, 0.9) + rng.uniform(0, 6))
        for _ in range(9)
    ]
    return (
        (128 + 40 * np.stack(waves, -1).reshape(height, width, 3, 3).sum(-1))
        .clip(0, 255)
        .astype(np.uint8)
    )


def two_frames(moved: tuple[int, int], panned: int = 0) -> list[NDArray[np.uint8]]:
    """A thing that moves by x and y in front of a background, which the camera pans over."""
    behind = texture(HEIGHT, WIDTH + 20, 0)
    thing = texture(30, 40, 1)
    frames = []
    for time in (0, 1):
        frame = behind[:, time * panned : time * panned + WIDTH].copy()
        x, y = time * moved[0], time * moved[1]
        frame[30 + y : 60 + y, 40 + x : 80 + x] = thing
        frames.append(frame)
    return frames


@pytest.mark.parametrize("panned", [0, 3])
def test_flow_is_that_of_each_thing_and_known_nearly_everywhere(panned: int) -> None:
    flow = optical_flow(*two_frames((4, -3), panned), 13)
    inside = flow[OBJECT][4:-4, 4:-4]
    np.testing.assert_allclose(np.nanmedian(inside, (0, 1)), (4, -3), atol=0.3)
    assert np.isfinite(inside).mean() > 0.8
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[20:64, 30:90] = False
    np.testing.assert_allclose(np.nanmedian(flow[outside], 0), (-panned, 0), atol=0.3)
    assert np.isfinite(flow[outside]).mean() > 0.8


def test_what_is_around_a_thing_does_not_have_its_motion() -> None:
    flow = optical_flow(*two_frames((4, -3)), 13)
    ring = np.zeros((HEIGHT, WIDTH), bool)
    ring[22:68, 32:88] = True
    ring[26:61, 39:85] = False  # where the thing is in either frame
    dragged = np.linalg.norm(flow[ring] - (4, -3), axis=-1) < 1.5
    assert dragged.mean() < 0.05


def test_nothing_moves_in_a_still_frame() -> None:
    still, _ = two_frames((0, 0))
    np.testing.assert_allclose(optical_flow(still, still, 13), 0, atol=0.2)


def test_every_frame_of_a_video_has_the_flow_to_the_next_and_the_last_one_goes_on() -> None:
    videos = Videos(two_scenes())
    name = videos.video_ids()[0]
    source, video = OpticalFlow(videos, 13), videos.video(name)
    count = len(video)
    assert {len(known.weight) for known in source.samples() if known.video == name} == {count}
    found = [item.flow for item in source.frames(name, "0", range(count))]
    first, last = (videos.frame(video, index) for index in (count - 2, count - 1))
    np.testing.assert_array_equal(found[-2], optical_flow(first, last, 13))
    np.testing.assert_array_equal(found[-1], -optical_flow(last, first, 13))


def test_a_video_of_one_frame_has_none_and_a_broken_one_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(Videos):
        def video(self, video_id: str) -> VideoRef:
            if video_id == first:
                raise InputError("0001.jpg", "missing", "a frame", "put it there")
            found = super().video(video_id)
            return replace(found, frames=found.frames[:1], paths=found.paths[:1])

    videos = Odd(two_scenes())
    first, *_ = videos.video_ids()
    with caplog.at_level(logging.WARNING):
        assert list(OpticalFlow(videos, 13).samples()) == []
    assert "0001.jpg" in caplog.text


def test_a_view_takes_the_flow_with_it() -> None:
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[:, : WIDTH // 2] = (4, -3)
    mirrored = View(mirrored=True).of_supervision(of_flow(flow), (HEIGHT, WIDTH)).flow
    assert mirrored is not None
    np.testing.assert_array_equal(mirrored[0, -1], (-4, -3))
    np.testing.assert_array_equal(mirrored[0, 0], (0, 0))
    enlarged = View(zoom=2.0).of_supervision(of_flow(flow), (HEIGHT, WIDTH)).flow
    assert enlarged is not None
    np.testing.assert_array_equal(enlarged[10, 10], (8, -6))
    smaller = View(zoom=0.5).of_supervision(of_flow(flow), (HEIGHT, WIDTH)).flow
    assert smaller is not None
    np.testing.assert_array_equal(smaller[10, 10], (2, -1.5))
    assert np.isnan(smaller[-1, -1]).all(), "beyond the frame nothing is known"
