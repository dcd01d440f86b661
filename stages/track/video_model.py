"""A tracker over the video models of transformers: SAM 2.1, EdgeTAM, and SAM 3's tracker.

Letters: n objects, H W pixels, h w cells of a low-resolution mask, S side of the model's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from pipeline.config import TrackConfig
from pipeline.errors import CheckpointError
from pipeline.ports import Image, SeenObjects
from stages.common.checkpoints import resolve_checkpoint
from stages.common.mask_resolution import LOW_RESOLUTION, input_size
from stages.common.model_folders import load_folder, model_type
from stages.common.weights import check_digest

MODEL_TYPES = ("sam2_video", "edgetam_video", "sam3_tracker_video")
"""The models that follow an object from its box, by ``model_type`` in their ``config.json``."""


class VideoModelTracker:
    """A :class:`pipeline.ports.Tracker`.

    The model encodes a frame once for all objects. Of the frames before, it keeps what it looks
    back at: for SAM 2.1 the frames with boxes, and the 16 frames before this one.
    """

    def __init__(self, model: Any, processor: Any, device: torch.device) -> None:
        self._model, self._processor, self._device = model.to(device).eval(), processor, device
        config = model.config
        self._looks_back = max(config.num_maskmem, config.max_object_pointers_in_encoder)

    def follow(
        self,
        frames: Iterable[Image],
        prompts: Mapping[int, Mapping[int, NDArray[np.float32]]],
        cells: tuple[int, int],
    ) -> Iterator[SeenObjects]:
        """Yields the objects of each frame; see :class:`pipeline.ports.Tracker`."""
        session: Any = self._processor.init_video_session(
            inference_device=self._device, dtype=self._model.dtype
        )
        for place, image in enumerate(frames):
            if place in prompts:
                self._add(session, place, prompts[place], image.shape[:2])
            if not session.obj_ids:
                yield SeenObjects(
                    np.zeros(0, np.int64),
                    np.zeros((0, *cells), np.float16),
                    np.zeros(0, np.float32),
                )
                continue
            yield self._step(session, place, image, cells)

    def _add(
        self,
        session: Any,
        place: int,
        boxes: Mapping[int, NDArray[np.float32]],
        size: tuple[int, ...],
    ) -> None:
        self._processor.add_inputs_to_inference_session(
            session,
            frame_idx=place,
            obj_ids=list(boxes),
            input_boxes=[[box.tolist() for box in boxes.values()]],
            original_size=tuple(size),
        )

    @torch.inference_mode()
    def _step(self, session: Any, place: int, image: Image, cells: tuple[int, int]) -> SeenObjects:
        pixels = self._processor(images=image, return_tensors="pt").pixel_values
        found = self._model(inference_session=session, frame=pixels[0], frame_idx=place)
        logits = to_cells(found.pred_masks[:, 0].float(), image.shape[0], image.shape[1], cells)
        visible = found.object_score_logits.float().reshape(-1).sigmoid()
        self._forget(session, place)
        return SeenObjects(
            np.array(found.object_ids, np.int64),
            logits.clamp(-32, 32).to(torch.float16).cpu().numpy(),
            visible.cpu().numpy(),
        )

    def _forget(self, session: Any, place: int) -> None:
        """Drops what later frames do not look at, so that memory does not grow."""
        session.processed_frames.pop(place, None)
        for item in session.output_dict_per_obj.values():
            for kept in item.values():
                if place in kept:
                    kept[place].pop("high_res_masks", None)
            item["non_cond_frame_outputs"].pop(place - self._looks_back, None)


def to_cells(logits: Tensor, height: int, width: int, cells: tuple[int, int]) -> Tensor:
    """Resamples masks that cover a whole frame to the cells of the segmenter's masks.

    The model stretches a frame to a square. The segmenter keeps its aspect, and its cells reach a
    little past the frame (:mod:`stages.common.mask_resolution`).

    Args:
        logits: float32 [n, s, s], over the frame of H x W pixels.
        cells: (h, w).

    Returns:
        float32 [n, h, w].
    """
    inner = input_size(height, width, max(cells) * LOW_RESOLUTION)
    rows, columns = (
        (torch.arange(count, device=logits.device) + 0.5) * LOW_RESOLUTION / extent * 2 - 1
        for count, extent in zip(cells, inner, strict=True)
    )
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    found = F.grid_sample(
        logits[None],
        grid[None].float(),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return found[0]


def load_tracker(config: TrackConfig, device: torch.device) -> VideoModelTracker:
    """Returns the tracker that the configuration names.

    Raises:
        CheckpointError: the folder is missing or incomplete, or its model does not follow boxes.
    """
    folder = resolve_checkpoint(config.checkpoint)
    expected = f"a folder of transformers with a model of type {', '.join(MODEL_TYPES)}"
    check_digest(config.checkpoint, config.sha256)
    kind = model_type(folder)
    if kind is not None and kind not in MODEL_TYPES:
        remedy = "fetch facebook/sam2.1-hiera-small, or another of these models"
        raise CheckpointError(folder, f"a model of type {kind}", expected, remedy)
    dtype = getattr(torch, config.dtype)
    model, processor = load_folder(AutoModel, folder, dtype, expected, "track.checkpoint")
    return VideoModelTracker(model, processor, device)
