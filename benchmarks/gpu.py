"""Measures on a GPU what docs/performance.md calls 'not measured', in one prepared command.

    .venv/bin/python -m benchmarks.gpu --device cuda --out gpu.json
    .venv/bin/python -m benchmarks.gpu --device cpu --small --out small.json

Everything is done with random weights of full size: SAM ViT-H in bfloat16, Grounding DINO Swin-T at
800 pixels, and SimRVOS with a ResNet-50. Random weights compute as trained ones do; they say
nothing of accuracy. `--small` takes the shipped demo models, to try the command on a CPU.

The command is made to end within six minutes on an H100 or H200; that was not measured either.
Parts for which `--minutes` leaves no time are left out, and said to be. The JSON is written anew
after every part, so that what was measured survives. What is printed is the table of the docs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import rates, throughput, training
from benchmarks.data.videos import write_videos
from benchmarks.throughput import EXPRESSIONS, dino_of, sam_of
from flows.context import Parts, RunContext
from flows.labelling.executor import InProcess, execute
from flows.planning.commit import commit_plan
from flows.planning.stage_selection import scope_of
from flows.timing import BUSY
from pipeline.config import GroundConfig, RunConfig, SegmentConfig, load_config
from pipeline.errors import ConfigError
from stages.common.weights import resolve_device
from stages.ground.grounder import GroundingDinoGrounder
from stages.ground.grounder import prepare as prepare_dino
from stages.segment.segmenter import SamSegmenter, prepare
from storage.files.atomic import replace_file
from storage.run.ledger import Ledger
from storage.run.lock import RunLock

MODEL, DTYPE = "vit_h", "bfloat16"


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    what: str
    value: float
    unit: str


Part = tuple[str, Callable[[], list[Figure]]]


def parts_of(device: torch.device, small: bool) -> Iterator[Part]:
    """Yields the parts, those that matter most first."""
    yield "rates", lambda: rate_figures(device, small, compiling=False)
    yield "against the packages' predictors", lambda: throughput_figures(device, small)
    yield "a run and a student", lambda: run_figures(device, small)
    if not small:  # a compiler takes minutes on a CPU
        yield "compiled", lambda: rate_figures(device, small, compiling=True)


def rate_figures(device: torch.device, small: bool, compiling: bool) -> list[Figure]:
    """Rates of encoders, decoder and transformer, their share of the matmul rate, and memory."""
    model, dtype = ("demo", "float32") if small else (MODEL, DTYPE)
    frames, repeats = (1, 1) if small else (8, 3)
    _, rows = rates.measure(device, model, dtype, compiling, frames, 800, repeats)
    found = []
    for row in rows:
        if compiling and not row.compiled:
            continue
        name = row.what + (", compiled" if row.compiled else "")
        found.append(Figure(name, row.rate, row.unit))
        if row.share is not None:
            found.append(Figure(f"{name}, share of the matmul rate", 100 * row.share, "%"))
        if row.gain is not None:
            found.append(Figure(f"{name}, against not compiled", row.gain, "times"))
            found.append(Figure(f"{name}, first call", row.first, "s"))
    peaks = [row.peak for row in rows if row.peak is not None]
    if peaks:
        found.append(Figure("device memory, most", max(peaks), "GiB"))
    return found


def throughput_figures(device: torch.device, small: bool) -> list[Figure]:
    """How many times as fast the stages are as loops over the packages' own code."""
    calls = 1 if small else 2
    rows = throughput.measure(
        None, small, calls, calls, MODEL, "float32" if small else DTYPE, str(device)
    )
    found = [Figure(row.what, row.ratio, "times as fast") for row in rows]
    both = [row for row in rows if row.what in ("segment, 1 positive", "ground, joint")]
    ours, loop = (sum(getattr(row, name) for row in both) for name in ("ours", "loop"))
    return [*found, Figure("both stages, 1 positive, joint", loop / ours, "times as fast")]


