"""How near the models come to what the device can do: images, prompts and pairs a second.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.rates [--model vit_b] [--compile] [--json]
    .venv/bin/python -m benchmarks.rates --device cuda --model vit_h --dtype bfloat16 --compile

What the device can do is measured: a product of two large square matrices of the same number type,
the best of several. SAM's image encoder is timed as `segment` calls it, with resize and transfer,
and alone on the input that it then has; its decoder as `segment` calls it, `segment.batch_pairs`
boxes a pass, none merged. Grounding DINO is timed as `ground` calls it, its transformer on frames
and sentences that are encoded already: one sentence a pass, and `ground.joint`. `--compile` adds
the image encoders through `torch.compile`, on the same weights. Repeats go round, one call of
everything after the other, so that other work on the machine falls on both sides of a ratio. What
is printed is a table of docs/performance.md.

FLOPs are those of the encoder's products and convolutions as PyTorch counts them, two a
multiply-add, the padding of the square input and of windows included. They are counted on the meta
device with segment-anything's explicit attention: on a CPU PyTorch does not count its fused one.

ViT and Swin-T in full size have random weights; without `--model` the shipped models are taken. On
a CPU a second is one of the process's CPU time, all threads together, on a GPU of wall-clock time.
Ends with 1 where on a GPU no encoder in full size, compiled or not, has the share held to.
"""

from __future__ import annotations

import copy
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.throughput import (
    EXPRESSIONS,
    Clock,
    boxes_of,
    dino_of,
    frames_of,
    sam_of,
    sentences_of,
)
from pipeline.config import GroundConfig, SegmentConfig
from pipeline.errors import ConfigError
from stages.common.compilation import compile_in_place
from stages.common.weights import resolve_device
from stages.ground.grounder import GroundingDinoGrounder
from stages.ground.grounder import prepare as prepare_dino
from stages.segment.architecture import build_demo, build_published
from stages.segment.segmenter import SamSegmenter, prepare

HELD_TO = 0.5
"""Share of the matrix-product rate that the image encoder is to have on a GPU."""

