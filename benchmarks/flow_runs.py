"""Several runs at once on one Prefect server: task runs, lost states, and seconds.

    PREFECT_API_URL=http://HOST:4200/api .venv/bin/python -m benchmarks.flow_runs together

Each run is a process of its own with fake stages (`benchmarks/scale.py`), whose jobs go through the
executor, the ledger and Prefect as in a run. In the end the server is asked for all flow runs and
task runs. It writes states of task runs some time after it got them, so they are awaited as long as
there are more. Ends with 1 if one of them is missing or not *Completed*. With another database than
SQLite, start the server with PREFECT_API_DATABASE_CONNECTION_URL (docs/cluster.md).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from benchmarks.scale import context_of, use_fake_stages
from flows.orchestration.task_groups import task_runs
from flows.planning.commit import commit_plan
from flows.planning.stage_selection import Scope
from flows.planning.stages import SHARD_STAGES
from storage.run.lock import RunLock

app = typer.Typer(add_completion=False)

_PAGE = 200
_QUIET_SECONDS = 60.0
"""Without a further state for so long, the server has written all that it got."""


@app.command(hidden=True)
def work(folder: Path, videos: int) -> None:
    """Does one run, of a shard for each video."""
    from flows.orchestration.labelling_flow import run_with_prefect

    context = context_of(folder, videos, shard_videos=1)
    use_fake_stages()
    with RunLock(context.paths.folder):
        context.plan = plan = context.make_plan(scope=Scope(SHARD_STAGES))
        commit_plan(context.config, plan, ())
        asked = task_runs(plan, SHARD_STAGES)
        run_with_prefect(context, os.environ["PREFECT_API_URL"])
    print(json.dumps({"folder": str(context.paths.folder), "task runs": asked}))


@app.command()
def together(
    runs: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 2,
    videos: Annotated[int, typer.Option(min=1, help="Videos, and so shards, of each.")] = 170,
) -> None:
    api = os.environ["PREFECT_API_URL"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, "-m", "benchmarks.flow_runs", "work"]
        processes = [
            subprocess.Popen(
                [*words, str(_folder(Path(place), number)), str(videos)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(runs)
        ]
        said = [process.communicate()[0].splitlines()[-1] for process in processes]
    seconds = time.perf_counter() - start
    expected = [json.loads(line) for line in said]
    found = [_settled(api, item["folder"], item["task runs"]) for item in expected]
    late = time.perf_counter() - start - seconds
    asked = sum(item["task runs"] for item in expected)
    print(f"{runs} runs at once, {asked} task runs asked for, {seconds:.0f} s")
    print(f"  the server had written their states {late:.0f} s later")
    for item, (kind, states) in zip(expected, found, strict=True):
        print(f"  {item['folder']}: flow run {kind}, task runs {dict(states)}")
    whole = all(
        kind == "COMPLETED" and states == {"COMPLETED": item["task runs"]}
        for item, (kind, states) in zip(expected, found, strict=True)
    )
    if not whole:
        raise typer.Exit(1)


def _folder(place: Path, number: int) -> Path:
    folder = place / str(number)
    folder.mkdir()
    return folder


def _settled(api: str, folder: str, asked: int) -> tuple[str, Counter[str]]:
    """Waits until all task runs of a folder are completed, or nothing more comes."""
    found, since = _states(api, folder), time.monotonic()
    while found[1]["COMPLETED"] < asked and time.monotonic() - since < _QUIET_SECONDS:
        time.sleep(2)
        now = _states(api, folder)
        if now != found:
            found, since = now, time.monotonic()
    return found


def _states(api: str, folder: str) -> tuple[str, Counter[str]]:
    """Returns the state of the flow run of a folder, and of its task runs their number by state."""
    runs = _post(api, "/flow_runs/filter", flow_runs={"name": {"like_": folder}})
    states: Counter[str] = Counter()
    for item in runs:
        chosen = {"id": {"any_": [item["id"]]}}
        offset = 0
        while page := _post(
            api, "/task_runs/filter", flow_runs=chosen, offset=offset, limit=_PAGE, sort="ID_DESC"
        ):
            states.update(task["state"]["type"] for task in page)
            offset += len(page)
    return ", ".join(item["state"]["type"] for item in runs), states


def _post(api: str, path: str, **content: Any) -> Any:
    answer = httpx.post(f"{api}{path}", json=content, timeout=60)
    answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    app()
