import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import Qwen2VLImageProcessor

from stages.augment.frames import fitted


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
