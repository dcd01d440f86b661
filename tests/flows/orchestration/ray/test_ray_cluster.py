"""Shards on Ray: refused where it cannot work; the same result as alone, whatever workers die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.faults import workers_doing
from flows.integrity.content_digest import content_digest
from flows.orchestration.ray import ray_cluster as cluster_module
from flows.orchestration.ray.ray_cluster import (
    check_runner,
    last_line,
    ray_cluster,
    with_absolute_paths,
    worker_count,
)
from flows.orchestration.servers import server
from pipeline.config import RunConfig, config_from
from pipeline.errors import ConfigError, PseudoLabelError


def config(**runner: object) -> RunConfig:
    return config_from({"runner": {"kind": "ray"} | runner, "device": "cpu"}, "the test")


def test_ray_that_is_not_installed_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="make setup-ray"):
        check_runner(config())
    check_runner(RunConfig())


def test_machines_of_a_cluster_need_absolute_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster_module, "find_spec", lambda name: name)
    asked = config(address="ray://head:10001")
    with pytest.raises(ConfigError, match=r"out is runs; expected an absolute path.*ray://head"):
        check_runner(asked)
    asked = asked.model_copy(update={"out": tmp_path})
    check_runner(asked)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_runner(config())
    student = asked.student.model_copy(update={"start": Path("students/first")})
    with pytest.raises(
        ConfigError, match=r"student\.start is students/first; expected an absolute"
    ):
        check_runner(asked.model_copy(update={"student": student}))


def test_a_worker_elsewhere_finds_every_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {
        "out": "runs",
        "dataset": {"root": "data"},
        "augment": {"checkpoint": "captioner", "file": "texts.json"},
        "ground": {"checkpoint": "dino.pth", "text_encoder": "bert", "adapter": "adapter.st"},
        "segment": {"checkpoint": "sam.pth"},
        "student": {
            "start": "first",
            "masks": "masks.zarr",
            "encoders": {
                "backbone": "resnet50",
                "backbone_checkpoint": "resnet.pth",
                "text_encoder": "roberta",
            },
        },
    }

    def absolute(value: object) -> object:
        if isinstance(value, dict):
            return {name: absolute(item) for name, item in value.items()}
        return str(value) if value == "resnet50" else str(tmp_path / str(value))

    found = with_absolute_paths(config_from(paths, "the test"))
    assert found == config_from(absolute(paths), "the test")  # type: ignore[arg-type]
    plain = with_absolute_paths(RunConfig())
    assert plain == RunConfig(out=tmp_path / "runs"), "the demo's models lie with the project"


def test_a_training_that_says_nothing_of_its_end_is_named_by_its_error() -> None:
    assert last_line(RuntimeError("")) == "RuntimeError"
    assert last_line(RuntimeError("one\ntwo\n")) == "two"


def failing_ray(monkeypatch: pytest.MonkeyPatch, failures: int) -> list[str]:
    """A Ray that does not start at first; gives the calls that it gets."""
    calls: list[str] = []

    def init(address: str | None, **settings: object) -> None:
        calls.append(f"init {address}")
        if len(calls) < 2 * failures:
            raise RuntimeError("many words\nthe node timed out")

    shutdown = lambda: calls.append("shutdown")  # noqa: E731
    fake = SimpleNamespace(init=init, shutdown=shutdown, __version__="2.9")
    monkeypatch.setitem(sys.modules, "ray", fake)
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "0")  # So that both are as before when the test is over.
    return calls


def test_ray_that_is_late_on_a_busy_machine_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = failing_ray(monkeypatch, failures=2)
    with ray_cluster(config()):
        assert calls == ["init local", "shutdown"] * 2 + ["init local"]
    assert calls[-1] == "shutdown"


def test_ray_that_does_not_start_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing_ray(monkeypatch, failures=9)
    with (
        pytest.raises(PseudoLabelError, match=r"Ray did not start .*\(the node timed out\).*again"),
        ray_cluster(config()),
    ):
        pass
    assert calls == ["init local", "shutdown"] * 3


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing_ray(monkeypatch, failures=9)
    with (
        pytest.raises(PseudoLabelError, match=r"ray://head:10001 cannot be joined .*Ray 2\.9"),
        ray_cluster(config(address="ray://head:10001")),
    ):
        pass
    assert calls == ["init ray://head:10001", "shutdown"]


def test_two_workers_without_a_gpu_unless_asked_for() -> None:
    assert worker_count(config()) == 2
    assert worker_count(config(workers=5)) == 5


def command(out: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    settings = ["shard_videos=1", "shapes.train_videos=3", "shapes.valid_videos=1"]
    settings += ["student.enabled=false", "device=cpu"]
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "flows.commands.main",
            "run",
            "--out",
            str(out),
            *options,
            *settings,
        ],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home whose server ends with the tests."""
    home = tmp_path_factory.mktemp("prefect")
    yield home
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        server.stop()


LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
"""127.0.0.1, the same as IPv6 writes it, and ::1, as the system's tables write them."""


def open_to_others() -> set[str]:
    """Listening sockets of this machine that are not on the loopback address."""
    lines = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
    ]
    listening = {line[1] for line in lines if line[3] == "0A"}
    return {place for place in listening if not place.startswith(LOOPBACK)}


@pytest.mark.slow
def test_two_ray_workers_one_of_which_dies_give_the_digest_of_one_process(
    tmp_path: Path, home: Path
) -> None:
    pytest.importorskip("prefect_ray")
    alone = command(tmp_path / "alone", home)
    said, _ = alone.communicate(timeout=600)
    assert alone.returncode == 0, said

    before = open_to_others()
    shared = command(tmp_path / "shared", home, "--runner", "ray", "--workers", "2")
    deadline = time.monotonic() + 300
    while not (busy := workers_doing("ground")):
        assert shared.poll() is None and time.monotonic() < deadline, shared.communicate()[0]
        time.sleep(0.05)
    assert open_to_others() <= before
    os.kill(busy[0], signal.SIGKILL)
    said, _ = shared.communicate(timeout=600)
    assert shared.returncode == 0, said
    assert "its worker was lost; another does it" in said
    runs = [tmp_path / name / "shapes-train" for name in ("alone", "shared")]
    assert len({content_digest(run) for run in runs}) == 1
    assert not workers_doing("")


def test_a_folder_too_deep_for_rays_sockets_is_named_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "find_spec", lambda name: name)
    deep = "/tmp/" + "deep/" * 20
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_runner(config())
    monkeypatch.setenv("RAY_TMPDIR", deep)
    with pytest.raises(ConfigError, match="set RAY_TMPDIR"):
        check_runner(config())
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr("tempfile.tempdir", deep)
    with pytest.raises(ConfigError, match="too long a path"):
        check_runner(config())
    check_runner(config(address="auto").model_copy(update={"out": Path("/runs")}))
