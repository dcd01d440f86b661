"""Stage ``student`` of a run: trains on pseudo-masks or annotation, and predicts a split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from flows.workshop import Workshop
from pipeline.config import StudentConfig
from pipeline.errors import InputError
from pipeline.ports import DatasetReader, MaskSource
from pipeline.types import PseudoMask, Status, VideoRef
from storage.atomic import replace_file
from storage.datasets.weak import WeakView
from storage.masks import MaskStore

if TYPE_CHECKING:
    import torch

    from stages.student.model import SimRVOS
    from stages.student.supervision import SupervisionSource


def train_and_predict(shop: Workshop, split: str) -> Counter[str]:
    """Trains a student on the run's samples; writes its weights, losses and predictions.

    Args:
        split: what is predicted; its masks are used nowhere.
    """
    import torch
    from safetensors.torch import save

    from stages.student.clips import Clips
    from stages.student.train import train

    config, paths = shop.config, shop.paths
    student = config.student
    source = supervision_of(student, shop.reader(), MaskStore(paths.masks))
    clips = Clips(shop.reader(), source, student.frames_a_clip, fill=student.lgcfs)
    torch.manual_seed(config.seed)
    model = build_student(student, shop.device)
    shop.progress.begin("student: train", student.steps, "steps")
    losses = train(
        model,
        clips,
        student,
        seed=config.seed,
        device=shop.device,
        progress=lambda _, frames, __: shop.progress.advance(1, frames),
    )
    shop.progress.end(f"loss {np.mean(losses[-20:]):.3f}")
    paths.student.mkdir(parents=True, exist_ok=True)
    with replace_file(paths.student / "model.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    with replace_file(paths.student / "losses.csv", "w") as file:
        file.write("step,loss\n")
        file.writelines(f"{step},{loss:.6f}\n" for step, loss in enumerate(losses))
    counts = _predict(shop, model, split)
    counts.update({"samples": len(clips), "steps": len(losses)})
    return counts


def supervision_of(
    config: StudentConfig, reader: DatasetReader, masks: MaskSource
) -> SupervisionSource:
    """What a student is taught by: the pseudo-masks, or the annotation of the same samples."""
    from stages.student.supervision import Annotations, PseudoMasks

    match config.supervision:
        case "pseudo_masks":
            return PseudoMasks(masks)
        case "masks":
            return Annotations(reader, masks.samples(), boxes=False)
        case "first_mask_boxes":
            return Annotations(WeakView(reader, "first_mask"), masks.samples())
        case "first_mask":
            return Annotations(WeakView(reader, "first_mask"), masks.samples(), boxes=False)
        case "boxes":
            return Annotations(WeakView(reader, "boxes"), masks.samples(), masks=False)


def build_student(config: StudentConfig, device: torch.device) -> SimRVOS:
    """A student with the demo grounder's encoders: the text encoder frozen, the image encoder its
    own, started from the grounder's or from nothing.
    """
    from pipeline.config import GroundConfig
    from stages.ground.encoders import GroundingText, SwinPyramid
    from stages.ground.grounder import load_model
    from stages.student.model import SimRVOS

    grounder = load_model(GroundConfig(), device)
    pyramid = SwinPyramid()
    if config.initialise == "demo":
        pyramid.start_from(grounder)
    return SimRVOS(pyramid, GroundingText(grounder), config.channels, contrastive=config.blcl)


def _predict(shop: Workshop, model: SimRVOS, split: str) -> Counter[str]:
    reader, counts = shop.reader(split), Counter[str]()
    ids = reader.video_ids()
    store = MaskStore(shop.paths.predictions)
    shop.progress.begin("student: predict", len(ids), "videos")
    for video_id in ids:
        try:
            video = reader.video(video_id)
            _predict_video(shop, model, store, split, video)
            counts["videos predicted"] += 1
        except InputError as error:
            shop.progress.say(f"set aside: {error}")
            counts["videos set aside"] += 1
        shop.progress.advance(1)
    shop.progress.end()
    return counts


def _predict_video(
    shop: Workshop, model: SimRVOS, store: MaskStore, split: str, video: VideoRef
) -> None:
    from stages.student.train import predict_video

    reader = shop.reader(split)
    expressions = reader.expressions(video.id)
    shape = (len(expressions), len(video))
    masks = np.zeros((*shape, video.height, video.width), np.bool_)
    sure = np.zeros(shape, np.float32)
    texts = [item.text for item in expressions]
    for part, mask, chance in predict_video(
        model, reader, video, texts, shop.config.student, shop.device
    ):
        masks[:, part], sure[:, part] = mask, chance
    seen = masks.any((2, 3))
    status = np.where(seen, Status.PRESENT, Status.ABSENT).astype(np.uint8)
    found = [
        PseudoMask(item.key, masks[row], sure[row], status[row], "student")
        for row, item in enumerate(expressions)
    ]
    store.write_video(video, texts, found)
