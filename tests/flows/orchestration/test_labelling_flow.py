"""The flow by itself, as a deployment or a notebook calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.logging.handlers import APILogHandler

from flows.orchestration.watching.flow_runs import PROCESS
from flows.orchestration.watching.known_runs import key_of
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.run.owner import Owner
from tests.flows.conftest import Site

ROOT = Path(__file__).resolve().parents[3]

CALL = """
import sys

from flows.orchestration.labelling_flow import label
from tests.fakes.stages import fake_parts
from pathlib import Path
import flows.labelling.opened_run
parts = fake_parts(Path(sys.argv[3]))
flows.labelling.opened_run.Parts = lambda: parts
state = label(
    dataset="refytvos", root=sys.argv[1], out=sys.argv[2], return_state=True,
    overrides=[
        "augment.source=lexicon", "student.enabled=false", "shard_videos=2", "report.width=64",
    ],
)
print(state.name, "|", state.message)
"""


@pytest.mark.slow
def test_the_flow_works_in_a_fresh_process_by_what_describes_a_run(site: Site) -> None:
    words = [str(site.data), str(site.out), str(site.weights)]
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Completed | 4 videos, 8 expressions: 36 of 40 frames have a mask" in done.stdout
    assert len(MaskStore(site.folder / "pseudomasks.zarr").videos()) == 4
    assert len(Ledger(site.folder).receipts("rank")) == 2
    assert not site.run().pending()


def test_a_run_says_in_the_ui_what_it_is_what_came_of_it_and_what_it_skipped(
    site: Site, prefect_server: str
) -> None:
    frame = site.data / "train" / "JPEGImages" / "clip01" / "00010.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    site.run(prefect=True)

    def post(path: str, **content: Any) -> Any:
        return httpx.post(f"{prefect_server}{path}", json=content, timeout=30).json()

    name = f"refytvos train in {site.folder}"
    [run] = post("/flow_runs/filter", flow_runs={"name": {"any_": [name]}})
    assert run["state_name"] == "Completed with 1 skipped"
    assert {"dataset:refytvos", "split:train"} <= {*run["tags"]}
    assert run["parameters"]["config"] == str(site.folder / "config.toml")
    assert (run["parameters"]["root"], run["parameters"]["out"]) == (str(site.data), str(site.out))
    assert Owner.of_text(run["labels"][PROCESS]).is_same_process(Owner.here())
    found = post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    content = {item["key"].removeprefix(f"{key_of(site.folder)}-"): item for item in found}
    assert {"outcome", "stages", "samples", "report", "progress-ground"} <= set(content)
    page = content["outcome"]["data"]
    assert "### Skipped videos (1)" in page
    assert "00010" in page
    assert "J\\&F" in page

    def lines() -> str:
        logs = post("/logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}})
        return "\n".join(line["message"] for line in logs)

    APILogHandler().flush()
    assert "skipped clip01: " in lines()
    assert "have a mask; the target is absent from" in lines()
