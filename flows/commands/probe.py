"""``pseudolabels doctor --probe``: runs each model of a configuration on one picture.

A model that loads can still be wrong: a text encoder that takes every word for unknown, weights of
another model, a number type that overflows. Each model gets something that it must be able to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.commands.doctor import Finding
from flows.context import Parts, RunContext
from pipeline.config import RunConfig
from pipeline.errors import PseudoLabelError
from pipeline.geometry import box_iou, masks_to_boxes
from pipeline.ports import CaptionRequest, Image
from pipeline.types import Expression, SampleKey, VideoRef

ABSENT = "a purple elephant on a bicycle"
"""A sentence about nothing in the picture."""

SILENT = 0.05
"""Below this score, no word of a sentence means anything to a grounding model."""

SHIFT = 8
"""Pixels by which the picture moves for the tracker."""


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows.

    Attributes:
        name: where it comes from.
        image: uint8 RGB [H, W, 3].
        text: a sentence about something in it.
        box: float32 [4], xyxy pixels, where that is; None if it is not known.
    """

    name: str
    image: Image
    text: str
    box: NDArray[np.float32] | None = None

    @property
    def some_box(self) -> NDArray[np.float32]:
        """The box; the middle of the picture if it is not known."""
        if self.box is not None:
            return self.box
        height, width = self.image.shape[:2]
        return np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], np.float32)


def pictures_for(config: RunConfig, images: Sequence[Path], text: str | None) -> list[Picture]:
    """Returns the user's pictures; else a photograph, or a rendered one for demo models.

    Raises:
        InputError: a picture cannot be read.
    """
    from storage.files.images import read_image

    if images:
        asked = text or "the main object"
        return [Picture(str(path), read_image(path), asked) for path in images]
    if config.ground.checkpoint.startswith("demo:") or config.segment.checkpoint.startswith(
        "demo:"
    ):
        return [_rendered()]
    import matplotlib

    # A portrait of Grace Hopper by the US Navy, in the public domain.
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = read_image(path)
    height, width = image.shape[:2]
    box = np.array([0, 0.02 * height, width, height], np.float32)
    return [Picture(f"{path.name} of Matplotlib", image, "a woman in a dark uniform", box)]


def _rendered() -> Picture:
    from pipeline.shapes.render import render
    from pipeline.shapes.scene import Scene, SceneObject, Shot

    def still(colour: str, shape: str, place: tuple[float, float], depth: int) -> SceneObject:
        still = (0.0, 0.0, 0.0)
        return SceneObject(
            shape, colour, "large", 28.0, "still", place, 0.0, 0.0, 0.0, 0.0, still, depth
        )

    objects = still("red", "circle", (80, 72), 0), still("blue", "square", (190, 72), 1)
    empty = Shot(np.zeros((0, 6), np.float32), (0.5, 0.5, 0.5))
    scene = Scene(1, objects, (empty,), 0)
    drawn = render(scene, 0)
    box = masks_to_boxes(drawn.masks)[0]
    return Picture("a rendered scene", drawn.image, "the red circle", box)


def probe(
    config: RunConfig, pictures: Sequence[Picture], parts: Parts | None = None
) -> Iterator[Finding]:
    """Yields what each model made of the pictures. A model that fails does not stop the others.

    Args:
        parts: the models; None for the real ones.
    """
    context = RunContext(config, parts or Parts())
    checks = [(f"probe of segment, {config.segment.checkpoint}", _segment)]
    if config.ground.source != "annotation":
        name = config.ground.mllm.endpoint_model or config.ground.checkpoint
        checks.insert(0, (f"probe of ground, {name}", _ground))
    if config.augment.source in ("model", "endpoint"):
        name = config.augment.endpoint_model or config.augment.checkpoint
        checks.insert(0, (f"probe of augment, {name}", _augment))
    if config.track.source == "model":
        checks.append((f"probe of track, {config.track.checkpoint}", _track))
    for group, check in checks:
        for picture in pictures:
            try:
                yield from check(context, picture, group)
            except (PseudoLabelError, OSError, RuntimeError, ValueError) as error:
                yield Finding(group, picture.name, False, f"{type(error).__name__}: {error}")
    context.release()


def _ground(context: RunContext, picture: Picture, group: str) -> Iterator[Finding]:
    texts = [picture.text, ABSENT]
    section = context.config.ground
    with _measured(context, section.dtype if section.uses_checkpoint else "") as spent:
        grounder = context.grounder()
        [found] = grounder.ground(grounder.embed([picture.image]), texts)
    best = [float(found.score[found.text == row].max(initial=0)) for row in range(2)]
    limits = context.judging.fuse
    present, absent = limits.uncertain_below, limits.absent_below
    words = f"score {best[0]:.2f} for '{picture.text}'"
    if best[0] < SILENT:
        words += ", expected more: the model knows none of its words; check ground.text_encoder"
    elif best[0] < present:
        words += f", below fuse.uncertain_below ({present:.3g}): such a frame is not present"
    yield Finding(group, picture.name, best[0] >= present, f"{words}; {spent}")
    words = f"score {best[1]:.2f} for '{ABSENT}'"
    if best[1] >= absent:
        words += (
            f", not below fuse.absent_below ({absent:.3g}): raise the thresholds of fuse for this"
            " checkpoint"
        )
    yield Finding(group, "an absent object", best[1] < absent, words)
    if picture.box is not None and best[0] >= present:
        mine = np.flatnonzero(found.text == 0)
        best_box = found.xyxy[mine[found.score[mine].argmax()]]
        overlap = float(box_iou(best_box[None], picture.box[None])[0, 0])
        words = f"IoU {overlap:.2f} with the true box" + ("" if overlap >= 0.5 else ", expected .5")
        yield Finding(group, "its box", overlap >= 0.5, words)


