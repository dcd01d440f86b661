import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import AugmentConfig, GroundConfig, SegmentConfig
from pipeline.errors import TooLargeError
from stages.augment.captioner import ModelCaptioner
from stages.augment.prompt import DEFAULT_PROMPT
from stages.common.fitting_batches import FittingBatches, is_out_of_memory
from stages.ground import grounder as grounding
from stages.ground.grounder import load_grounder
from stages.segment import box_model as segmenting
from stages.segment.segmenter import SamSegmenter
from tests.fakes.captioner import FakeModel, FakeProcessor
from tests.stages.augment.test_captioner import ANSWER, request
from tests.stages.segment.test_segmenter import boxes_in, frames

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")


class Device:
    """Takes batches of at most ``room`` items."""

    def __init__(self, room: int, error: BaseException = CUDA) -> None:
        self.room, self.error = room, error
        self.asked: list[int] = []

    def work(self, part: Sequence[int]) -> list[int]:
        self.asked.append(len(part))
        if len(part) > self.room:
            raise self.error
        return [10 * item for item in part]


def batches(size: int) -> FittingBatches:
    return FittingBatches(size, "frame", "ground.batch_frames", "take a smaller model")


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError(), RuntimeError("not enough memory: x")])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(error: BaseException) -> None:
    device = Device(3, error)
    assert list(batches(16).over(range(20), device.work)) == [10 * item for item in range(20)]
    assert device.asked == [16, 8, 4, *[2] * 10]


def test_the_size_that_fits_is_remembered_and_told(caplog: pytest.LogCaptureFixture) -> None:
    fitting, device = batches(8), Device(4)
    with caplog.at_level(logging.WARNING):
        list(fitting.over(range(8), device.work))
    [record] = caplog.records
    assert "set ground.batch_frames=4" in record.getMessage()
    device.asked.clear()
    list(fitting.over(range(8), device.work))
    assert device.asked == [4, 4]


def test_a_short_batch_that_fails_halves_itself_and_not_the_size() -> None:
    fitting, device = batches(64), Device(2)
    assert list(fitting.over(range(5), device.work)) == [0, 10, 20, 30, 40]
    assert fitting.size == 2


def test_a_short_batch_that_is_filled_up_halves_the_size() -> None:
    filled = FittingBatches(8, "frame", "ground.batch_frames", "take a smaller model", whole=True)
    device = Device(4)

    def work(part: Sequence[int]) -> list[int]:
        return device.work([*part, *[0] * (filled.size - len(part))])[: len(part)]

    assert list(filled.over([7], work)) == [70]
    assert device.asked == [8, 4]


def test_what_does_not_fit_alone_is_an_error_with_advice() -> None:
    with pytest.raises(TooLargeError, match=r"batch_frames: .*single frame .*CUDA out.*smaller"):
        list(batches(4).over(range(4), Device(0).work))


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    device = Device(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches(4).over(range(4), device.work))
    assert device.asked == [4]
    assert not is_out_of_memory(ValueError("out of memory"))


def limit(module: Any, name: str, place: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a function of a module run out of memory where its argument has too many rows."""
    real = getattr(module, name)

    def limited(*arguments: Any) -> Any:
        rows = arguments[place]
        if (rows.encoded.shape[0] if hasattr(rows, "encoded") else len(rows)) > room:
            raise CUDA
        return real(*arguments)

    monkeypatch.setattr(module, name, limited)


def test_masks_do_not_depend_on_the_memory(small_sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = frames(4, 72, 128)
    boxes = [boxes_in(n, 72, 128, seed=n) for n in (2, 0, 3, 1)]
    config = SegmentConfig(merge_iou=1.0)

    def masks() -> Any:
        segmenter = SamSegmenter(small_sam, config)
        return segmenter.decode(segmenter.embed(images), boxes)

    expected = masks()
    limit(segmenting, "encode_frames", 1, 1, monkeypatch)
    limit(segmenting, "decode_boxes", 2, 2, monkeypatch)
    for found, wanted in zip(masks(), expected, strict=True):
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-2)
        np.testing.assert_array_equal(found.box_row, wanted.box_row)


def test_boxes_do_not_depend_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images = frames(3, 72, 128)
    texts = ["the red circle", "the blue square on the left", "a green star"]
    config = GroundConfig(joint=1)

    def found() -> Any:
        grounder = load_grounder(config, torch.device("cpu"))
        return grounder.ground(grounder.embed(images), texts)

    expected = found()
    limit(grounding, "encode_frames", 1, 2, monkeypatch)
    limit(grounding, "run_transformer", 2, 2, monkeypatch)
    for some, wanted in zip(found(), expected, strict=True):
        np.testing.assert_array_equal(some.text, wanted.text)
        np.testing.assert_allclose(some.xyxy, wanted.xyxy, atol=1e-2)
        np.testing.assert_allclose(some.score, wanted.score, atol=1e-4)


def test_sentences_do_not_depend_on_the_memory() -> None:
    class Small(FakeModel):
        def generate(self, input_ids: torch.Tensor, **rest: Any) -> torch.Tensor:
            if len(input_ids) > 1:
                raise CPU
            return super().generate(input_ids, **rest)

    def texts(kind: type[FakeModel]) -> list[Any]:
        processor = FakeProcessor()
        model = kind(processor, lambda text, attempt: ANSWER)
        config = AugmentConfig(source="model", positives=6)
        captioner = ModelCaptioner(model, processor, DEFAULT_PROMPT, config, "fake", "abc", 7)
        return captioner.augment([request("one", 0), request("another", 1), request("third", 2)])

    assert texts(Small) == texts(FakeModel)