def run_figures(device: torch.device, small: bool) -> list[Figure]:
    """How busy the models are in a run without Prefect, and what a step of a student takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos, frames = (1, 2) if small else (4, 32)
        write_videos(folder / "data", videos, frames, EXPRESSIONS // 2, 360, 640)
        config = run_config(folder, device, small)
        started = time.perf_counter()
        context = RunContext(config, Parts() if small else random_parts(config, device, folder))
        with RunLock(config.run_folder):
            # Masks are enough; the run's own student is not what is measured.
            context.plan = plan = context.make_plan(scope=scope_of(config, None, "merge"))
            commit_plan(config, plan, ())
            execute(context, InProcess(context))
        whole = time.perf_counter() - started
        found = [Figure(f"a run of {videos} videos of {frames} frames", whole, "s")]
        for stage in ("ground", "segment"):
            receipts = list(Ledger(config.run_folder).receipts(stage))
            busy = sum(item.counts[BUSY] for item in receipts)
            share = 100 * busy / sum(item.seconds for item in receipts)
            found.append(Figure(f"{stage}, share of its time in the model", share, "%"))
        seconds = training.measure(RunContext(config), 2 if small else 6, 1)
        step = 1000 * seconds["step"]
        return [*found, Figure("a step of SimRVOS", step, "ms")]


def run_config(folder: Path, device: torch.device, small: bool) -> RunConfig:
    """A run of the videos in a folder, up to the masks."""
    words = ["dataset.name=refytvos", f'dataset.root="{folder / "data"}"']
    words += [f'out="{folder / "runs"}"', f"device={device}", "augment.negatives=8"]
    # Random models call every frame absent or unknown. These thresholds let masks through.
    words += ["fuse.absent_below=0", "fuse.uncertain_below=0", "fuse.present_above=0"]
    words += ["student.steps=4"]
    if small:
        words += ["student.frames_per_clip=1", "student.clips_per_step=1"]
    else:
        words += ["ground.backbone=swin_T_224_1k", "ground.short_side=800", "ground.joint=8"]
        words += ["ground.long_side=1333", f"ground.dtype={DTYPE}", "segment.batch_pairs=128"]
        words += [f"segment.model={MODEL}", f"segment.dtype={DTYPE}", "student.short_side=360"]
        words += ["student.encoders.backbone=resnet50", "student.channels=256"]
        words += ["student.frames_per_clip=5", f"student.training.dtype={DTYPE}"]
    return load_config(None, words)


def random_parts(config: RunConfig, device: torch.device, folder: Path) -> Parts:
    """Models of full size with random weights."""
    weights = folder / "weights.bin"
    weights.write_bytes(b"random")

    def grounder(chosen: RunConfig, where: Any) -> GroundingDinoGrounder:
        section: GroundConfig = chosen.ground
        return GroundingDinoGrounder(
            prepare_dino(dino_of(False, section).to(device), section), section
        )

    def segmenter(chosen: RunConfig, where: Any) -> SamSegmenter:
        section: SegmentConfig = chosen.segment
        return SamSegmenter(prepare(sam_of(False, MODEL), section, device), section)

    return Parts(
        grounder=grounder, segmenter=segmenter, checkpoint_files=lambda checkpoint: [weights]
    )


def measure(device: torch.device, small: bool, minutes: float, out: Path) -> dict[str, Any]:
    """Does all parts, and writes what was measured after each.

    A part that fails says why, and the others go on.
    """
    began = time.perf_counter()
    result: dict[str, Any] = {
        "device": rates.name_of(device),
        "torch": torch.__version__,
        "models": "demo models" if small else f"{MODEL} in {DTYPE}, Swin-T; random weights",
        "parts": {},
    }
    for name, part in parts_of(device, small):
        start = time.perf_counter()
        if start - began > 60 * minutes:
            result["parts"][name] = {"left_out": f"{minutes:g} minutes were over"}
            continue
        try:
            made: dict[str, Any] = {"figures": [asdict(figure) for figure in part()]}
        except Exception as error:  # noqa: BLE001 - what else was measured is kept
            made = {"failed": f"{type(error).__name__}: {error}"}
        result["parts"][name] = {**made, "seconds": time.perf_counter() - start}
        if device.type == "cuda":
            torch.cuda.empty_cache()
        with replace_file(out, "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")
    return result


def table_of(result: dict[str, Any]) -> str:
    """Returns the table of docs/performance.md."""
    lines = ["| part | what | measured |", "|---|---|---|"]
    for name, part in result["parts"].items():
        for figure in part.get("figures", ()):
            value = f"{figure['value']:.3g} {figure['unit']}"
            lines.append(f"| {name} | {figure['what']} | {value} |")
        if reason := part.get("failed", part.get("left_out")):
            lines.append(f"| {name} | | not measured ({reason}) |")
    return "\n".join(lines)


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or cpu")] = "cuda",
    small: Annotated[bool, typer.Option("--small", help="the demo models, in seconds")] = False,
    minutes: Annotated[float, typer.Option(min=0, help="after which no part begins")] = 4.5,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = Path("gpu.json"),
) -> None:
    """Measures, and prints the table. Ends with 1 if a part failed."""
    try:
        place = resolve_device(device)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    result = measure(place, small, minutes, out)
    print(
        f"{result['device']}, {result['models']}, PyTorch {result['torch']}\n\n{table_of(result)}"
    )
    if any("failed" in part for part in result["parts"].values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
