"""How the cost of the stages from `ground` to `rank` grows with frames and with expressions.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.cost [--demo] [--plot PATH] [--json]

One video of 360 x 640, ViT-B (`--model`) at 1024 pixels and Swin-T in full size with random weights
on a CPU, batches of one frame: one frame with more and more expressions, whose sentences share
passes of the transformer, eight a pass as by default (`--joint`); then one expression over more and
more frames. `--sentences` is what an expression has with its positives and negatives. Random
weights find the same boxes for every sentence, which would be decoded once: they are replaced by as
many that have little in common, or by a share of so many (`--unlike`). The clock is CPU time. Ends
with 1 where a further expression costs more than is held to, or cost is far from linear in frames.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.throughput import HEIGHT, WIDTH, dino_of, frames_of, sam_of, sentences_of
from pipeline.config import FuseConfig, GroundConfig, RankConfig, SegmentConfig, TrackConfig
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Positive,
    Provenance,
    SampleKey,
    VideoRef,
)
from stages.fuse import fuse
from stages.ground.grounder import GroundingDinoGrounder
from stages.ground.grounder import prepare as prepare_dino
from stages.rank import rank
from stages.segment.segmenter import SamSegmenter, prepare
from stages.track import associate

HELD_TO_SHARE = 0.15
HELD_TO_LINEAR = 0.15
"""How far the cost of a frame may be from the same at any number of frames."""

FRAMES, EXPRESSIONS = (1, 2, 3), (1, 2, 4, 8)


class Work:
    """The four stages over one video, with models that are loaded."""

    def __init__(
        self, model: str, short_side: int, sentences: int, joint: int, unlike: float
    ) -> None:
        cpu, demo = torch.device("cpu"), model == "demo"
        ground, segment = GroundConfig(joint=joint), SegmentConfig()
        if not demo:
            sides = {"short_side": short_side, "long_side": round(short_side * 1333 / 800)}
            ground = GroundConfig(
                backbone="swin_T_224_1k", batch_frames=1, batch_pairs=1, joint=joint, **sides
            )
            segment = SegmentConfig.model_validate({"model": model, "batch_frames": 1})
        self._dino, self._ground = prepare_dino(dino_of(demo, ground), ground), ground
        self._sentences, self._unlike = sentences, unlike
        self._segmenter = SamSegmenter(prepare(sam_of(demo, model), segment, cpu), segment)

    def seconds(self, frames: int, expressions: int) -> dict[str, float]:
        """CPU seconds of each stage; texts are encoded anew."""
        images = frames_of(frames)
        texts = sentences_of(expressions * self._sentences)
        taken = dict.fromkeys(("ground", "segment", "track, fuse, rank"), 0.0)
        boxes: list[Boxes] = []
        candidates: list[Candidates] = []
        video = VideoRef("v", ("",) * frames, (Path(),) * frames, HEIGHT, WIDTH)
        grounder = GroundingDinoGrounder(self._dino, self._ground)
        for image in images:
            start = time.process_time()
            found = grounder.ground(grounder.embed([image]), texts)
            middle = time.process_time()
            found = [_unlike(item, len(boxes), self._unlike) for item in found]
            boxes += found
            asked = [item.xyxy for item in found]
            candidates += self._segmenter.decode(self._segmenter.embed([image]), asked)
            taken["ground"] += middle - start
            taken["segment"] += time.process_time() - middle
        start = time.process_time()
        tracks = associate(len(texts), boxes, candidates, TrackConfig())
        scores = [item.scores for item in candidates]
        for row in range(expressions):
            mine = texts[row * self._sentences : (row + 1) * self._sentences]
            fused = fuse(_augmentation(row, mine), texts, boxes, scores, tracks, FuseConfig())
            rank(fused, candidates, video, RankConfig(), "")
        taken["track, fuse, rank"] = time.process_time() - start
        return taken


def _unlike(found: Boxes, seed: int, share: float) -> Boxes:
    """As many boxes, of which a share is somewhere else each and the rest repeats those; sure
    enough that the target counts as present."""
    rng, count = np.random.default_rng(seed), max(1, round(share * len(found)))
    low = rng.uniform(0, 0.6, (count, 2)) * (WIDTH, HEIGHT)
    size = rng.uniform(0.1, 0.4, (count, 2)) * (WIDTH, HEIGHT)
    corners = np.concatenate([low, low + size], 1).astype(np.float32)
    xyxy = corners[np.arange(len(found)) % count]
    score = np.full(len(found), 0.8, np.float32) - np.float32(0.2) * found.rank
    return Boxes(xyxy, score.astype(np.float32), found.text, found.rank)


def _augmentation(row: int, texts: list[str]) -> Augmentation:
    return Augmentation(
        SampleKey("bench", "train", "video", str(row)),
        tuple(Positive(text, 1.0) for text in texts),
        (),
        Provenance("", "", "", 0),
    )


def measure(work: Work) -> dict[str, Any]:
    """Seconds along both axes, and what they say."""
    # The first allocates, so the largest goes first.
    backwards = {count: work.seconds(1, count) for count in EXPRESSIONS[::-1]}
    by_expressions = {count: backwards[count] for count in EXPRESSIONS}
    by_frames = {1: by_expressions[1]}
    by_frames |= {count: work.seconds(count, 1) for count in FRAMES[1:]}
    each = np.array([sum(row.values()) / count for count, row in by_frames.items()])
    total = np.array([sum(row.values()) for row in by_expressions.values()])
    more: NDArray[np.float64] = (total[1:] / total[0] - 1) / (np.array(EXPRESSIONS[1:]) - 1)
    return {
        "by_frames": by_frames,
        "by_expressions": by_expressions,
        "furthest_from_linear": float(np.abs(each / each.mean() - 1).max()),
        "further_expression": float(more[-1]),
    }


def plot(found: dict[str, Any], path: Path) -> None:
    """Both curves, stages stacked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name, label in zip(
        axes, ("by_frames", "by_expressions"), ("frames, one expression", "expressions, one frame"),
        strict=True,
    ):  # fmt: skip
        counts = list(found[name])
        stages = list(found[name][counts[0]])
        axis.stackplot(
            counts, *([found[name][c][stage] for c in counts] for stage in stages), labels=stages
        )
        axis.set(xlabel=label, ylabel="CPU seconds", ylim=(0, None), xticks=counts)
    axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)


