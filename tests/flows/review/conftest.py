"""A review of a copy of the finished run."""

from __future__ import annotations

import pytest

from flows.context import RunContext
from flows.review.session import Session
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site


@pytest.fixture
def session(ran: Site) -> Session:
    return Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
