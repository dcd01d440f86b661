"""What the weight of a frame tells of the true overlap of its mask, in finished runs.

    .venv/bin/python -m benchmarks.weights RUN [RUN ...] [--root DIR] [--calibration FILE]
    .venv/bin/python -m benchmarks.weights RUN --imported [--root DIR]

For every frame that is present and has ground truth: Spearman's correlation of a weight with J, and
the AUROC of the weight for J of at least 0.5 against less. The runs are only read.

Of a run's own masks, `rank` is computed again from the stored candidates: with a calibration if one
is given, without one, and with the former weight of the segmenter and of the agreement of the
positives alone, which does not know of rivals. Of masks of other methods (`import-masks`), the
weight is compared with the parts that it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from scipy.stats import spearmanr

from flows.context import RunContext
from flows.evaluation.calibration import auroc
from pipeline.calibration import Calibration
from pipeline.config import load_config
from pipeline.errors import PseudoLabelError
from pipeline.metrics import region_similarity
from pipeline.types import FrameIndex, Status
from stages.rank import rank, rank_frames
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.arrays.masks import MaskStore
from storage.calibration_file import read_calibration
from storage.tables import iter_quality


class Frame(NamedTuple):
    """A present frame: the true overlap of its mask, and its weights by name."""

    overlap: float
    weights: Mapping[str, float]


def opened(folder: Path, root: Path | None) -> RunContext:
    """Returns a run, whose data set may have been moved."""
    words = [] if root is None else [f'dataset.root="{root.resolve()}"']
    words.append(f'out="{folder.resolve().parent}"')
    return RunContext(load_config(folder / "config.toml", words))


def own_frames(context: RunContext, calibration: Calibration | None) -> Iterator[Frame]:
    """Yields the present frames with ground truth of a run's own masks."""
    reader, rules, folder = context.reader(), context.config.rank, context.paths.folder
    for part in sorted((folder / "fuse").glob("*.zarr")):
        for video_id in (path.name for path in sorted(part.iterdir()) if path.is_dir()):
            video = reader.video(video_id)
            expressions = {item.key: item for item in reader.expressions(video_id)}
            candidates = StoredCandidates(folder / "segment" / part.name, video_id)
            for item in StoredHypotheses(part, video_id):
                mask, rows = rank(item, candidates, video, rules, "")
                _, calibrated = rank(item, candidates, video, rules, "", calibration)
                violation = rank_frames(item, candidates, rules).violation
                for row, known in zip(rows, calibrated, strict=True):
                    if row.status != Status.PRESENT:
                        continue
                    index = FrameIndex(row.frame)
                    truth = reader.truth(video, expressions[item.key], index)
                    if truth is None:
                        continue
                    figures = row.predicted_iou * row.stability * row.agreement
                    former = float(np.cbrt(np.clip(figures, 0, 1)) * (1 - violation[row.frame]))
                    weights = {"weight of rank": row.weight, "without rivals": former}
                    if calibration is not None:
                        weights = {"with calibration": known.weight} | weights
                    yield Frame(float(region_similarity(mask.mask[row.frame], truth)), weights)


def imported_frames(context: RunContext) -> Iterator[Frame]:
    """Yields the present frames with ground truth of the masks that `import-masks` wrote."""
    reader, folder = context.reader(), context.paths.consensus
    masks = MaskStore(folder / context.paths.masks.name)
    for row in iter_quality(folder / context.paths.quality.name):
        if row.status != Status.PRESENT:
            continue
        video, index = reader.video(row.video), FrameIndex(row.frame)
        [expression] = [
            item for item in reader.expressions(row.video) if item.key.expression == row.expression
        ]
        truth = reader.truth(video, expression, index)
        if truth is None:
            continue
        mask = masks.read(row.video, row.expression, [row.frame])[0][0]
        parts = {"agreement": row.agreement, "temporal IoU": row.temporal_iou}
        yield Frame(float(region_similarity(mask, truth)), {"weight": row.weight} | parts)


def report(found: Sequence[Frame]) -> list[str]:
    """Returns the lines of the table of one run."""
    if not found:
        raise PseudoLabelError("no frame is present and has ground truth; expected a finished run")
    overlap = np.array([frame.overlap for frame in found])
    right = overlap >= 0.5
    share = f"{np.mean(~right):.1%} with J < 0.5"
    lines = [f"{len(found)} present frames, mean J {overlap.mean():.3f}, {share}"]
    for name in found[0].weights:
        weight = np.nan_to_num([frame.weights[name] for frame in found])
        rho = float(spearmanr(weight, overlap).statistic)
        told = f"{auroc(weight, right):.3f}" if 0 < right.sum() < len(right) else "undefined"
        lines.append(f"  {name:16s} Spearman {rho:.3f}  AUROC {told}")
    return lines


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Of `pseudolabels calibrate`.")] = None,
    imported: Annotated[bool, typer.Option(help="Masks of `import-masks`, not the run's.")] = False,
) -> None:
    """Prints what the weights tell of the true overlap in each run."""
    known = None if calibration is None else read_calibration(calibration)
    for folder in runs:
        context = opened(folder, root)
        found = imported_frames(context) if imported else own_frames(context, known)
        print(f"{folder}: " + "\n".join(report(list(found))))


if __name__ == "__main__":
    typer.run(main)
