"""A Ray cluster of three machines, one of which goes away. They are namespaces of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import workers_doing
from flows.integrity.content_digest import content_digest

COUNT = 3
SECONDS = 600.0
STARTS = 3
RAY_PORT, PREFECT_PORT = 6379, 4300


def ip(words: str) -> str:
    done = subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
    return done.stdout


class Machines:
    """Machines 1, 2, … with an address, a name and a temporary folder of Ray each, and a switch."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._tag = folder, f"pl{os.getpid() % 10_000}"
        self._switch = f"{self._tag}s"
        self.started: list[subprocess.Popen[str]] = []
        ip(f"netns add {self._switch}")
        ip(f"-n {self._switch} link add br0 type bridge")
        ip(f"-n {self._switch} link set br0 up")
        for number in range(1, COUNT + 1):
            name, port = self.name(number), f"p{number}"
            ip(f"netns add {name}")
            ip(f"-n {name} link add v0 type veth peer name {port} netns {self._switch}")
            ip(f"-n {self._switch} link set {port} master br0 up")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} addr add {self.address(number)}/24 dev v0")
            ip(f"-n {name} link set v0 up")
            ip(f"-n {name} route add default dev v0")

    def name(self, number: int) -> str:
        return f"{self._tag}m{number}"

    def address(self, number: int) -> str:
        return f"10.77.0.{number}"

    def start(self, number: int, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a command on a machine."""
        ray, log = self._folder / f"ray{number}", self._folder / f"machine{number}.log"
        ray.mkdir(exist_ok=True)
        # Ray's sockets need a short path: each machine sees a folder of its own as /tmp/ray.
        Path("/tmp/ray").mkdir(exist_ok=True)
        own = f'hostname {self.name(number)}; mount --bind {ray} /tmp/ray; exec "$@"'
        entered = ["ip", "netns", "exec", self.name(number), "unshare", "--mount", "--uts"]
        with log.open("a") as file:
            process = subprocess.Popen(
                [*entered, "sh", "-c", own, "sh", *command],
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
                | {"RAY_worker_niceness": "0", "RAY_gcs_server_request_timeout_seconds": "120"}
                | {"PREFECT_HOME": str(self._folder / "prefect")}
                | variables,
                stdout=file if "run" not in command else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(process)
        return process

    def processes(self, number: int) -> set[int]:
        return set(map(int, ip(f"netns pids {self.name(number)}").split()))

    def stop(self, number: int) -> None:
        """Ends everything on a machine at once."""
        for process in self.processes(number):
            os.kill(process, signal.SIGKILL)

    def remove(self) -> None:
        for number in range(1, COUNT + 1):
            self.stop(number)
        for process in self.started:
            process.wait()
        for name in (*map(self.name, range(1, COUNT + 1)), self._switch):
            ip(f"netns del {name}")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("needs root, ip of iproute2, and unshare")
    found = Machines(tmp_path)
    yield found
    found.remove()


def until(what: Callable[[], Any], seconds: float = SECONDS, pause: float = 0.2) -> Any:
    """Waits until something is so, and returns it; a false value where it is never so."""
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


def cluster(machines: Machines) -> str:
    """Starts Ray on one machine after the other; its address."""
    ray = str(Path(sys.executable).with_name("ray"))
    place = f"{machines.address(1)}:{RAY_PORT}"
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--block"]
    asked = ["ip", "netns", "exec", machines.name(1), ray, "status", "--address", place]

    def joined() -> int:
        done = subprocess.run(asked, check=False, capture_output=True, text=True)
        return done.stdout.count(" 1 node_")

    for number in range(1, COUNT + 1):
        how = [f"--address={place}"]
        if number == 1:
            how = ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
        how += [f"--node-ip-address={machines.address(number)}", *common]
        for _ in range(STARTS):
            node = machines.start(number, ray, "start", *how)
            until(lambda node=node, number=number: node.poll() or joined() == number, 120, 3)
            if node.poll() is None:
                break
            # Ray gives a node half a minute, which is too little where all cores are busy.
            machines.stop(number)
    assert joined() == COUNT
    return place


@pytest.mark.slow
def test_a_machine_that_goes_away_costs_nothing(tmp_path: Path, machines: Machines) -> None:
    pytest.importorskip("prefect_ray")
    settings = ["shard_videos=1", "shapes.train_videos=6", "shapes.valid_videos=1", "device=cpu"]
    settings += ["student.enabled=false"]
    ours = [sys.executable, "-m", "flows", "run", *settings, "--out"]
    alone = machines.start(1, *ours, str(tmp_path / "alone"))
    said, _ = alone.communicate(timeout=SECONDS)
    assert alone.returncode == 0, said

    shared = [*ours, str(tmp_path / "shared"), "--runner", "ray"]
    shared += [f"runner.address={cluster(machines)}"]
    refused = machines.start(1, *shared)
    said, _ = refused.communicate(timeout=SECONDS)
    assert refused.returncode == 2 and "cannot reach the Prefect server of this machine" in said

    api = f"http://{machines.address(1)}:{PREFECT_PORT}/api"
    serve = [sys.executable, "-m", "prefect", "server", "start", "--host", machines.address(1)]
    machines.start(1, *serve, "--port", str(PREFECT_PORT), PREFECT_API_URL=api)
    health = ["ip", "netns", "exec", machines.name(1), sys.executable, "-c"]
    health += [f"import httpx; httpx.get('{api}/health').raise_for_status()"]
    assert until(lambda: subprocess.run(health, check=False, capture_output=True).returncode == 0)
    run = machines.start(1, *shared, PREFECT_API_URL=api)
    assert until(lambda: machines.processes(COUNT).intersection(workers_doing("ground")))
    machines.stop(COUNT)
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, said
    assert "its worker was lost; another does it" in said
    runs = [tmp_path / name / "shapes-train" for name in ("alone", "shared")]
    assert len({content_digest(run) for run in runs}) == 1
