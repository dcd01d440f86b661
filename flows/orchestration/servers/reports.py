"""Finds or starts the server of reports (:mod:`flows.orchestration.servers.report_app`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.orchestration.servers import server
from flows.orchestration.servers.background import Background, Server
from flows.orchestration.watching.known_runs import key_of

START_SECONDS = 30.0

REPORTS = Background(
    "pseudolabels-reports",
    "the server of reports",
    "flows.orchestration.servers.report_app {port}",
    4280,
)


def ensure(seconds: float = START_SECONDS) -> Server:
    """Returns the running server of reports, or a new one.

    Raises:
        ServerError: it does not start; the message names its log.
    """
    with REPORTS.one_at_a_time(seconds):
        return REPORTS.running() or REPORTS.start(_command, _environment, seconds)


def stop() -> Server | None:
    """Stops the server of reports. Returns it, or None if there is none."""
    return REPORTS.stop()


def address_of(run_folder: Path) -> str | None:
    """Returns the address of a run's report; None if no server of reports answers."""
    running = REPORTS.running()
    return None if running is None else f"{running.ui}/reports/{key_of(run_folder)}/"


def _command(port: int) -> list[str]:
    return [sys.executable, "-m", "flows.orchestration.servers.report_app", str(port)]


def _environment(url: str) -> Mapping[str, str]:
    environment = dict(os.environ)
    server.quiet(environment)
    # The process starts in another folder than this one.
    places = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment
