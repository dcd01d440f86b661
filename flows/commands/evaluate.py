"""``pseudolabels evaluate``: the field's figures, as its official evaluations compute them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    FromOption,
    OutOption,
    RootOption,
    RunArguments,
    SplitOption,
    resolve_run,
)
from flows.console import Output
from pipeline.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Measure masks against truth.")
console = Output()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", help="Folder for the tables by sequence and expression.")
]


@app.command("run")
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
    """Measures a run's masks against truth anew and writes its metrics.json."""
    from flows.commands.evaluate_run import evaluate_run

    resolved = resolve_run(arguments, config, dataset, root, split, out)
    evaluate_run(resolved, console, source, as_json, csv)


PredictionsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="Folder or zip of PNG masks.")
]
ResultsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="JSON list of COCO results.")
]
TruthRoot = Annotated[Path, typer.Option("--root", help="The data set's folder, with its truth.")]


@app.command("davis")
def davis(
    predictions: PredictionsArgument,
    root: TruthRoot,
    task: Annotated[
        str, typer.Option(help="semi-supervised, unsupervised, or referring (Ref-DAVIS17).")
    ] = "semi-supervised",
    subset: Annotated[
        str | None, typer.Option(help="val by default; of referring, the split valid.")
    ] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """DAVIS, semi-supervised or unsupervised, and the four annotation sets of Ref-DAVIS17."""
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


@app.command("refytvos")
def refytvos(
    predictions: PredictionsArgument,
    root: TruthRoot,
    split: Annotated[str, typer.Option(help="A split with truth.")] = "valid",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """A Ref-YouTube-VOS submission, where the truth is there."""
    _expressions("refytvos", predictions, root, split, as_json, csv)


@app.command("mevis")
def mevis(
    predictions: PredictionsArgument,
    root: TruthRoot,
    split: Annotated[str, typer.Option(help="A split with truth.")] = "valid_u",
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """A MeViS submission, where the truth is there."""
    _expressions("mevis", predictions, root, split, as_json, csv)


@app.command("a2d")
def a2d(
    predictions: ResultsArgument,
    truth: Annotated[Path | None, typer.Option(help="The truth as a COCO file.")] = None,
    root: Annotated[Path | None, typer.Option(help="Or A2D-Sentences, to build it from.")] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """A2D-Sentences: mAP, precision@K, overall and mean IoU."""
    _queries("a2d", predictions, truth, root, as_json, csv)


@app.command("jhmdb")
def jhmdb(
    predictions: ResultsArgument,
    truth: Annotated[Path | None, typer.Option(help="The truth as a COCO file.")] = None,
    root: Annotated[Path | None, typer.Option(help="Or JHMDB-Sentences, to build it from.")] = None,
    as_json: JsonOption = False,
    csv: CsvOption = None,
) -> None:
    """JHMDB-Sentences: mAP, precision@K, overall and mean IoU."""
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
