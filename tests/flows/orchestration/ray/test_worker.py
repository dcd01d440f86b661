"""The work of a Ray worker, without Ray."""

from typing import Any

import pytest

from flows.context import RunContext
from flows.orchestration import limits
from flows.orchestration.limits import Limits, gpu_limit
from flows.orchestration.ray import worker
from flows.orchestration.ray.worker import GroupFailedError, do_group, job_as_sent
from pipeline.errors import NoRoomError
from storage.run.ledger import Ledger
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site


@pytest.fixture
def sent(ran: Site, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs of `rank`, without their receipts."""
    context = RunContext(ran.config(), fake_parts(ran.weights))
    plan = context.make_plan()
    for job in plan.jobs["rank"]:
        Ledger(ran.folder).withdraw("rank", job.shard.name)
    monkeypatch.setattr(worker, "_shop_of", lambda folder: context)
    monkeypatch.setattr(worker, "_limits_of", lambda folder, stage: Limits({}))
    return [job_as_sent(job) for job in plan.jobs["rank"]]


def test_a_group_is_done_and_a_lost_workers_shards_are_not_done_again(
    ran: Site, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    do_group(sent[:1], str(ran.folder))
    before = Ledger(ran.folder).receipt("rank", "00000")
    do_group(sent, str(ran.folder))
    assert Ledger(ran.folder).receipt("rank", "00000") == before
    assert Ledger(ran.folder).receipt("rank", "00001") is not None
    # A job that comes alone is due, whatever its receipt says.
    done: list[str] = []
    monkeypatch.setattr(worker, "do_job", lambda job, context: done.append(job.shard.name))
    do_group(sent[:1], str(ran.folder))
    assert done == ["00000"]


def test_a_shard_that_fails_does_not_stop_its_group_but_a_full_disk_does(
    ran: Site, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fails(error: Exception) -> Any:
        def do(job: Any, context: RunContext) -> None:
            tried.append(job.shard.name)
            raise error

        return do

    monkeypatch.setattr(worker, "do_job", fails(RuntimeError("out of luck")))
    with pytest.raises(GroupFailedError, match="2 of 2 shards failed, the first: out of luck"):
        do_group(sent, str(ran.folder))
    assert tried == ["00000", "00001"]
    with pytest.raises(RuntimeError):
        do_group(sent[:1], str(ran.folder))
    tried.clear()
    monkeypatch.setattr(worker, "do_job", fails(NoRoomError("full")))
    with pytest.raises(NoRoomError):
        do_group(sent, str(ran.folder))
    assert tried == ["00000"]


def test_a_worker_holds_a_slot_of_its_own_machines_gpus(
    ran: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ran.config("runner.kind=ray", "device=cuda")
    monkeypatch.setattr(worker, "_shop_of", lambda folder: RunContext(config))
    monkeypatch.setattr(limits, "_exists", lambda name: True)
    worker._limits_of.cache_clear()
    held: list[str] = []

    class Slots:
        def __init__(self, names: list[str], occupy: int) -> None:
            held.extend(names)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(limits, "concurrency", Slots)
    with worker._limits_of("a run", "segment").slot("segment"):
        assert held == [gpu_limit()]
    with worker._limits_of("a run", "rank").slot("rank"):
        assert held == [gpu_limit()]
    worker._limits_of.cache_clear()
