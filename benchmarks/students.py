"""What each kind of supervision teaches a student, and what LGCFS and BLCL add to it.

    .venv/bin/python benchmarks/students.py [--seeds 3] [--steps 400] [section.key=value ...]

The rows are those of SimRVOS's Tables I, III and IV, and this project's pseudo-masks.

Works on a run whose masks are done (`make pseudolabels` makes one): every student is trained on the
same samples of it, from its pseudo-masks or from the data set's own annotation of them, and
predicts the `valid` split. A seed sets the student's first weights and the clips it is shown. Mean
J&F in percent over the seeds, and their standard deviation; on one device, the same seeds give the
same figures.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flows.evaluation import evaluate, summarise
from flows.paths import RunPaths
from flows.training import build_student, supervision_of
from flows.workshop import dataset_root
from pipeline.config import RunConfig, StudentConfig, load_config
from pipeline.ports import DatasetReader
from pipeline.types import Expression, Status, VideoRef
from stages.student.clips import Clips
from stages.student.model import SimRVOS
from stages.student.train import predict_video, train
from stages.weights import resolve_device
from storage.datasets import open_dataset
from storage.masks import MaskStore

ROWS: Mapping[str, Mapping[str, Any]] = {
    "full masks": {"supervision": "masks"},
    "first mask + boxes": {"supervision": "first_mask_boxes", "mil": True},
    "first mask": {"supervision": "first_mask"},
    "boxes": {"supervision": "boxes", "mil": True},
    "pseudo-masks": {},
    "first mask + boxes, LGCFS": {"supervision": "first_mask_boxes", "mil": True, "lgcfs": True},
    "first mask + boxes, BLCL": {"supervision": "first_mask_boxes", "mil": True, "blcl": True},
    "first mask + boxes, LGCFS, BLCL": {
        "supervision": "first_mask_boxes",
        "mil": True,
        "lgcfs": True,
        "blcl": True,
    },
    "pseudo-masks, LGCFS, BLCL": {"lgcfs": True, "blcl": True},
}


def score(config: RunConfig) -> float:
    """J&F in percent, on the split ``valid``, of a student that is trained here."""
    shop = Workshop(config)
    torch.manual_seed(config.seed)
    student = build_student(config.student, shop.device)
    clips = clips_of(shop)
    fit(Trainer(student, clips, config.student, device=shop.device), config.student.training)
    valid = shop.reader("valid")
    return Validation(valid, len(valid.video_ids()), shop.device)(student.eval())


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    config: Annotated[Path | None, typer.Option(help="the run's configuration")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="students a row, of the seeds 0, 1, …")] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="of each training")] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="these rows alone")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    resolved = load_config(config, overrides or ())
    masks = RunPaths(resolved.run_folder).masks
    if not MaskStore(masks).videos():
        raise typer.BadParameter(
            f"{masks}: no masks; expected those of a run; make it first with `make pseudolabels`"
        )
    if unknown := set(rows or ()) - ROWS.keys():
        raise typer.BadParameter(f"no row {sorted(unknown)}; expected some of {list(ROWS)}")
    results: dict[str, dict[str, Any]] = {}
    for name in rows or ROWS:
        base = resolved.student.model_dump() | {"steps": steps or resolved.student.steps}
        student = StudentConfig.model_validate(base | ROWS[name])
        start = time.monotonic()
        found = [score(resolved, student, seed) for seed in range(seeds)]
        spread = statistics.stdev(found) if seeds > 1 else None
        seconds = (time.monotonic() - start) / seeds
        results[name] = {"mean": statistics.fmean(found), "spread": spread, "seeds": found}
        typer.echo(f"{name}: {seconds:.0f} s a student", err=True)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    table = Table("trained on", "J&F", "±", *(f"seed {seed}" for seed in range(seeds)))
    for name, row in results.items():
        deviation = "–" if row["spread"] is None else f"{row['spread']:.1f}"
        each = (f"{value:.1f}" for value in row["seeds"])
        table.add_row(name, f"{row['mean']:.1f}", deviation, *each)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
