from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import Qwen2VLImageProcessor

from pipeline.config import AugmentConfig
from pipeline.errors import ConfigError
from pipeline.types import VideoRef
from stages.augment.frames import fitted, times_of


def frame(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_a_frame_that_every_model_takes_is_left_as_it_is() -> None:
    image = frame(28, 5600)
    assert fitted(image, None) is image


@pytest.mark.parametrize(
    ("size", "padded"), [((5, 40), (28, 40)), ((40, 3), (40, 28)), ((30, 8000), (40, 8000))]
)
def test_small_and_narrow_frames_get_a_border(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    image = frame(*size)
    found = fitted(image, None)
    assert found.shape[:2] == padded
    assert np.array_equal(found[: size[0], : size[1]], image)
    assert (found[size[0] :] == 128).all() and (found[:, size[1] :] == 128).all()


def test_a_frame_of_too_many_pixels_is_scaled_down() -> None:
    found = fitted(frame(720, 1280), 200_000)
    height, width = found.shape[:2]
    assert 190_000 < height * width <= 200_000
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_frames_that_a_qwen_processor_refuses_are_taken_once_fitted() -> None:
    processor = Qwen2VLImageProcessor()
    narrow = frame(10, 4000)
    with pytest.raises(ValueError, match="aspect ratio"):
        processor(images=[narrow], return_tensors="np")
    for image in (narrow, frame(3, 5), frame(27, 900)):
        assert len(processor(images=[fitted(image, None)], return_tensors="np")["pixel_values"])


def config(**values: object) -> AugmentConfig:
    return AugmentConfig.model_validate({"source": "model", "input": "video"} | values)


def test_times_are_the_videos_own_or_follow_from_its_rate() -> None:
    names, paths = ("a", "b", "c"), (Path("f"),) * 3
    timed = VideoRef("v", names, paths, 40, 60, (0.0, 0.5, 2.0))
    assert times_of(timed, [0, 2], config(frames_per_second=6)) == (0.0, 2.0)
    plain = VideoRef("v", names, paths, 40, 60)
    assert times_of(plain, [0, 2], config(frames_per_second=4)) == (0.0, 0.5)
    with pytest.raises(ConfigError, match=r"frames of video v are shown; set .*frames_per_second"):
        times_of(plain, [0, 2], config())


def test_frames_share_the_pixels_of_a_video() -> None:
    assert config(frames=4).pixels_of_frame is None
    assert config(frames=4, max_pixels=5000).pixels_of_frame == 5000
    assert config(frames=4, max_pixels=5000, max_video_pixels=8000).pixels_of_frame == 2000
    assert config(frames=4, max_pixels=1000, max_video_pixels=8000).pixels_of_frame == 1000


def test_only_a_model_of_transformers_gets_a_video() -> None:
    with pytest.raises(ValueError, match="input 'video' with source 'lexicon'"):
        config(source="lexicon")
