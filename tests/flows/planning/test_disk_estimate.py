"""How much more a run will write, by what is there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.planning.disk_estimate import bytes_left, disk_forecast, disk_in_the_end
from flows.planning.plan import Job, Plan, Shard
from pipeline.types import Receipt
from storage.run.ledger import Ledger


def plan(ledger: Ledger, **stages: tuple[int | None, ...]) -> Plan:
    """For each stage the bytes of each shard of two videos, or None for one that is due."""
    jobs: dict[str, tuple[Job, ...]] = {}
    for stage, sizes in stages.items():
        made = []
        for number, size in enumerate(sizes):
            shard, receipt = Shard(f"{number:05d}", (f"a{number}", f"b{number}")), None
            if size is not None:
                files = {"x": f"{size // 2} {0:032x}", "y": f"{size // 2} {0:032x}"}
                receipt = Receipt(stage, shard.name, "", shard.videos, files=files)
                ledger.commit(receipt)
            made.append(Job(stage, shard, "", "done" if receipt else "due", receipt=receipt))
        jobs[stage] = tuple(made)
    return Plan((), jobs, stages=tuple(stages))


def test_what_is_left_takes_as_much_a_video_as_what_is_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    left = bytes_left(plan(ledger, segment=(400, 800, None, None), fuse=(None,) * 4), ledger)
    assert left == {"segment": 1200}, "nothing is known of fuse"


def test_what_is_made_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    made = plan(ledger, segment=(400, 800))
    again = tuple(Job("segment", job.shard, "new", "due", receipt=job.receipt)
                  for job in made.jobs["segment"])  # fmt: skip
    assert bytes_left(Plan((), {"segment": again}, stages=("segment",)), ledger) == {}


def test_a_run_that_will_not_fit_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "run")
    made = plan(ledger, segment=(3_000_000_000, None), fuse=(1_000_000_000, None))
    for free, remedy in ((9e9, ""), (3.5e9, " Free some space, or set out to another disk.")):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda place, free=free: SimpleNamespace(free=free)
        )
        assert disk_forecast(made, ledger, tmp_path / "run" / "new") == (
            "About 4.0 GB more will be written, 3.0 GB of it by segment;"
            f" {free / 1e9:.1f} GB are free at {tmp_path / 'run'}.{remedy}"
        )
    assert disk_forecast(plan(ledger, segment=(3000, None)), ledger, tmp_path) == ""


def test_both_ways_to_keep_are_compared(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    stages = dict.fromkeys(("augment", "ground", "track", "rank"), (2_000_000, None))
    made = plan(ledger, segment=(800_000_000, None), fuse=(200_000_000, None), **stages)
    for stage in ("segment", "fuse"):
        receipt = ledger.receipt(stage, "00000")
        assert receipt is not None
        files = {f"{stage}/00000.zarr/{name}": mark for name, mark in receipt.files.items()}
        ledger.commit(replace(receipt, files=files))
    words = 'Disk space of finished shards: 2.0 GB with keep="all", 16.0 MB with keep="masks".'
    assert disk_in_the_end(made, ledger) == words
    # What was released counts as before.
    receipt = ledger.receipt("segment", "00000")
    assert receipt is not None
    ledger.commit(replace(receipt, files={}, released=800_000_000))
    assert disk_in_the_end(made, ledger) == words
    assert disk_in_the_end(plan(ledger, segment=(None,)), ledger) == ""


def test_what_was_released_takes_room_when_it_is_made_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    made = plan(ledger, segment=(400, 800))
    jobs = []
    for job, state in zip(made.jobs["segment"], ("due", "done"), strict=True):
        assert job.receipt is not None
        receipt = replace(job.receipt, released=600, files={})
        ledger.commit(receipt)
        jobs.append(replace(job, receipt=receipt, state=state))
    again = Plan((), {"segment": tuple(jobs)}, stages=("segment",))
    assert bytes_left(again, ledger) == {"segment": 600}
