"""A finished run over the tiny data set, made once, and copied for every test that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.context import RunContext
from flows.labelling.executor import InProcess, execute
from flows.labelling.opened_run import opened_run
from flows.review.session import Session
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site

HOSTILE = "the red <script>alert(1)</script> & 'square'"


def finish(site: Site) -> RunContext:
    """Does what is left of a run, without Prefect."""
    parts = fake_parts(site.weights)
    with opened_run(site.config(), lambda line: None, parts=parts) as context:
        execute(context, InProcess(context))
    return context


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("finished"))
    path = made.data / "meta_expressions" / "train" / "meta_expressions.json"
    path.write_text(path.read_text().replace("the red square", HOSTILE))
    finish(made)
    return made


@pytest.fixture
def ran(finished: Site, tmp_path: Path) -> Site:
    """A copy of the finished run."""
    made = object.__new__(Site)
    vars(made).update(vars(finished))
    made.out = tmp_path / "runs"
    shutil.copytree(finished.out, made.out)
    return made


@pytest.fixture
def session(ran: Site) -> Session:
    return Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
