"""What decisions of a reviewer are worth, in finished runs of data sets with ground truth.

    .venv/bin/python -m benchmarks.review [RUN ...] [--root DIR]

An oracle stands in for the reviewer: of the run's mask and the first four tracks it takes what
fits the ground truth best. It is asked about the samples by expected gain, as `review --budget`
proposes them, by the lowest mean weight, and at random (mean of 20 orders). Printed is J&F after so
many decisions. The runs are only read; `rank` is computed again from what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from flows.context import RunContext
from flows.evaluation.expected_gain import expected_gain
from flows.evaluation.scores import SampleScore, score_sample
from flows.review.queue import Queue
from pipeline.config import load_config
from pipeline.decisions import Span, Verdict
from pipeline.tracks import order_of_tracks
from pipeline.types import FrameIndex, FrameQuality, Status
from stages.decided import apply_verdict
from stages.rank import rank
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.sample_table import SampleTable, Texts
from storage.track_table import read_tracks

RUNS = [Path("runs/shapes-train")]
CHOICES = 4
BUDGETS = (0, 5, 10, 20, 30, 50)
ORDERS = 20


@dataclass(frozen=True)
class Sample:
    """A sample, and what an oracle can make of it.

    Attributes:
        kind: of the expression; empty if the data set gives none.
        rows: its quality as `rank` computes it.
        own: J and F of the run's mask.
        best: J and F of the best choice.
    """

    video: str
    kind: str
    rows: list[FrameQuality]
    own: tuple[float, float]
    best: tuple[float, float]


def samples(folder: Path, root: Path | None) -> Iterator[Sample]:
    """Yields the samples of a run that have ground truth."""
    words = [f'out="{folder.resolve().parent}"']
    words += [] if root is None else [f'dataset.root="{root.resolve()}"']
    context = RunContext(load_config(folder / "config.toml", words))
    reader = context.reader()
    for part in sorted((folder / "fuse").glob("*.zarr")):
        for video_id in (path.name for path in sorted(part.iterdir()) if path.is_dir()):
            expressions = {item.key: item for item in reader.expressions(video_id)}
            candidates = StoredCandidates(context.paths.candidates(part.stem), video_id)
            tracks = read_tracks(folder / "track" / f"{part.stem}.parquet", video_id)
            video = reader.video(video_id)
            for item in StoredHypotheses(part, video_id):
                truths = [
                    reader.truth(video, expressions[item.key], FrameIndex(t))
                    for t in range(len(video))
                ]
                mask, rows = rank(item, candidates, video, context.config.rank, "")
                own = score_sample(None, np.asarray(mask.mask), mask.status, truths)
                if own is None or np.isnan(own.j):
                    continue
                scores = [own]
                for track in order_of_tracks(item, tracks)[:CHOICES]:
                    verdict = Verdict(spans=(Span(0, None, track),))
                    given = (mask, rows, item, candidates, tracks, context.config.rank)
                    other, _ = apply_verdict(verdict, *given)
                    found = score_sample(None, np.asarray(other.mask), other.status, truths)
                    scores += [found] if found is not None else []
                best = max(scores, key=_both)
                kind = expressions[item.key].kind or ""
                yield Sample(video_id, kind, rows, (own.j, own.f), (best.j, best.f))


def _both(score: SampleScore) -> float:
    return 0.0 if np.isnan(score.j) else score.j + score.f


def table_of(found: Sequence[Sample]) -> SampleTable:
    """Returns the samples as the review sees them."""
    columns: dict[str, list[Any]] = {name: [] for name in ("frames", "present", "absent")}
    columns |= {name: [] for name in ("weight", "present_weight", "agreement")}
    for item in found:
        present = [row.weight for row in item.rows if row.status == Status.PRESENT]
        columns["frames"].append(len(item.rows))
        columns["present"].append(len(present))
        columns["absent"].append(sum(row.status == Status.ABSENT for row in item.rows))
        columns["weight"].append(np.mean([row.weight for row in item.rows]))
        columns["present_weight"].append(np.mean(present) if present else np.nan)
        columns["agreement"].append(np.mean([row.agreement for row in item.rows]))
    arrays = {name: np.array(values) for name, values in columns.items()}
    return SampleTable(
        video=Texts([item.video for item in found]),
        expression=Texts([str(number) for number in range(len(found))]),
        reasons=(),
        reason_bits=np.zeros(len(found), np.uint64),
        **arrays,
    )


def curve(found: Sequence[Sample], order: NDArray[np.intp]) -> list[float]:
    """Returns J&F in percent after each number of decisions of ``BUDGETS``, made in an order."""
    own = np.array([sum(item.own) / 2 for item in found])
    gain = np.array([sum(item.best) / 2 for item in found]) - own
    return [float(100 * (own.sum() + gain[order[:count]].sum()) / len(own)) for count in BUDGETS]


def proposed(found: Sequence[Sample], table: SampleTable) -> NDArray[np.intp]:
    """Returns the order of `review --budget`."""
    kinds = {(item.video, str(number)): item.kind for number, item in enumerate(found)}
    queue = Queue.of(table, {}, kinds)
    return np.array([int(row.expression) for row in queue.proposals(len(found))], np.intp)


def report(found: Sequence[Sample]) -> list[str]:
    """Returns the lines of the table of one run."""
    table = table_of(found)
    gain = expected_gain(table)
    random = [np.random.default_rng(seed).permutation(len(found)) for seed in range(ORDERS)]
    curves = {
        "expected gain": curve(found, np.argsort(-gain, kind="stable")),
        "review --budget": curve(found, proposed(found, table)),
        "lowest weight": curve(found, np.argsort(table.weight, kind="stable")),
        "at random": np.mean([curve(found, order) for order in random], axis=0).tolist(),
    }
    lines = [f"{len(found)} samples; J&F after so many decisions:"]
    lines.append(f"  {'':16s}" + "".join(f"{count:8d}" for count in BUDGETS))
    for name, values in curves.items():
        lines.append(f"  {name:16s}" + "".join(f"{value:8.2f}" for value in values))
    at = BUDGETS.index(20)
    ahead = curves["expected gain"][at] - curves["at random"][at]
    lines.append(f"  twenty by expected gain are {ahead:+.2f} points ahead of twenty at random")
    return lines


def main(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of finished runs.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
) -> None:
    """Prints what decisions are worth in each run."""
    for folder in runs or RUNS:
        print(f"{folder}: " + "\n".join(report(list(samples(folder, root)))), flush=True)


if __name__ == "__main__":
    typer.run(main)
