"""How many times as fast `segment` and `ground` are as a straight loop over the packages' own code.

    .venv/bin/python benchmarks/throughput.py [--demo] [--frames 2] [--stage segment] [--json]

The loop is what a first script does: an expression, a frame at a time, `SamPredictor.set_image` and
`predict` for every sentence, `groundingdino.util.inference.predict` for every sentence. Both sides
have the same weights and run in this process on the same frames; ViT-B and Swin-T in full size have
random weights, `--demo` takes the shipped models. The loop is timed on a few calls and scaled, for
every call of it costs the same. On a CPU the clock is the process's CPU time, which other work on
the machine hardly changes; on a GPU it is wall-clock time.

Ends with 1 below what is held to on a CPU in full size.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
import torch
import typer
from groundingdino.datasets import transforms
from groundingdino.util.inference import predict
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamPredictor
from torchvision.ops import box_convert
from transformers import BertConfig

from pipeline.config import GroundConfig, SegmentConfig
from pipeline.geometry import mask_iou
from pipeline.shapes.scene import COLOURS, SHAPES
from stages.common.mask_resolution import enlarge
from stages.common.weights import fill_model, resolve_checkpoint
from stages.demo.tokenizer import build_tokenizer
from stages.ground.architecture import build_published as build_dino
from stages.ground.grounder import GroundingDinoGrounder, load_model
from stages.ground.grounder import prepare as prepare_dino
from stages.ground.sentences import as_caption
from stages.segment.architecture import build_demo
from stages.segment.architecture import build_published as build_sam
from stages.segment.segmenter import SamSegmenter, prepare

HEIGHT, WIDTH = 360, 640
EXPRESSIONS = 8
HELD_TO = {
    "segment, 1 positive": 6.0,
    "segment, 6 positives": 30.0,
    "ground, exact": 1.3,
    "ground, joint": 4.0,
}

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: the stage and how it is run.
        ours, loop: seconds for the same frames and sentences; the loop's is scaled.
        calls_timed, calls: of the loop, those that were timed and those that it would make.
        ratio: loop / ours.
        agreement: how results compare, in words and figures.
    """

    what: str
    ours: float
    loop: float
    calls_timed: int
    calls: int
    ratio: float
    agreement: dict[str, float]


class Clock:
    """Seconds that work takes: CPU time on a CPU, wall-clock time on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, work: Callable[[], Any]) -> tuple[float, Any]:
        start = self._now()
        result = work()
        return self._now() - start, result

    def _now(self) -> float:
        if self._device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


def frames_of(count: int) -> list[Frame]:
    """Smooth frames that differ from each other."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / WIDTH
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        waves = [
            np.sin(x * rng.uniform(4, 30) + y * rng.uniform(4, 30) + rng.uniform(0, 6))
            for _ in range(3)
        ]
        made.append((127 + 120 * np.stack(waves, -1)).astype(np.uint8))
    return made


def boxes_of(positives: int, seed: int) -> NDArray[np.float32]:
    """A frame's boxes [8 * positives, 4]: one an expression, and each positive's a little off it.

    A positive's corners are off by up to 2 percent of the box, so that of 48 boxes 14 are left
    after merging from an IoU of 0.95 on: what merging then saves is a figure of this choice.
    """
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, (EXPRESSIONS, 1, 2)) * (WIDTH, HEIGHT)
    size = rng.uniform(0.2, 0.5, (EXPRESSIONS, 1, 2)) * (WIDTH, HEIGHT)
    off = rng.uniform(-0.02, 0.02, (EXPRESSIONS, positives, 2, 2)) * size[:, :, None]
    off[:, 0] = 0
    corners = np.concatenate([low + off[:, :, 0], low + size + off[:, :, 1]], -1)
    return corners.reshape(-1, 4).astype(np.float32)


