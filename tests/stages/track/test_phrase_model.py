"""SAM 3 of transformers, with tiny random weights, finds and follows the objects of phrases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, Sam3VideoConfig, Sam3VideoProcessor
from transformers.models.sam2_video import Sam2VideoVideoProcessor
from transformers.models.sam3 import Sam3ImageProcessor

from benchmarks.data.tokenizers import byte_tokenizer
from benchmarks.data.video_models import write_sam3
from pipeline.config import TrackConfig
from pipeline.errors import CheckpointError
from pipeline.ports import SeenObjects
from stages.common.mask_resolution import low_resolution_size
from stages.track.phrase_model import PhraseModelTracker, load_phrase_tracker
from stages.track.video_model import to_cells

CPU = torch.device("cpu")
SIZE = 48, 80
CELLS = low_resolution_size(*SIZE, 64)
FRAMES = 21


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def tracker(folder: Path) -> PhraseModelTracker:
    return load_phrase_tracker(TrackConfig(source="sam3", checkpoint=str(folder)), CPU)


def frames() -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        yield rng.integers(0, 255, (*SIZE, 3), np.uint8)


Followed = tuple[list[SeenObjects], list[int]]


@pytest.fixture(scope="module")
def followed(tracker: PhraseModelTracker) -> Followed:
    """What is seen of each frame, and the numbers that the session held after each."""
    sizes: list[int] = []
    forget = tracker._forget

    def counted(session: Any, place: int) -> None:
        forget(session, place)
        tensors = [
            value.numel()
            for item in session.output_dict_per_obj.values()
            for kind in item.values()
            for entry in kind.values()
            for value in entry.values()
            if isinstance(value, torch.Tensor)
        ]
        held = [value.numel() for value in session.processed_frames.values()]
        for inputs in session.mask_inputs_per_obj.values():
            held += [value.numel() for value in inputs.values()]
        sizes.append(sum(tensors) + sum(held))

    tracker._forget = counted  # type: ignore[method-assign]
    try:
        return list(tracker.detect(frames(), ["dog", "person"], CELLS)), sizes
    finally:
        tracker._forget = forget  # type: ignore[method-assign]


def test_every_frame_has_its_objects(followed: Followed) -> None:
    found, _ = followed
    assert len(found) == FRAMES
    for item in found:
        assert item.logits.shape == (len(item.objects), *CELLS)
        assert item.logits.dtype == np.float16 and item.visible.shape == item.objects.shape
        assert np.isfinite(item.logits).all() and np.isfinite(item.visible).all()
    assert any(len(item.objects) for item in found)


def test_what_is_forgotten_changes_nothing(tracker: PhraseModelTracker, followed: Followed) -> None:
    """The same as with the model's own loop, whose memory grows with the video."""
    processor, model = tracker._processor, tracker._model
    session = processor.init_video_session(video=list(frames()), dtype=torch.float32)
    processor.add_text_prompt(session, ["dog", "person"])
    spread = []
    for place, own in enumerate(model.propagate_in_video_iterator(session)):
        hidden = {*own.suppressed_obj_ids, *session.hotstart_removed_obj_ids}
        numbers = [number for number in sorted(own.obj_id_to_mask) if number not in hidden]
        assert followed[0][place].objects.tolist() == numbers, place
        for row, number in enumerate(numbers):
            expected = to_cells(own.obj_id_to_mask[number].float(), *SIZE, CELLS).clamp(-32, 32)
            spread.append(float(expected.std()))
            assert np.allclose(followed[0][place].logits[row], expected[0], atol=0.05), place
    assert max(spread) > 0.1


def test_memory_does_not_grow_with_the_video(followed: Followed) -> None:
    _, sizes = followed
    assert sizes[-1] == sizes[-2] == sizes[-3] > 0


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2_video"}))
    with pytest.raises(CheckpointError, match=r"a model of type sam2_video; expected .*sam3_video"):
        load_phrase_tracker(TrackConfig(source="sam3", checkpoint=str(tmp_path)), CPU)
    with pytest.raises(ValueError, match=r"the folder of facebook/sam3"):
        TrackConfig(source="sam3")


@pytest.mark.slow
def test_a_model_of_full_size_is_loaded_and_followed(tmp_path: Path) -> None:
    """Random weights in the layout and the size of ``facebook/sam3``, with fewer queries."""
    words = byte_tokenizer()
    config = Sam3VideoConfig(score_threshold_detection=0.0, new_det_thresh=0.0, max_num_objects=2)
    config.detector_config.text_config.eos_token_id = words.eos_token_id
    # Random weights find an object with each of 200 queries; masks of all pairs would be 26 GB.
    config.detector_config.detr_decoder_config.num_queries = 20
    model: Any = AutoModel.from_config(config, dtype=torch.bfloat16)
    assert 8e8 < sum(weight.numel() for weight in model.parameters()) < 9e8
    model.save_pretrained(tmp_path)
    del model
    Sam3VideoProcessor(Sam3ImageProcessor(), Sam2VideoVideoProcessor(), words).save_pretrained(
        tmp_path
    )
    section = TrackConfig(source="sam3", checkpoint=str(tmp_path), dtype="bfloat16")
    tracker = load_phrase_tracker(section, CPU)
    cells = low_resolution_size(480, 854, 1024)
    images = (np.full((480, 854, 3), 40 * place, np.uint8) for place in range(2))
    found = list(tracker.detect(images, ["dog"], cells))
    assert [item.logits.shape[1:] for item in found] == [(145, 256)] * 2
    assert {item.logits.dtype for item in found} == {np.dtype(np.float16)}
