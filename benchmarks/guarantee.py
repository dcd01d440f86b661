"""How well the guarantee of `pseudolabels guarantee` holds, in finished runs with ground truth.

    .venv/bin/python -m benchmarks.guarantee [RUN ...] [--root DIR]

The videos of all runs are put together. Twenty times they are split at random into two halves. One
half is labelled; masks of the other half are kept if the guarantee promises J of at least a level.
Printed are the share that is kept, and of these the share with a lower J: mean, and highest of the
splits. The runs are only read; `rank` is computed again from what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.review import RUNS, samples, table_of
from flows.evaluation.expected_gain import quality_of
from flows.evaluation.guarantee import Labels, fit

SPLITS = 20
SHOWN = (0.5, 0.7, 0.8, 0.9)


def labels_of(runs: Sequence[Path], root: Path | None) -> Labels:
    """Returns the true J of the samples of all runs, with their signals."""
    videos, signals, js = [], [], []
    for number, folder in enumerate(runs):
        found = list(samples(folder, root))
        table = table_of(found)
        videos += [f"{number}/{item.video}" for item in found]
        signals.append(quality_of(table))
        js.append([item.own[0] for item in found])
    return Labels(videos, np.concatenate(signals), np.concatenate(js))


def split(labels: Labels, level: float, confidence: float, seed: int) -> tuple[float, float]:
    """Returns, of the half without labels, the share kept, and the share of it below the level;
    0 if none is kept."""
    videos = np.array(labels.videos)[np.random.default_rng(seed).permutation(len(labels.videos))]
    half = len(videos) // 2
    made = fit(labels.of(videos[:half].tolist()), confidence)
    tested = labels.of(videos[half:].tolist())
    keep = made.lower(tested.signal) >= level - 1e-9
    wrong = float((tested.j[keep] < level).mean()) if keep.any() else 0.0
    return float(keep.mean()), wrong


def report(labels: Labels, confidence: float) -> list[str]:
    """Returns the lines of the table."""
    lines = [
        f"{len(labels)} masks in {len(labels.videos)} videos, {SPLITS} splits into halves,"
        f" confidence {confidence:.0%}",
        "  J at least   of all, below   kept   of these, below: mean   highest",
    ]
    for level in SHOWN:
        kept, wrong = np.array([split(labels, level, confidence, n) for n in range(SPLITS)]).T
        below = float((labels.j < level).mean())
        lines.append(
            f"  {level:10.2f}   {below:13.1%}   {kept.mean():4.0%}"
            f"   {wrong.mean():21.1%}   {wrong.max():7.1%}"
        )
    return lines


def main(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of finished runs.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
    confidence: Annotated[float, typer.Option(help="That is promised.")] = 0.9,
) -> None:
    """Prints how well the guarantee holds."""
    print("\n".join(report(labels_of(runs or RUNS, root), confidence)))


if __name__ == "__main__":
    typer.run(main)
