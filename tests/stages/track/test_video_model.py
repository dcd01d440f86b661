"""A video model of transformers, with tiny random weights, follows boxes through a video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, EdgeTamVideoConfig, Sam2VideoConfig, Sam2VideoProcessor
from transformers.models.sam2 import Sam2ImageProcessor
from transformers.models.sam2_video import Sam2VideoVideoProcessor

from benchmarks.data.video_models import write_sam2
from pipeline.config import TrackConfig
from pipeline.errors import CheckpointError
from stages.common.mask_resolution import enlarge, low_resolution_size
from stages.track.video_model import VideoModelTracker, load_tracker, to_cells

CPU = torch.device("cpu")
SIZE = 48, 80
CELLS = low_resolution_size(*SIZE, 64)
FRAMES = 24
BOXES = {
    2: {0: np.array([5, 5, 30, 30], np.float32)},
    5: {1: np.array([25, 5, 60, 40], np.float32)},
    9: {0: np.array([8, 8, 30, 30], np.float32)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def tracker(folder: Path) -> VideoModelTracker:
    return load_tracker(TrackConfig(source="model", checkpoint=str(folder)), CPU)


def frames() -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        yield rng.integers(0, 255, (*SIZE, 3), np.uint8)


def test_objects_begin_where_their_first_boxes_are(tracker: VideoModelTracker) -> None:
    found = list(tracker.follow(frames(), BOXES, CELLS))
    assert [item.objects.tolist() for item in found] == (
        [[]] * 2 + [[0]] * 3 + [[0, 1]] * (FRAMES - 5)
    )
    for item in found:
        assert item.logits.shape == (len(item.objects), *CELLS)
        assert item.logits.dtype == np.float16 and item.visible.shape == item.objects.shape


def test_what_is_forgotten_changes_nothing(tracker: VideoModelTracker) -> None:
    """The same as with the model's own loop, whose memory grows with the video."""
    found = list(tracker.follow(frames(), BOXES, CELLS))
    processor, model = tracker._processor, tracker._model
    session = processor.init_video_session(video=list(frames()), dtype=torch.float32)
    logits: dict[int, torch.Tensor] = {}
    for place in range(2, FRAMES):
        if place in BOXES:
            processor.add_inputs_to_inference_session(
                session,
                frame_idx=place,
                obj_ids=list(BOXES[place]),
                input_boxes=[[box.tolist() for box in BOXES[place].values()]],
            )
        with torch.inference_mode():
            logits[place] = model(inference_session=session, frame_idx=place).pred_masks[:, 0]
    spread = []
    for place, own in logits.items():
        expected = to_cells(own, *SIZE, CELLS).clamp(-32, 32)
        spread.append(float(expected.std()))
        assert np.allclose(found[place].logits, expected, atol=0.05), place
    assert min(spread) > 0.1


def test_memory_does_not_grow_with_the_video(
    tracker: VideoModelTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []
    begin = tracker._processor.init_video_session

    def kept(**options: Any) -> Any:
        sessions.append(begin(**options))
        return sessions[-1]

    monkeypatch.setattr(tracker._processor, "init_video_session", kept)
    sizes = []
    for _ in tracker.follow(frames(), BOXES, CELLS):
        [session] = sessions
        tensors = [
            value.numel()
            for item in session.output_dict_per_obj.values()
            for kind in item.values()
            for entry in kind.values()
            for value in entry.values()
            if isinstance(value, torch.Tensor)
        ]
        sizes.append(sum(tensors) + sum(v.numel() for v in session.processed_frames or ()))
    assert sizes[-1] == sizes[-2] == sizes[-3] > 0


def test_masks_of_a_stretched_square_are_put_into_the_segmenters_cells() -> None:
    for height, width in ((48, 80), (90, 50), (64, 64), (37, 100)):
        cells = low_resolution_size(height, width, 64)
        across = torch.linspace(-1, 1, 64)
        smooth = across[:, None] * 2 + across[None]
        found = enlarge(to_cells(smooth[None], height, width, cells), height, width)
        straight = torch.nn.functional.interpolate(
            smooth[None, None], (height, width), mode="bilinear", align_corners=False
        )[0]
        # At the edge, cells repeat the outermost values.
        assert (found - straight)[:, 8:-8, 8:-8].abs().max() < 0.03, (height, width)


def test_a_folder_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(CheckpointError) as found:
            load_tracker(TrackConfig(source="model", checkpoint=str(path)), CPU)
        return str(found.value)

    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "a model of type bert" in refused(other) and "sam2_video" in refused(other)
    (other / "config.json").unlink()
    assert "no config.json" in refused(other)
    assert "missing" in refused(tmp_path / "nothing")
    cut = tmp_path / "cut"
    cut.mkdir()
    for item in folder.iterdir():
        (cut / item.name).write_bytes(item.read_bytes()[: 500 if "model" in item.name else None])
    assert "does not load" in refused(cut)


@pytest.mark.slow
@pytest.mark.parametrize("config", [Sam2VideoConfig, EdgeTamVideoConfig])
def test_models_of_full_size_are_loaded_and_followed(config: Any, tmp_path: Path) -> None:
    """Random weights in the layout and the sizes of the published ones."""
    model: Any = AutoModel.from_config(config())
    model.save_pretrained(tmp_path)
    Sam2VideoProcessor(Sam2ImageProcessor(), Sam2VideoVideoProcessor()).save_pretrained(tmp_path)
    del model
    tracker = load_tracker(TrackConfig(source="model", checkpoint=str(tmp_path)), CPU)
    cells = low_resolution_size(480, 854, 1024)
    images = (np.full((480, 854, 3), 40 * place, np.uint8) for place in range(2))
    boxes = {0: {7: np.array([100, 100, 400, 300], np.float32)}}
    found = list(tracker.follow(images, boxes, cells))
    assert [item.objects.tolist() for item in found] == [[7], [7]]
    assert found[1].logits.shape == (1, 145, 256)
