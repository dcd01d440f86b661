"""The deployments, and flow runs that a real server starts, cancels and retries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.integrity.content_digest import content_digest
from flows.orchestration.servers import reports
from flows.orchestration.serving import SERVED, deployments
from flows.orchestration.watching.flow_runs import PROCESS, TAG
from storage.run.ledger import Ledger
from tests.flows.conftest import Site

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 90.0


def test_every_flow_has_a_form_with_help_defaults_and_drop_downs() -> None:
    found = {item.name: item for item in deployments()}
    assert set(found) == set(SERVED)
    for name, item in found.items():
        module, flow = SERVED[name]
        assert item.entrypoint == f"{module}.{flow}"
        assert item.tags == [TAG]
        # What was set in the UI stays.
        assert not {"schedules", "paused", "concurrency_limit"} & item.model_fields_set
        fields = item._parameter_openapi_schema.properties
        assert all(field["description"] for field in fields.values())
        assert item._parameter_openapi_schema.required == (["run"] if flow == "train" else [])
    fields = found["label-videos"]._parameter_openapi_schema.properties
    assert "refytvos" in fields["dataset"]["enum"]
    assert fields["from_stage"]["default"] == "what is due"
    assert fields["out"]["default"] == "runs"


def test_the_deployments_to_work_pools_name_flows_and_parameters_that_exist() -> None:
    content = yaml.safe_load((ROOT / "configs" / "prefect.yaml").read_text())
    kinds = set()
    for item in content["deployments"]:
        module, _, name = item["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        assert (module, name) in SERVED.values()
        assert set(item.get("parameters", {})) <= set(flow.parameters.properties)
        assert item["tags"] == [TAG]
        kinds.add(item["work_pool"]["name"].removeprefix("pseudolabels-"))
    assert kinds == {"process", "docker", "kubernetes"}


class Served:
    """A process that serves the flows to the Prefect server of the test session."""

    def __init__(self, site: Site, folder: Path, url: str) -> None:
        self.url = url
        self.site, self.hold, self.broken = site, folder / "hold", folder / "broken"
        self.environment = {
            **os.environ,
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(folder / "prefect"),
            "FAKE_WEIGHTS": str(site.weights),
            "FAKE_HOLD": str(self.hold),
            "FAKE_BROKEN": str(self.broken),
            "OMP_NUM_THREADS": "1",
        }
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.served", "serve"],
            env=self.environment,
            cwd=ROOT,
            start_new_session=True,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def api(self, path: str, **content: Any) -> Any:
        reply = httpx.post(f"{self.url}{path}", json=content, timeout=30)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def deployment(self, name: str) -> str:
        def find() -> Any:
            return [x for x in self.api("/deployments/filter") if x["name"] == name]

        return str(until(find)[0]["id"])

    def begin(self, name: str, **parameters: Any) -> str:
        place = f"/deployments/{self.deployment(name)}/create_flow_run"
        return str(self.api(place, parameters=parameters)["id"])

    def set_state(self, flow_run: str, **state: Any) -> None:
        self.api(f"/flow_runs/{flow_run}/set_state", state=state, force=True)

    def retry(self, flow_run: str) -> None:
        self.set_state(flow_run, type="SCHEDULED", name="AwaitingRetry")

    def read(self, flow_run: str) -> Any:
        [found] = self.api("/flow_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
        return found

    def wait_for(self, flow_run: str, state: str) -> Any:
        def found() -> Any:
            run = self.read(flow_run)
            return run if run["state_name"] == state else None

        try:
            return until(found)
        except AssertionError as error:
            run = self.read(flow_run)
            lines = self.lines(flow_run)
            raise AssertionError(f"{run['state_name']} is not {state}:\n{lines}") from error

    def wait_for_stage(self, flow_run: str, stage: str) -> None:
        def running() -> Any:
            wanted = {"flow_run_id": {"any_": [flow_run]}, "name": {"like_": stage}}
            tasks = self.api("/task_runs/filter", task_runs=wanted)
            return [task for task in tasks if task["state_name"] == "Running"]

        until(running)

    def lines(self, flow_run: str) -> str:
        logs = self.api("/logs/filter", logs={"flow_run_id": {"any_": [flow_run]}})
        return "\n".join(line["message"] for line in logs)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come to that")


@pytest.fixture
def served(site: Site, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    item = Served(site, site.out.parent, prefect_server)
    yield item
    if item.process.poll() is None:
        item.process.send_signal(signal.SIGINT)
        item.process.wait(60)
    monkeypatch.setenv("PREFECT_HOME", item.environment["PREFECT_HOME"])
    reports.stop()


def form(served: Served) -> dict[str, Any]:
    return {
        "dataset": "refytvos",
        "root": str(served.site.data),
        "out": str(served.site.out),
        "overrides": [
            *("augment.source=lexicon", "student.enabled=false", "shard_videos=2"),
            "report.width=64",
        ],
    }


@pytest.mark.slow
def test_a_run_from_the_form_is_cancelled_fails_and_is_retried_to_the_same_digest(
    served: Served, tmp_path: Path
) -> None:
    undisturbed = Site(tmp_path / "undisturbed")
    undisturbed.run()
    served.hold.touch()
    flow_run = served.begin("label-videos", **form(served))
    served.wait_for_stage(flow_run, "segment")
    ledger = Ledger(served.site.folder)
    grounded = ledger.receipt("ground", "00000")
    assert grounded is not None
    served.set_state(flow_run, type="CANCELLING")
    served.wait_for(flow_run, "Cancelled")
    until(lambda: f"pseudolabels resume {served.site.folder}" in served.lines(flow_run))
    assert ledger.receipts("segment") == []

    served.hold.unlink()
    served.broken.touch()
    served.retry(flow_run)
    failed = served.wait_for(flow_run, "Failed")
    assert failed["state"]["message"].startswith("sam.pth: truncated; expected a whole file")
    wanted = {"flow_run_id": {"any_": [flow_run]}, "state": {"type": {"any_": ["FAILED"]}}}
    [task] = served.api("/task_runs/filter", task_runs=wanted)
    assert task["state"]["message"] == failed["state"]["message"]
    until(lambda: "Traceback" in served.lines(flow_run))

    served.broken.unlink()
    served.retry(flow_run)
    completed = served.wait_for(flow_run, "Completed")
    assert completed["run_count"] == 3
    assert "36 of 40 frames have a mask" in completed["state"]["message"]
    assert ledger.receipt("ground", "00000") == grounded
    assert content_digest(served.site.folder) == content_digest(undisturbed.folder)
    tags = {"dataset:refytvos", "split:train", TAG}
    assert tags <= set(completed["tags"])
    keys = {"flow_run_id": {"any_": [flow_run]}}
    found = {item["key"]: item for item in served.api("/artifacts/filter", artifacts=keys)}
    [link] = [item["data"] for key, item in found.items() if key.endswith("-report")]
    address = link.split("(")[-1].rstrip(")")
    assert httpx.get(address).text == (served.site.folder / "report/index.html").read_text()


@pytest.mark.slow
def test_a_killed_run_is_crashed_at_the_next_start_and_goes_on(served: Served) -> None:
    served.hold.touch()
    flow_run = served.begin("label-videos", **form(served))
    served.wait_for_stage(flow_run, "segment")
    process = json.loads(served.read(flow_run)["labels"][PROCESS])["process"]
    served.kill()
    os.kill(process, signal.SIGKILL)
    assert served.read(flow_run)["state_name"] == "Running"
    served.hold.unlink()
    served.process = served.start()
    assert "resume" in served.wait_for(flow_run, "Crashed")["state"]["message"]
    listing = served.begin("resume-run")
    assert "1 run can go on" in served.wait_for(listing, "Completed")["state"]["message"]
    again = served.begin("resume-run", run=str(served.site.folder))
    served.wait_for(again, "Completed")
    assert not served.site.run().pending()


@pytest.mark.slow
def test_a_schedule_starts_flow_runs(served: Served) -> None:
    deployment = served.deployment("resume-run")
    schedule = {"schedule": {"interval": 60, "timezone": "UTC"}, "active": True}
    reply = httpx.post(f"{served.url}/deployments/{deployment}/schedules", json=[schedule])
    reply.raise_for_status()

    def scheduled() -> Any:
        found = served.api("/flow_runs/filter", deployments={"id": {"any_": [deployment]}})
        return [run for run in found if run["auto_scheduled"] and run["state_name"] == "Completed"]

    assert "can go on" in until(scheduled)[0]["state"]["message"]
    [made] = reply.json()
    httpx.delete(f"{served.url}/deployments/{deployment}/schedules/{made['id']}").raise_for_status()
