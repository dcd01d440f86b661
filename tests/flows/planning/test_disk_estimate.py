"""How much more a run will write, by what is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.planning.disk_estimate import bytes_left, disk_forecast
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
