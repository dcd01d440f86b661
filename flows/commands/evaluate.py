"""``pseudolabels evaluate``: the metrics of the field, as its official evaluations compute them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    DATA,
    ConfigOption,
    DatasetOption,
    FromOption,
    OutOption,
    RootOption,
    RunArguments,
    SplitOption,
    example,
    resolve_run,
)
from flows.console import Output
from pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Measure masks against ground truth.",
    epilog=example("evaluate run runs/shapes-train"),
)
console = Output()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", help="Folder for CSV tables by sequence and by expression.")
]


@app.command("run", epilog=example("evaluate run runs/shapes-train"))
def run(
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    source: FromOption = "masks",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure the masks of a run against ground truth, and write its metrics.json."""
    from flows.commands.evaluate_run import evaluate_run

    needs = ("rank", "merge", "student")
    resolved = resolve_run(arguments, config, dataset, root, split, out, needs)
    evaluate_run(resolved, console, source, as_json, csv)


PredictionsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="Folder or zip with PNG masks.")
]
ResultsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="JSON file with a list of COCO results.")
]
TruthRoot = Annotated[Path, DATA]


@app.command("davis", epilog=example("evaluate davis results --root DAVIS --task unsupervised"))
def davis(
    predictions: PredictionsArgument,
    root: TruthRoot,
    task: Annotated[
        str, typer.Option(help="semi-supervised, unsupervised, or referring (Ref-DAVIS17).")
    ] = "semi-supervised",
    subset: Annotated[
        str | None, typer.Option(help="Default: val, or valid for referring.")
    ] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure results on DAVIS (semi-supervised, unsupervised) or Ref-DAVIS17."""
    from flows.evaluation.davis import evaluate_davis, evaluate_refdavis
    from flows.evaluation.result import present
    from pipeline.davis import TASKS, Task

    if task == "referring":
        result = evaluate_refdavis(predictions, root, subset or "valid")
    else:
        tasks: dict[str, Task] = {name: name for name in TASKS}
        if task not in tasks:
            raise ConfigError(
                f"--task {task}: no such task; expected {', '.join(TASKS)}, referring"
            )
        result = evaluate_davis(predictions, root, tasks[task], subset or "val")
    present(result, console, as_json, csv)


@app.command("refdavis", epilog=example("evaluate refdavis masks --root DATA"))
def refdavis(
    predictions: PredictionsArgument,
    root: TruthRoot,
    split: Annotated[str, typer.Option(help="A split with ground truth.")] = "valid",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure results on Ref-DAVIS17, as `evaluate davis --task referring`: the mean of four
    annotation sets, objects matched and by fixed ids."""
    from flows.evaluation.davis import evaluate_refdavis
    from flows.evaluation.result import present

    present(evaluate_refdavis(predictions, root, split), console, as_json, csv)


@app.command("refytvos", epilog=example("evaluate refytvos masks.zip --root DATA"))
def refytvos(
    predictions: PredictionsArgument,
    root: TruthRoot,
    split: Annotated[str, typer.Option(help="A split with ground truth.")] = "valid",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure a Ref-YouTube-VOS submission on a split with ground truth."""
    _expressions("refytvos", predictions, root, split, as_json, csv)


@app.command("mevis", epilog=example("evaluate mevis masks.zip --root DATA"))
def mevis(
    predictions: PredictionsArgument,
    root: TruthRoot,
    split: Annotated[str, typer.Option(help="A split with ground truth.")] = "valid_u",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure a MeViS submission on a split with ground truth."""
    _expressions("mevis", predictions, root, split, as_json, csv)


@app.command("masks", epilog=example("evaluate masks out.zip --dataset visor --root VISOR"))
def masks(
    predictions: PredictionsArgument,
    root: TruthRoot,
    dataset: Annotated[str, typer.Option(help="Any data set with ground truth.")],
    split: Annotated[str, typer.Option(help="A split with ground truth.")] = "valid",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure masks of any data set with ground truth: J&F, IoU and precision@K; with scores beside
    them also mAP."""
    _expressions(dataset, predictions, root, split, as_json, csv)


@app.command("a2d", epilog=example("evaluate a2d results.json --root DATA"))
def a2d(
    predictions: ResultsArgument,
    truth: Annotated[Path | None, typer.Option(help="The ground truth as a COCO file.")] = None,
    root: Annotated[Path | None, DATA] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure results on A2D-Sentences: mAP, precision@K, overall and mean IoU."""
    _queries("a2d", predictions, truth, root, as_json, csv)


@app.command("jhmdb", epilog=example("evaluate jhmdb results.json --root DATA"))
def jhmdb(
    predictions: ResultsArgument,
    truth: Annotated[Path | None, typer.Option(help="The ground truth as a COCO file.")] = None,
    root: Annotated[Path | None, DATA] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """Measure results on JHMDB-Sentences: mAP, precision@K, overall and mean IoU."""
    _queries("jhmdb", predictions, truth, root, as_json, csv)


def _expressions(
    dataset: str, predictions: Path, root: Path, split: str, as_json: bool, csv: Path | None
) -> None:
    from flows.evaluation.expressions import evaluate_expressions
    from flows.evaluation.result import present

    present(evaluate_expressions(predictions, dataset, root, split), console, as_json, csv)


def _queries(
    dataset: str,
    predictions: Path,
    truth: Path | None,
    root: Path | None,
    as_json: bool,
    csv: Path | None,
) -> None:
    from flows.evaluation.coco_queries import evaluate_queries
    from flows.evaluation.result import present

    present(evaluate_queries(predictions, dataset, truth, root), console, as_json, csv)
