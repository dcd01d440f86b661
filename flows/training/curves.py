"""Writes the curves of a training: tables, a picture, TensorBoard, and the Prefect UI."""

from __future__ import annotations

import base64
import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from storage.files.atomic import replace_file

if TYPE_CHECKING:
    from stages.student.training.fit import History
    from stages.student.training.train import Step


class TensorBoard:
    """Writes event files of a training. Steps from where it continues are replaced.

    Args:
        folder: of the event files.
        step: at which the training begins or continues.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()

    def add(self, step: Step, history: History) -> None:
        """The terms of a step's loss, its learning rate, and J&F where it was measured."""
        self._writer.add_scalar("loss", step.loss, step.number)
        for name, value in step.terms.items():
            self._writer.add_scalar(f"loss/{name}", value, step.number)
        self._writer.add_scalar("learning rate", step.rate, step.number)
        if history.scores and history.scores[-1][0] == step.number + 1:
            self._writer.add_scalar("J&F", history.scores[-1][1], step.number)


def write_curves(folder: Path, history: History) -> None:
    """Writes ``losses.csv``, ``curves.png``, and ``validation.csv`` if anything was measured."""
    names = history.names
    with replace_file(folder / "losses.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss", *names])
        for number, terms in enumerate(history.steps):
            values = [terms.get(name, 0.0) for name in names]
            writer.writerow([number, *(f"{value:.6f}" for value in (sum(values), *values))])
    if history.scores:
        with replace_file(folder / "validation.csv", "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["steps", "J&F"])
            writer.writerows([step, f"{score:.2f}"] for step, score in history.scores)
    with replace_file(folder / "curves.png") as file:
        file.write(curves_png(history))


def read_scores(folder: Path) -> list[tuple[int, float]]:
    """Returns the measurements in a student's ``validation.csv``, (steps, J&F in percent) each;
    none if there are none."""
    try:
        with (folder / "validation.csv").open(encoding="utf-8", newline="") as file:
            return [(int(row["steps"]), float(row["J&F"])) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def curves_markdown(history: History, title: str, rows: int = 20) -> str:
    """Returns the curves as Markdown for the Prefect UI: a picture, and a table of losses (means
    over equal stretches) and J&F."""
    names = history.names
    picture = base64.b64encode(curves_png(history)).decode()
    lines = [f"# {title}", "", f"![curves](data:image/png;base64,{picture})", ""]
    lines += [f"| steps | loss | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 2) + "|")
    count = len(history.steps)
    bounds = sorted({count * number // rows for number in range(rows + 1)})
    for low, high in pairwise(bounds):
        part = history.steps[low:high]
        means = [sum(terms.get(name, 0.0) for terms in part) / len(part) for name in names]
        shown = " | ".join(f"{value:.3f}" for value in (sum(means), *means))
        lines.append(f"| {low + 1} to {high} | {shown} |")
    if history.scores:
        lines += ["", "| steps | J&F |", "|---|---|"]
        lines += [f"| {step} | {score:.1f} |" for step, score in history.scores]
    return "\n".join(lines) + "\n"


def curves_png(history: History) -> bytes:
    """Returns a PNG of the terms of the loss, as running means, and of J&F if it was measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = history.names
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    steps = range(len(history.steps))
    axes.plot(steps, history.losses, color="0.75", linewidth=0.8, label="loss")
    width = max(1, len(history.steps) // 40)
    for name in names:
        values = [terms.get(name, 0.0) for terms in history.steps]
        means = [
            sum(values[max(0, end - width) : end]) / min(width, end)
            for end in range(1, len(values) + 1)
        ]
        axes.plot(steps, means, label=f"{name}, mean of {width} steps")
    if history.scores:
        right = axes.twinx()
        right.set_ylabel("J&F")
        right.plot(*zip(*history.scores, strict=True), "o-", color="tab:green", label="J&F")
        right.legend(loc="lower right")
    axes.legend(loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