def main(
    demo: Annotated[bool, typer.Option("--demo", help="the shipped small models")] = False,
    model: Annotated[str, typer.Option(help="vit_b, vit_l or vit_h, with Swin-T")] = "vit_b",
    short_side: Annotated[int, typer.Option(min=64, help="of Swin-T's input, pixels")] = 400,
    sentences: Annotated[int, typer.Option(min=1, help="an expression has")] = 1,
    joint: Annotated[int, typer.Option(min=1, max=32, help="sentences a pass")] = 8,
    unlike: Annotated[float, typer.Option(min=0, max=1, help="share of boxes decoded")] = 1.0,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="a PNG to write")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    found = measure(Work("demo" if demo else model, short_side, sentences, joint, unlike))
    if plot_to is not None:
        plot(found, plot_to)
    if as_json:
        about: dict[str, Any] = {"sentences": sentences, "joint": joint, "unlike": unlike}
        about["models"] = "demo" if demo else f"{model} and Swin-T at {short_side} pixels"
        typer.echo(json.dumps(about | found, indent=2))
    else:
        for name in ("by_frames", "by_expressions"):
            for count, row in found[name].items():
                parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row.items())
                print(f"  {count} {name[3:]:11} {sum(row.values()):7.2f} s of CPU: {parts}")
        print(
            f"a frame costs the same within {found['furthest_from_linear']:.1%}; a further"
            f" expression {found['further_expression']:.1%} of the first"
        )
    if (
        found["further_expression"] > HELD_TO_SHARE
        or found["furthest_from_linear"] > HELD_TO_LINEAR
    ):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