def _segment(context: RunContext, picture: Picture, group: str) -> Iterator[Finding]:
    height, width = picture.image.shape[:2]
    box = picture.some_box
    with _measured(context, context.config.segment.dtype) as spent:
        segmenter = context.segmenter()
        [found] = segmenter.decode(segmenter.embed([picture.image]), [box[None]])
    share = _share_of_box(found.logits[0], box, (height, width))
    quality, finite = float(found.predicted_iou[0]), bool(np.isfinite(found.logits).all())
    words = f"predicted IoU {quality:.2f}, the mask fills {share:.0%} of the box"
    well = finite and 0.1 < share < 1 and (picture.box is None or quality > 0.5)
    if not finite:
        words += ": values that are not finite; set segment.dtype to float32"
    elif not well:
        words += ", expected 10 to 99% and a predicted IoU over .5; check segment.model"
    yield Finding(group, picture.name, well, f"{words}; {spent}")


def _augment(context: RunContext, picture: Picture, group: str) -> Iterator[Finding]:
    from stages.augment.frames import fitted

    height, width = picture.image.shape[:2]
    video = VideoRef("probe", ("0",), (Path("probe"),), height, width)
    expression = Expression(SampleKey("probe", "probe", "probe", "0"), picture.text, None, ())
    section = context.config.augment
    images = [fitted(picture.image, section.pixels_of_frame)]
    times = (0.0,) if section.input == "video" else ()
    with _measured(context, section.dtype if section.source == "model" else "") as spent:
        captioner = context.captioner()
        [answer] = captioner.augment([CaptionRequest(video, images, expression, (), times)])
    made = answer.augmentation
    kept = len(made.positives) - 1, len(made.negatives)
    words = f"{kept[0]} positives and {kept[1]} negatives"
    lost = ", ".join(f"{count} {reason}" for reason, count in answer.left_out.items())
    words += f"; left out: {lost}" if lost else ""
    if any(answer.tokens):
        words += f"; {answer.tokens[0]} tokens read, {answer.tokens[1]} written"
    if made.positives[1:]:
        words += f"; such as '{made.positives[1].text}'"
    if not all(kept):
        words += ", expected some of each"
    yield Finding(group, picture.name, all(kept), f"{words}; {spent}")


def _track(context: RunContext, picture: Picture, group: str) -> Iterator[Finding]:
    from stages.common.mask_resolution import low_resolution_size

    height, width = picture.image.shape[:2]
    box = picture.some_box
    moved = np.roll(picture.image, SHIFT, axis=1)
    cells = low_resolution_size(height, width, 1024)
    with _measured(context, context.config.track.dtype) as spent:
        tracker = context.tracker()
        first, second = tracker.follow([picture.image, moved], {0: {0: box}}, cells)
    cell = max(height, width) / max(cells)
    shifted = np.roll(first.logits[0] > 0, round(SHIFT / cell), axis=1)
    both = shifted & (second.logits[0] > 0)
    either = shifted | (second.logits[0] > 0)
    overlap = float(both.sum() / max(1, either.sum()))
    words = f"seen with {float(second.visible[0]):.2f}, IoU {overlap:.2f} after {SHIFT} pixels"
    well = float(second.visible[0]) > 0.5 and overlap > 0.6
    words += "" if well else ", expected over .5 and .6"
    yield Finding(group, picture.name, well, f"{words}; {spent}")


@dataclass
class _Spent:
    """Time and memory that a block took, in words."""

    words: str = ""

    def __str__(self) -> str:
        return self.words


@contextmanager
def _measured(context: RunContext, dtype: str) -> Iterator[_Spent]:
    import torch

    device: Any = context.device
    on_gpu = getattr(device, "type", "") == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    spent, start = _Spent(), time.perf_counter()
    yield spent
    words = f"{time.perf_counter() - start:.1f} s with loading, on {device or 'cpu'}"
    words += f" in {dtype}" if dtype else ""
    if on_gpu:
        words += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
    spent.words = words


def _share_of_box(
    logits: NDArray[np.float16], box: NDArray[np.float32], size: tuple[int, int]
) -> float:
    """The share of a box that a mask fills."""
    scale = max(logits.shape) / max(size)
    x0, y0, x1, y1 = (box * scale).round().astype(int)
    inside = logits[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] > 0
    return float(inside.mean()) if inside.size else 0.0
