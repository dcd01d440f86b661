"""``pseudolabels paper``: the tables of the papers, on a data set or as a rehearsal on `shapes`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    OutOption,
    RootOption,
    RunArguments,
    SplitOption,
    example,
    resolve_run,
    with_settings,
)
from flows.console import Output, say
from pipeline.config import RunConfig, given
from pipeline.errors import ConfigError, PseudoLabelError

if TYPE_CHECKING:
    from flows.papers.rows import Row

console = Output()
errors = Output(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(epilog=example("paper simrvos-lgcfs --seeds 1"))(paper)


def paper(
    table: Annotated[str | None, typer.Argument(help="Name of a table; see --list.")] = None,
    arguments: RunArguments = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="List the tables, or the rows of TABLE, and end.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Students of each row: seeds 0, 1, …")] = 1,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row.")] = None,
    of: Annotated[str, typer.Option(help="Split that is measured.")] = "valid",
    on: Annotated[
        str | None, typer.Option(help="Data set that is measured, if it is another one.")
    ] = None,
    on_root: Annotated[
        Path | None, typer.Option(help="Folder or address of that data set.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: DeviceOption = None,
) -> None:
    """Train and measure the students of a paper's table, beside its published figures.

    On `shapes`, the default, it is a rehearsal of minutes with small models. With --dataset and
    --root, students are trained as published. Figures are kept in the run's folder papers/, so an
    interrupted command continues.
    """
    from flows.papers.show import list_rows, list_tables, show_table, write_table
    from flows.papers.tables import TABLES

    if table is None:
        list_tables(console)
        return
    if table not in TABLES:
        raise ConfigError(f"table {table!r}: unknown; expected one of {', '.join(TABLES)}")
    if list_all:
        list_rows(console, table)
        return
    chosen = TABLES[table].rows
    for name in rows or ():
        if name not in chosen:
            raise ConfigError(f"--row {name!r}: unknown; expected one of {', '.join(chosen)}")
    words = [*(arguments or ()), *([given("device", device)] if device else [])]
    first = resolve_run(words, config, dataset, root, split, out)

    def configured(model: str) -> RunConfig:
        from flows.papers.settings import settings_of, without_others

        own = settings_of(model, rehearsal=first.dataset.name == "shapes")
        mine = with_settings(without_others(model, words), own)
        return resolve_run(mine, config, dataset, root, split, out)

    measured = first
    if on is not None:
        measured = resolve_run((), config, on, on_root, None, None)
    found = _measure(first, measured, configured, {n: chosen[n] for n in rows or chosen}, seeds, of)
    failed = any(len(each) < seeds for each in found.values())
    if as_json:
        write_table(console, TABLES[table], found)
        raise typer.Exit(int(failed))
    data = measured.dataset.name
    note = f"Measured on {of} of {data}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    if first.dataset.name == "shapes":
        note += "; a rehearsal: small models on rendered videos, not comparable with the paper's"
    show_table(console, table, TABLES[table], found, data, note)
    raise typer.Exit(int(failed))


def _measure(
    first: RunConfig,
    measured: RunConfig,
    configured: Callable[[str], RunConfig],
    rows: Mapping[str, Row],
    seeds: int,
    of: str,
) -> dict[str, list[Mapping[str, float]]]:
    """Returns the figures of rows by seed, from the results of before where they are there.

    Seed by seed, so that what is cut off has all rows of the first seeds. A student that cannot be
    trained is named, and the others go on.
    """
    from flows.context import RunContext
    from flows.dataset import prepare_dataset
    from flows.papers.measure import Bench
    from flows.papers.results import Results
    from flows.planning.run_paths import RunPaths

    for each in (first, measured):
        prepare_dataset(each, partial(say, errors))
    folder = RunPaths(first.run_folder).folder / "papers"
    bench = Bench(configured, RunContext(measured).reader(of), folder)
    bench.check(rows)
    kept = Results(folder / "results.json")
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in rows}
    for seed in range(seeds):
        for name, row in rows.items():
            key, start = bench.key(row, seed), time.monotonic()
            figures = kept.read(key)
            if figures is None:
                try:
                    figures = bench.figures(row, seed)
                except PseudoLabelError as error:
                    say(errors, f"{name}, seed {seed}: {error}", "red", label="failed")
                    continue
                kept.add(key, f"{name}, seed {seed}", figures)
                took = time.monotonic() - start
                say(errors, f"{name}, seed {seed}: J&F {figures['J&F']:.1f}, {took:.0f} s")
            found[name].append(figures)
    return found
