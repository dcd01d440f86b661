"""What the weight of a frame tells of the true overlap of its mask, in finished runs.

    .venv/bin/python -m benchmarks.weights RUN [RUN ...] [--root DIR]

For every frame that is present and has ground truth: Spearman's correlation of the weight with J,
and the AUROC of the weight for J of at least 0.5 against less. Two weights are compared: the one of
`rank`, and one of the segmenter and the agreement of the positives alone, which does not know of
rivals. The runs are only read. `rank` is computed again from the stored candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from scipy.stats import spearmanr

from flows.context import RunContext
from flows.evaluation.calibration import auroc
from pipeline.config import load_config
from pipeline.metrics import region_similarity
from pipeline.types import FrameIndex, Status
from stages.rank import rank, rank_frames
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses


class Frame(NamedTuple):
    """A present frame: the true overlap of its mask, and both weights."""

    overlap: float
    weight: float
    without_rivals: float


def frames(folder: Path, root: Path | None) -> Iterator[Frame]:
    """Yields the present frames with ground truth of a run."""
    words = [] if root is None else [f'dataset.root="{root.resolve()}"']
    context = RunContext(load_config(folder / "config.toml", words))
    reader, rules = context.reader(), context.config.rank
    for part in sorted((folder / "fuse").glob("*.zarr")):
        for video_id in (path.name for path in sorted(part.iterdir()) if path.is_dir()):
            video = reader.video(video_id)
            expressions = {item.key: item for item in reader.expressions(video_id)}
            candidates = StoredCandidates(folder / "segment" / part.name, video_id)
            for item in StoredHypotheses(part, video_id):
                mask, rows = rank(item, candidates, video, rules, "")
                violation = rank_frames(item, candidates, rules).violation
                for row in rows:
                    if row.status != Status.PRESENT:
                        continue
                    index = FrameIndex(row.frame)
                    truth = reader.truth(video, expressions[item.key], index)
                    if truth is None:
                        continue
                    figures = row.predicted_iou * row.stability * row.agreement
                    former = float(np.cbrt(np.clip(figures, 0, 1)) * (1 - violation[row.frame]))
                    overlap = float(region_similarity(mask.mask[row.frame], truth))
                    yield Frame(overlap, row.weight, former)


def report(found: Sequence[Frame]) -> list[str]:
    """Returns the lines of the table of one run."""
    overlap, *weights = (np.array(column) for column in zip(*found, strict=True))
    right = overlap >= 0.5
    lines = [f"{len(found)} present frames, {np.mean(~right):.1%} with J < 0.5"]
    for name, weight in zip(("weight of rank", "without rivals"), weights, strict=True):
        rho = float(spearmanr(weight, overlap).statistic)
        lines.append(f"  {name:15s} Spearman {rho:.3f}  AUROC {auroc(weight, right):.3f}")
    return lines


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
) -> None:
    """Prints what both weights tell of the true overlap in each run."""
    for folder in runs:
        print(f"{folder}: " + "\n".join(report(list(frames(folder, root)))))


if __name__ == "__main__":
    typer.run(main)
