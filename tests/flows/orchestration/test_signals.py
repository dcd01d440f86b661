"""Runs as processes of their own: stopped by signals, and with a Prefect server that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.integrity.content_digest import content_digest
from flows.orchestration.servers import server
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from tests.fakes.dataset import write_dataset

ROOT = Path(__file__).resolve().parents[3]


class Command:
    """``tests.fakes.command`` on a data set of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.data, self.out = write_dataset(folder / "data", 4), folder / "runs"
        weights = folder / "weights.bin"
        weights.write_bytes(b"weights")
        self.environment = {**environment, "FAKE_WEIGHTS": str(weights), "PYTHONPATH": str(ROOT)}

    @property
    def folder(self) -> Path:
        return self.out / "refytvos-train"

    def start(self, *settings: str, **environment: str) -> subprocess.Popen[str]:
        words = ["run", "--dataset", "refytvos", "--root", str(self.data), "--out", str(self.out)]
        words += ["augment.source=lexicon", "student.enabled=false", "shard_videos=1"]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.command", *words, "report.width=64", *settings],
            env={**self.environment, **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}: {process.communicate()[1]}")


@pytest.fixture
def command(tmp_path: Path, prefect_server: str) -> Command:
    return Command(tmp_path, dict(os.environ))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a Prefect server of this test alone, which may be killed."""
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_HOME"] = str(tmp_path / "prefect")
    try:
        yield dict(os.environ)
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(
    ("number", "stage", "how", "code"),
    [
        (signal.SIGTERM, "segment", "60", 143),
        pytest.param(signal.SIGINT, "segment", "c", 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_in_ten_seconds_and_what_is_done_stays(
    command: Command, number: int, stage: str, how: str, code: int
) -> None:
    process = command.start(FAKE_HANG=f"{stage}:{how}")
    wait_for_line(process, f"in {stage}")
    time.sleep(0.5)
    process.send_signal(number)
    started = time.monotonic()
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == code
    assert told.count("Continue with:\n  pseudolabels run") == 1
    assert "Traceback" not in told
    ledger = Ledger(command.folder)
    assert len(ledger.receipts("augment")) == 4
    assert ledger.receipts(stage) == []
    assert not list(command.folder.rglob("*.partial")) or how == "c"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["track", "judge"])
def test_a_kill_costs_the_shard_in_hand_alone(command: Command, stage: str) -> None:
    judge = ("judge.source=stand_in", "judge.below=9")
    process = command.start(*judge, FAKE_HANG=f"{stage}:60")
    wait_for_line(process, f"in {stage}")
    process.kill()
    process.communicate()
    ledger = Ledger(command.folder)
    assert len(ledger.receipts("segment")) == 4 and ledger.receipts(stage) == []
    command.start(*judge).communicate(timeout=120)
    after, command.out = content_digest(command.folder), command.out.with_name("undisturbed")
    process = command.start(*judge)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert content_digest(command.folder) == after
    [asked, *_] = Ledger(command.folder).receipts("judge")
    assert asked.counts["questions"] > 0


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(command: Command) -> None:
    process = command.start(FAKE_HANG="ground:c")
    wait_for_line(process, "in ground")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - started < 2
    assert process.returncode == 130


@pytest.mark.slow
def test_a_signal_while_the_server_starts_ends_it_as_well(
    command: Command, own_server: dict[str, str], tmp_path: Path
) -> None:
    command.environment = {**command.environment, **own_server}
    del command.environment["PREFECT_API_URL"]
    process = command.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "prefect" / "pseudolabels-server.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "Continue with:" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("ours", "it was started again"),
        pytest.param("forget", "continues without it", marks=pytest.mark.slow),
    ],
)
def test_a_killed_prefect_server_stops_no_run(
    command: Command, own_server: dict[str, str], how: str, said: str
) -> None:
    command.environment = {**command.environment, **own_server}
    command.environment.pop("PREFECT_API_URL", None)
    process = command.start(FAKE_KILL_SERVER=how)
    shown, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert " ".join(shown.split()).count(said) == 1
    assert told == ""
    assert len(MaskStore(command.folder / "pseudomasks.zarr").videos()) == 4
    ledger = Ledger(command.folder)
    for stage in ("ground", "segment", "fuse", "rank"):
        assert [receipt.shard for receipt in ledger.receipts(stage)] == [
            f"{number:05d}" for number in range(4)
        ]
    assert json.loads((command.folder / "metrics.json").read_text())["pseudo_masks"]
