"""SAM 3 of transformers: all instances of noun phrases, detected and followed in one pass.

Letters: n objects, H W pixels, h w cells of a low-resolution mask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from pipeline.config import TrackConfig
from pipeline.errors import CheckpointError
from pipeline.ports import Image, SeenObjects
from stages.common.checkpoints import resolve_checkpoint
from stages.common.model_folders import load_folder, model_type
from stages.common.weights import check_digest
from stages.track.video_model import to_cells

_NOTHING = torch.zeros(0)
"""Stands for a frame that was looked at."""

MODEL_TYPE = "sam3_video"
"""``model_type`` in the ``config.json`` of ``facebook/sam3``."""


class PhraseModelTracker:
    """A :class:`pipeline.ports.PhraseTracker`.

    A frame is encoded once for all phrases and objects. Of the frames before, it keeps what the
    model looks back at. Objects of the first ``hotstart_delay`` frames are confirmed before they
    are told, as by the model's own loop, so as many results wait.
    """

    def __init__(self, model: Any, processor: Any, device: torch.device) -> None:
        self._model, self._processor, self._device = model.to(device).eval(), processor, device
        config = model.config.tracker_config
        self._looks_back = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        self._delay = model.config.hotstart_delay

    def detect(
        self, frames: Iterable[Image], phrases: Sequence[str], cells: tuple[int, int]
    ) -> Iterator[SeenObjects]:
        """Yields the objects of each frame; see :class:`pipeline.ports.PhraseTracker`."""
        session: Any = self._processor.init_video_session(
            inference_device=self._device, dtype=self._model.dtype
        )
        # The model counts the frames that it has: it looks back at no others, and scales times by
        # their number.
        session.processed_frames = {-place: _NOTHING for place in range(1, self._looks_back + 1)}
        self._processor.add_text_prompt(session, list(phrases))
        waiting: deque[SeenObjects] = deque()
        removed: set[int] = set()
        for place, image in enumerate(frames):
            waiting.append(self._step(session, place, image, cells))
            removed.update(int(number) for number in session.removed_obj_ids)
            if len(waiting) >= max(1, self._delay):
                yield _without(waiting.popleft(), removed)
        while waiting:
            yield _without(waiting.popleft(), removed)

    @torch.inference_mode()
    def _step(self, session: Any, place: int, image: Image, cells: tuple[int, int]) -> SeenObjects:
        pixels = self._processor(images=image, return_tensors="pt").pixel_values
        session.add_new_frame(pixels[0], place)
        found = self._model(inference_session=session, frame_idx=place)
        numbers = sorted(found.obj_id_to_mask)
        hidden = {int(number) for number in found.suppressed_obj_ids or ()}
        numbers = [number for number in numbers if int(number) not in hidden]
        if numbers:
            masks = torch.cat([found.obj_id_to_mask[number] for number in numbers]).float()
            logits = to_cells(masks, image.shape[0], image.shape[1], cells).clamp(-32, 32)
        else:
            logits = torch.zeros(0, *cells)
        visible = [
            found.obj_id_to_tracker_score.get(number, found.obj_id_to_score.get(number, 0.0))
            for number in numbers
        ]
        self._forget(session, place)
        return SeenObjects(
            np.array(numbers, np.int64),
            logits.to(torch.float16).cpu().numpy(),
            np.array([float(value) for value in visible], np.float32),
        )

    def _forget(self, session: Any, place: int) -> None:
        """Drops what later frames do not look at, so that memory does not grow."""
        session.processed_frames[place] = _NOTHING
        old = place - self._looks_back
        session.suppressed_obj_ids.pop(old, None)
        session.obj_id_to_tracker_score_frame_wise.pop(old, None)
        for number, item in session.output_dict_per_obj.items():
            for kept in item.values():
                if place in kept:
                    kept[place].pop("high_res_masks", None)
            item["non_cond_frame_outputs"].pop(old, None)
            # The model adds a frame of this kind every few frames, and looks at the nearest ones.
            sure = item["cond_frame_outputs"]
            for frame in sorted(sure)[: -self._looks_back]:
                del sure[frame]
            for inputs in (session.mask_inputs_per_obj, session.point_inputs_per_obj):
                inputs.get(number, {}).pop(place, None)
            session.frames_tracked_per_obj.get(number, {}).pop(old, None)


def _without(seen: SeenObjects, removed: set[int]) -> SeenObjects:
    kept = ~np.isin(seen.objects, list(removed))
    return SeenObjects(seen.objects[kept], seen.logits[kept], seen.visible[kept])


def load_phrase_tracker(config: TrackConfig, device: torch.device) -> PhraseModelTracker:
    """Returns the model of ``track.source = "sam3"``.

    Raises:
        CheckpointError: the folder is missing or incomplete, or its model takes no phrases.
    """
    folder = resolve_checkpoint(config.checkpoint)
    expected = f"a folder of transformers with a model of type {MODEL_TYPE}"
    check_digest(config.checkpoint, config.sha256)
    kind = model_type(folder)
    if kind is not None and kind != MODEL_TYPE:
        remedy = "fetch facebook/sam3, or set track.source to 'model', which follows boxes"
        raise CheckpointError(folder, f"a model of type {kind}", expected, remedy)
    dtype = getattr(torch, config.dtype)
    model, processor = load_folder(AutoModel, folder, dtype, expected, "track.checkpoint")
    return PhraseModelTracker(model, processor, device)