ENCODER = "segment, encoder alone"
SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices."""

Model = Literal["demo", "vit_b", "vit_l", "vit_h"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Work:
    """What is timed: a call that does so many items of ``flop`` each, 0 where not counted."""

    what: str
    unit: str
    items: int
    run: Callable[[], object]
    flop: int = 0
    compiled: bool = False


@dataclass(frozen=True)
class Row:
    """One rate.

    Attributes:
        rate, slowest, fastest: items a second: of the median repeat, of all.
        tflops: TFLOP/s of the median repeat; None where FLOPs are not counted.
        share: of the matrix-product rate of the fastest repeat.
        gain: times as fast as without ``torch.compile``; None for what is not compiled.
        first: seconds of wall-clock time of the first call, compiling included.
        peak: GiB of device memory at most in the first call, weights included; None on a CPU.
    """

    what: str
    compiled: bool
    unit: str
    rate: float
    slowest: float
    fastest: float
    tflops: float | None
    share: float | None
    gain: float | None
    first: float
    peak: float | None


def flop_of_frame(model: str) -> int:
    """Of SAM's image encoder, for one frame."""
    with torch.device("meta"):
        encoder = (build_demo() if model == "demo" else build_published(model)).image_encoder
        image = torch.zeros(1, 3, encoder.img_size, encoder.img_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(image)
    return int(counter.get_total_flops())


def product_work(dtype: str, device: torch.device) -> Work:
    """The product that the others are compared with."""
    side = SIDE[device.type]
    pair = [torch.randn(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2)]
    name = f"product of two matrices of {side} x {side}"
    return Work(name, "products/s", 1, partial(torch.matmul, *pair), 2 * side**3)


def segment_works(
    model: str, config: SegmentConfig, device: torch.device, compiling: bool
) -> list[Work]:
    """SAM: ``embed``, the image encoder alone, ``decode``."""
    images, flop = frames_of(config.batch_frames), flop_of_frame(model)
    sam = prepare(sam_of(model == "demo", model), config, device)
    plain, given = SamSegmenter(sam, config), list[Tensor]()
    hook = sam.image_encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    embedding = plain.embed(images)
    hook.remove()
    sides = [(False, sam, plain)]
    if compiling:
        changed = config.model_copy(update={"compile": True})
        other = prepare(twin_of(sam), changed, device)
        sides.append((True, other, SamSegmenter(other, changed)))
    works = []
    for compiled, model_, segmenter in sides:
        embed, encode = partial(segmenter.embed, images), partial(model_.image_encoder, given[0])
        works.append(Work("segment, embed", "images/s", len(images), embed, flop, compiled))
        works.append(Work(ENCODER, "images/s", len(images), encode, flop, compiled))
    each = max(1, config.batch_pairs // (EXPRESSIONS * len(images)))
    boxes = [boxes_of(each, frame) for frame in range(len(images))]
    decode = partial(plain.decode, embedding, boxes)
    return [*works, Work("segment, decode", "prompts/s", sum(map(len, boxes)), decode)]


def ground_works(
    demo: bool, config: GroundConfig, device: torch.device, compiling: bool
) -> list[Work]:
    """Grounding DINO: ``embed``; ``ground``, one sentence a pass and ``joint``."""
    images = frames_of(config.batch_frames)
    model = prepare_dino(dino_of(demo, config).to(device), config)
    plain = GroundingDinoGrounder(model, config)
    works = [Work("ground, embed", "images/s", len(images), partial(plain.embed, images))]
    if compiling:
        twin, changed = twin_of(model), config.model_copy(update={"compile": True})
        compile_in_place(twin.backbone[0])
        embed = partial(GroundingDinoGrounder(twin, changed).embed, images)
        works.append(Work("ground, embed", "images/s", len(images), embed, compiled=True))
    embedding, captions = plain.embed(images), max(1, config.batch_pairs // len(images))
    for joint in (1, config.joint):
        grounder = GroundingDinoGrounder(model, config.model_copy(update={"joint": joint}))
        # Enough of them to fill a pass of the transformer.
        texts = sentences_of(EXPRESSIONS) * -(-joint * captions // EXPRESSIONS)
        ground, pairs = partial(grounder.ground, embedding, texts), len(images) * len(texts)
        works.append(Work(f"ground, transformer, joint={joint}", "pairs/s", pairs, ground))
    return works


def twin_of(model: nn.Module) -> Any:
    """A copy that has the weights in common with the model, to be compiled apart."""
    shared = {id(item): item for item in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def first_call(work: Work, device: torch.device) -> tuple[float, float | None]:
    """Wall-clock seconds, and GiB of device memory at most."""
    on_gpu, start = device.type == "cuda", time.perf_counter()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    work.run()
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None


@torch.inference_mode()
def rows_of(works: Sequence[Work], device: torch.device, repeats: int) -> list[Row]:
    """A row a work; shares are of the first work's fastest repeat."""
    firsts = [first_call(work, device) for work in works]
    clock = Clock(device)
    rounds = [[work.items / clock(work.run)[0] for work in works] for _ in range(repeats)]
    most = max(rates[0] for rates in rounds) * works[0].flop / 1e12
    rows, plain = [], dict[str, float]()
    for work, rates, (first, peak) in zip(works, zip(*rounds, strict=True), firsts, strict=True):
        rate = statistics.median(rates)
        plain.setdefault(work.what, rate)  # what is not compiled comes before what is
        tflops = rate * work.flop / 1e12 if work.flop else None
        share = tflops / most if tflops else None
        gain = rate / plain[work.what] if work.compiled else None
        found = (rate, min(rates), max(rates), tflops, share, gain, first, peak)
        rows.append(Row(work.what, work.compiled, work.unit, *found))
    return rows


def measure(
    device: torch.device,
    model: str = "demo",
    dtype: str = "float32",
    compiling: bool = False,
    frames: int | None = None,
    short_side: int = 800,
    repeats: int = 5,
) -> tuple[dict[str, Any], list[Row]]:
    """What was measured on what, and the rows. Raises ConfigError where nothing compiles."""
    demo = model == "demo"
    slow = device.type == "cpu" and not demo
    size = frames or (1 if slow else SegmentConfig().batch_frames)
    segment = SegmentConfig(model=model, dtype=dtype, batch_frames=size, merge_iou=1)
    ground = GroundConfig(dtype=dtype, batch_frames=size)
    if not demo:
        sides = {"short_side": short_side, "long_side": round(short_side * 1333 / 800)}
        ground = ground.model_copy(update={"backbone": "swin_T_224_1k"} | sides)
    if slow:
        ground = ground.model_copy(update={"batch_pairs": 1})
    works = [product_work(dtype, device), *segment_works(model, segment, device, compiling)]
    rows = rows_of(works, device, repeats)
    del works  # and with them SAM
    rows += rows_of(ground_works(demo, ground, device, compiling), device, repeats)
    about = {
        "device": name_of(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "models": "demo" if demo else f"{model} and Swin-T at {short_side} pixels, random weights",
        "dtype": dtype,
        "frames_a_pass": size,
        "prompts_a_pass": segment.batch_pairs,
        "captions_a_pass": ground.batch_pairs,
        "tflop_of_a_frame": flop_of_frame(model) / 1e12,
    }
    return about, rows


def name_of(device: torch.device) -> str:
    """The device's name, as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listed = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", listed.read_text() if listed.exists() else "")
    return found[1] if found else platform.machine()


def table_of(rows: Sequence[Row]) -> str:
    """The rows as docs/performance.md has them; memory on a GPU only."""
    head = ["", "rate", "slowest to fastest", "TFLOP/s", "share", "times as fast", "first call"]
    lines = [[*head, "memory"], ["---"] * (len(head) + 1)]
    for row in rows:
        cells = [
            row.what + (", compiled" if row.compiled else ""),
            f"{row.rate:.3g} {row.unit}",
            f"{row.slowest:.3g} to {row.fastest:.3g}",
            "" if row.tflops is None else f"{row.tflops:.3g}",
            "" if row.share is None else f"{row.share:.0%}",
            "" if row.gain is None else f"{row.gain:.2f}",
            f"{row.first:.0f} s" if row.compiled else "",
            "" if row.peak is None else f"{row.peak:.1f} GiB",
        ]
        lines.append(cells)
    width = len(head) + (rows[0].peak is not None)
    return "\n".join(f"| {' | '.join(cells[:width])} |" for cells in lines)


def main(
    model: Annotated[Model, typer.Option(help="of segment; demo is both shipped models")] = "demo",
    dtype: Annotated[Dtype, typer.Option()] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N")] = "cpu",
    compiling: Annotated[bool, typer.Option("--compile", help="with torch.compile too")] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, help="a pass; without it 8, in full size on a CPU 1")
    ] = None,
    short_side: Annotated[int, typer.Option(min=64, help="of Swin-T's input, pixels")] = 800,
    repeats: Annotated[int, typer.Option(min=1, help="that are timed, after one that is not")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    try:
        place = resolve_device(device)
        about, rows = measure(place, model, dtype, compiling, frames, short_side, repeats)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(about | {"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items()))
        print(f"\n{table_of(rows)}")
    share = max(row.share or 0 for row in rows if row.what == ENCODER)
    if place.type == "cuda" and model != "demo" and share < HELD_TO:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