def sentences_of(count: int) -> list[str]:
    """Sentences of unlike length, at most twenty words, in the words that the demo tokenizer
    knows."""
    kinds = ["the red circle", "a small blue star to the left of the green square"]
    kinds += ["the triangle moving up", "the large yellow cross at the top"]
    kinds += [f"{kind} at the bottom" for kind in kinds]
    others = [""] + [f" right of the {a} {b}" for a, b in product(COLOURS, SHAPES)]
    return [kinds[row % 8] + others[row // 8] for row in range(count)]


def segment_rows(
    sam: Any, config: SegmentConfig, device: torch.device, frames: int, calls: int, seed: int
) -> list[Row]:
    """`segment` at 1 and 6 positives, with equal boxes merged only and with near ones."""
    clock, images = Clock(device), frames_of(frames)
    reference = copy.deepcopy(sam).to(device).eval()
    predictor = SamPredictor(reference)
    prompts = boxes_of(1, seed)[:calls]

    def loop() -> list[Frame]:
        found = []
        for box in prompts:
            predictor.set_image(images[0])
            masks, _, _ = predictor.predict(box=box, multimask_output=False)
            found.append(masks[0])
        return found

    loop_seconds, theirs = clock(loop)
    model = prepare(sam, config, device)
    ours = SamSegmenter(model, config)
    embed_seconds, embedding = clock(lambda: ours.embed(images))
    rows = []
    for positives in (1, 6):
        asked = [boxes_of(positives, seed + frame) for frame in range(frames)]
        for merge_iou in (1.0, 0.95):
            chosen = config.model_copy(update={"merge_iou": merge_iou})
            seconds, masks = clock(lambda: masks_of(SamSegmenter(model, chosen), embedding, asked))  # noqa: B023
            total = frames * EXPRESSIONS * positives
            scaled = loop_seconds / len(prompts) * total
            mine = [masks[0][row * positives] for row in range(len(prompts))]
            iou = mask_iou(np.stack(mine), np.stack(theirs))
            name = f"segment, {positives} positive{'s' if positives > 1 else ''}"
            name += "" if merge_iou == 1 else f", boxes merged from IoU {merge_iou} on"
            rows.append(
                Row(
                    name,
                    embed_seconds + seconds,
                    scaled,
                    len(prompts),
                    total,
                    scaled / (embed_seconds + seconds),
                    {
                        "lowest mask IoU": float(iou.min()),
                        "encoder share": embed_seconds / (embed_seconds + seconds),
                    },
                )
            )
    return rows


def masks_of(
    segmenter: SamSegmenter, embedding: object, asked: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.bool_]]:
    """A mask [H, W] for every box of every frame, as the loop gives."""
    found = []
    for candidates in segmenter.decode(embedding, asked):
        masks = enlarge(torch.from_numpy(candidates.logits), HEIGHT, WIDTH).numpy() > 0
        found.append(masks[candidates.box_row])
    return found


def ground_rows(
    model: Any, config: GroundConfig, device: torch.device, frames: int, calls: int
) -> list[Row]:
    """`ground` a sentence a pass, which is exact, and with all sentences in one pass."""
    clock, images, texts = Clock(device), frames_of(frames), sentences_of(EXPRESSIONS)
    prepare_image = transforms.Compose(
        [
            transforms.RandomResize([config.short_side], max_size=config.long_side),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    model = model.to(device).eval()
    outputs: list[Any] = []
    hook = model.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))

    def loop() -> None:
        for text in texts[:calls]:
            tensor, _ = prepare_image(Image.fromarray(images[0]), None)
            predict(model, tensor, as_caption(text), 0.35, 0.25, device=str(device))

    loop_seconds, _ = clock(loop)
    hook.remove()
    boxes = [
        box_convert(item["pred_boxes"][0], "cxcywh", "xyxy").clamp(0, 1).cpu().numpy()
        for item in outputs
    ]
    model = prepare_dino(model, config)
    rows = []
    for name, joint in (("exact", 1), ("joint", EXPRESSIONS)):
        ours = GroundingDinoGrounder(model, config.model_copy(update={"joint": joint}))
        seconds, found = clock(lambda: ours.ground(ours.embed(images), texts))  # noqa: B023
        total = frames * EXPRESSIONS
        scaled = loop_seconds / calls * total
        off = box_differences(found[0], boxes)
        rows.append(
            Row(
                f"ground, {name}",
                seconds,
                scaled,
                calls,
                total,
                scaled / seconds,
                {
                    "median box difference, of the image": float(np.median(off)),
                    "largest": float(off.max()),
                },
            )
        )
    return rows


def box_differences(found: Any, theirs: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """How far each of our boxes of the first sentences is from the nearest box that the package
    gives for that sentence: the largest difference of a side, as a share of the image's."""
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    off: list[float] = []
    for row, boxes in enumerate(theirs):
        mine = found.xyxy[found.text == row] / size
        off += [float(np.abs(boxes - box).max(1).min()) for box in mine]
    return np.array(off)


def sam_of(demo: bool, name: str) -> Any:
    torch.manual_seed(0)
    if demo:
        sam = build_demo()
        fill_model(sam, resolve_checkpoint("demo:segment") / "model.safetensors")
        return sam.eval()
    sam = build_sam(name)
    with torch.no_grad():  # zero at the start, they would leave parts of the arithmetic untried
        for key, weight in sam.image_encoder.named_parameters():
            if "rel_pos" in key or key.endswith("pos_embed"):
                weight.normal_(0, 0.05)
    return sam.eval()


def dino_of(demo: bool, config: GroundConfig) -> Any:
    torch.manual_seed(0)
    if demo:
        return load_model(config, torch.device("cpu"))
    # The demo tokenizer, for BERT's vocabulary does not ship; the text encoder has its full size.
    model = build_dino("swin_T_224_1k", build_tokenizer(), BertConfig())
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "bbox_embed" in key:
                weight.add_(torch.randn_like(weight) * 0.02)
            if "gamma" in key:
                weight.fill_(0.3)
    return model.eval()


def measure(
    stage: str | None = None,
    demo: bool = False,
    frames: int = 2,
    calls: int = 2,
    model: str = "vit_b",
    dtype: str = "float32",
    device_name: str = "cpu",
    short_side: int = 800,
) -> list[Row]:
    """All rows asked for. ``calls`` of the loop are timed; at least 1, at most 8."""
    device, rows = torch.device(device_name), []
    if stage in (None, "segment"):
        chosen = SegmentConfig(
            model="demo" if demo else model, dtype=dtype, batch_frames=1 if not demo else 8
        )
        rows += segment_rows(sam_of(demo, model), chosen, device, frames, calls, seed=1)
    if stage in (None, "ground"):
        config = GroundConfig(dtype=dtype)
        if not demo:
            sides = {"short_side": short_side, "long_side": round(short_side * 1333 / 800)}
            config = GroundConfig(
                backbone="swin_T_224_1k", dtype=dtype, batch_frames=1, batch_pairs=1, **sides
            )
        rows += ground_rows(dino_of(demo, config), config, device, frames, calls)
    return rows


def main(
    stage: Annotated[str | None, typer.Option(help="segment or ground; both without it")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="the shipped small models")] = False,
    frames: Annotated[int, typer.Option(min=1, help="frames of the video")] = 1,
    calls: Annotated[
        int, typer.Option(min=1, max=EXPRESSIONS, help="calls of the loop that are timed")
    ] = 2,
    model: Annotated[str, typer.Option(help="vit_b, vit_l or vit_h")] = "vit_b",
    dtype: Annotated[str, typer.Option(help="of our side; the loop is in float32")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N")] = "cpu",
    short_side: Annotated[int, typer.Option(min=64, help="of Swin-T's input, pixels")] = 800,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    rows = measure(stage, demo, frames, calls, model, dtype, device, short_side)
    about = {
        "frames": frames,
        "expressions": EXPRESSIONS,
        "device": device if device == "cpu" else torch.cuda.get_device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "models": "demo" if demo else f"{model} and Swin-T at {short_side} pixels, random weights",
        "dtype": dtype,
    }
    if as_json:
        typer.echo(json.dumps(about | {"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        for row in rows:
            agreement = ", ".join(f"{key} {value:.3g}" for key, value in row.agreement.items())
            print(
                f"  {row.what:55} {row.ratio:6.1f} times as fast ({row.ours:.1f} s; the loop"
                f" {row.loop:.1f} s, scaled from {row.calls_timed} of {row.calls} calls)"
                f"\n  {'':55} {agreement}"
            )
    held = not demo and device == "cpu"
    if held and any(row.ratio < HELD_TO.get(row.what, 0) for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
