"""A run over the tiny data set with stand-ins for the models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

from flows.commands.run import run_all
from flows.context import RunContext
from flows.labelling.executor import InProcess, Summary, execute
from flows.labelling.opened_run import opened_run
from flows.planning.plan import Plan
from flows.planning.stage_selection import scope_of
from flows.progress import Silent
from pipeline.config import RunConfig, load_config
from tests.fakes.dataset import write_dataset
from tests.fakes.stages import Loaded, fake_parts


def _in_process(context: RunContext, api: str) -> Summary:
    return execute(context, InProcess(context))


class Site:
    """A data set, an output folder, and runs on them.

    Attributes:
        loaded: models that were loaded, in order.
        shown: what the last run printed.
    """

    def __init__(self, folder: Path) -> None:
        self.data = write_dataset(folder / "data", 4)
        self.out = folder / "runs"
        self.weights = folder / "weights.bin"
        self.weights.write_bytes(b"weights")
        self.loaded = Loaded()
        self.shown = ""

    @property
    def folder(self) -> Path:
        return self.out / "refytvos-train"

    def config(self, *overrides: str) -> RunConfig:
        return load_config(
            None,
            [
                "dataset.name=refytvos",
                f'dataset.root="{self.data}"',
                f'out="{self.out}"',
                "augment.source=lexicon",
                "student.enabled=false",
                "shard_videos=2",
                "report.width=64",
                *overrides,
            ],
        )

    def run(
        self,
        *overrides: str,
        retry_skipped: bool = False,
        from_stage: str | None = None,
        to_stage: str | None = None,
        forget_missing: bool = False,
        prefect: bool = False,
        **parts: Any,
    ) -> Plan:
        """Does a run as the command does; without Prefect unless it is asked for, which is slow."""
        config = self.config(*overrides)
        name = "flows.orchestration.labelling_flow.run_with_prefect"
        flow = nullcontext() if prefect else mock.patch(name, _in_process)
        console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        try:
            with flow:
                return run_all(
                    config,
                    console,
                    retry_skipped,
                    fake_parts(self.weights, self.loaded, **parts),
                    scope_of(config, from_stage, to_stage),
                    forget_missing,
                )
        finally:
            self.shown = console.export_text()
            console.file.close()


HOSTILE = "the red <script>alert(1)</script> & 'square'"


class _Collects(Silent):
    """Progress that keeps what is said."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, text: str, style: str = "") -> None:
        self.lines.append(text)


def finish(site: Site, from_stage: str | None = None, **changes: Any) -> tuple[Plan, str]:
    """Does what is left of a run, without Prefect. Returns its plan, and what it said."""
    said: list[str] = []
    parts = fake_parts(site.weights, site.loaded, **changes)
    scope = scope_of(site.config(), from_stage, None)
    with opened_run(site.config(), said.append, parts=parts, scope=scope) as context:
        context.progress = _Collects(said)
        execute(context, InProcess(context))
        return context.the_plan, "\n".join(said)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A finished run over the tiny data set, one sentence of which is markup."""
    made = Site(tmp_path_factory.mktemp("finished"))
    path = made.data / "meta_expressions" / "train" / "meta_expressions.json"
    path.write_text(path.read_text().replace("the red square", HOSTILE))
    finish(made)
    return made


@pytest.fixture
def ran(finished: Site, tmp_path: Path) -> Site:
    """A copy of the finished run, of the same data set."""
    made = copy(finished)
    made.out, made.loaded = tmp_path / "runs", Loaded()
    shutil.copytree(finished.out, made.out)
    return made


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of the test session alone; telemetry and logs are off."""
    import os

    from flows.orchestration.servers import server

    home = tmp_path_factory.mktemp("prefect")
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_HOME"] = str(home)
    server.quiet(os.environ)
    try:
        url = server.ensure()
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()
        os.environ["PREFECT_HOME"] = str(home)
        server.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def site(tmp_path: Path, prefect_server: str) -> Site:
    return Site(tmp_path)
