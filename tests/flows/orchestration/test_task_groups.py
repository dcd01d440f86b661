from typing import Any

import httpx
import pytest

from flows.orchestration import task_groups
from flows.orchestration.task_groups import MOST_TASK_RUNS, groups_of, name_of, task_runs
from flows.planning.plan import Job, Plan
from flows.planning.shards import Shard
from storage.run.ledger import Ledger
from tests.flows.conftest import Site


def jobs(count: int, stage: str = "ground") -> list[Job]:
    return [Job(stage, Shard(f"{number:05d}", (f"v{number}",)), "f") for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, MOST_TASK_RUNS, MOST_TASK_RUNS + 1, 30_000])
def test_every_job_is_in_one_group_and_groups_are_few(count: int) -> None:
    made = list(groups_of(jobs(count)))
    assert [job for group in made for job in group] == jobs(count)
    assert len(made) == min(count, len(made)) <= MOST_TASK_RUNS
    if count <= MOST_TASK_RUNS:
        assert all(len(group) == 1 for group in made)


def test_a_group_is_named_by_its_first_and_last_shard() -> None:
    assert name_of(jobs(1)) == "ground 00000"
    assert name_of(jobs(60)) == "ground 00000–00059"


def test_a_plan_of_very_many_shards_is_a_few_thousand_task_runs() -> None:
    stages = ("augment", "ground", "segment", "track", "fuse", "rank")
    whole = [Job(stage, Shard("all", ()), "f") for stage in ("merge", "evaluate", "report")]
    plan = Plan(
        (), {**{s: tuple(jobs(2_000, s)) for s in stages}, **{j.stage: (j,) for j in whole}}
    )
    assert task_runs(plan) == 6 * MOST_TASK_RUNS + 3


def test_jobs_of_a_group_share_a_task_run_and_fail_alone(
    site: Site, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_groups, "MOST_TASK_RUNS", 1)
    real, calls = Ledger.commit, []

    def commit(ledger: Ledger, receipt: Any, places: Any = ()) -> None:
        calls.append((receipt.stage, receipt.shard))
        if (receipt.stage, receipt.shard) == ("track", "00000") and calls.count(calls[-1]) == 1:
            raise RuntimeError("out of luck")
        real(ledger, receipt, places)

    monkeypatch.setattr(Ledger, "commit", commit)
    site.run("maximum_failed_share=0.9", prefect=True)
    ledger = Ledger(site.folder)
    assert [item.shard for item in ledger.each("rank")] == ["00001"]

    def post(path: str, **content: Any) -> Any:
        return httpx.post(f"{prefect_server}{path}", json=content, timeout=30).json()

    run = next(
        item
        for item in post("/flow_runs/filter", sort="START_TIME_DESC", limit=20)
        if str(site.folder) in item["name"]
    )
    found = post("/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    states = {item["name"]: (item["state"]["type"], item["state"]["message"]) for item in found}
    assert states["ground 00000–00001"][0] == "COMPLETED"
    kind, message = states["track 00000–00001"]
    assert kind == "FAILED"
    assert message == "1 of 2 shards failed, the first: RuntimeError: out of luck"
    assert states["rank 00001"][0] == "COMPLETED"
    assert len([name for name in states if name.startswith("segment")]) == 1
    assert not site.run("maximum_failed_share=0.9").pending("segment")
    assert [item.shard for item in ledger.each("rank")] == ["00000", "00001"]
