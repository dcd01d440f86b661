"""Joins the Ray cluster of a run, or starts one on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying, stop_after_attempt

from pipeline.config import RunConfig, Section
from pipeline.errors import ConfigError, PseudoLabelError
from storage.run.lock import TOKENS, held_tokens

if TYPE_CHECKING:
    from flows.orchestration.servers.connection import Connection

_STORE_BYTES = 100_000_000
"""Ray's object store: only names and states go through it."""

_SOCKET_BYTES = 103
_A_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What systems take of a socket's path (Linux 107), and what Ray puts after its folder."""

_STARTS = 3
"""Tries to start Ray on this machine."""


Configured = TypeVar("Configured", bound=Section)


def check_runner(config: RunConfig) -> None:
    """Raises ConfigError if Ray is needed and not installed, or if a path is relative and so would
    mean different places on the machines of a cluster.
    """
    if config.runner.kind == "local":
        return
    if find_spec("prefect_ray") is None or find_spec("ray") is None:
        raise ConfigError(
            "runner.kind is 'ray' and Ray is not installed; install it with `make setup-ray`, or"
            " leave --runner out"
        )
    if config.runner.address is None:
        _check_room_for_sockets()
        return
    for name, path in _paths_in(config):
        if not path.is_absolute():
            raise ConfigError(
                f"{name} is {path}; expected an absolute path that every machine of the Ray cluster"
                f" at {config.runner.address} sees; give one"
            )


def _check_room_for_sockets() -> None:
    """Raises ConfigError if the path of the temporary folder is too long for Ray's sockets."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    room = _SOCKET_BYTES - len(os.fsencode(_A_SOCKET))
    if len(os.fsencode(folder)) > room:
        raise ConfigError(
            f"{folder}: too long a path for Ray's sockets ({len(os.fsencode(folder))} bytes);"
            f" expected a folder for temporary files of at most {room}; set RAY_TMPDIR to a short"
            " one, such as /tmp"
        )


def with_absolute_paths(section: Configured) -> Configured:
    """Returns a configuration with absolute paths; ``demo:`` checkpoints stay."""
    changes: dict[str, Any] = {}
    for name, value in section:
        if isinstance(value, Section):
            changes[name] = with_absolute_paths(value)
        elif (path := _path_of(name, value)) is not None:
            changes[name] = type(value)(path.absolute())
    return section.model_copy(update=changes)


def _paths_in(section: Section, within: str = "") -> Iterator[tuple[str, Path]]:
    """Yields (name, path) of every setting that names a file or folder."""
    for name, value in section:
        if isinstance(value, Section):
            yield from _paths_in(value, f"{within}{name}.")
        elif (path := _path_of(name, value)) is not None:
            yield f"{within}{name}", path


def _path_of(name: str, value: object) -> Path | None:
    if name == "checkpoint" and isinstance(value, str) and not value.startswith("demo:"):
        return Path(value).expanduser()
    return value if isinstance(value, Path) else None


@contextmanager
def ray_cluster(config: RunConfig) -> Iterator[None]:
    """Joins the cluster of a configuration, or starts one here that ends with the block. Call it
    before Ray is imported.

    Raises:
        PseudoLabelError: the cluster does not answer, or does not start.
    """
    settings = _ray_settings(config)
    import ray

    address = config.runner.address
    # Ray gives its own server half a minute, which is too little where all cores are busy.
    starts = stop_after_attempt(_STARTS if address is None else 1)
    try:
        for attempt in Retrying(stop=starts, after=lambda state: ray.shutdown(), reraise=True):
            with attempt:
                # Without an address, Ray joins a cluster that someone started on this machine.
                ray.init(address or "local", **settings)
    except Exception as error:
        said = last_line(error)
        raise PseudoLabelError(
            f"Ray did not start on this machine ({said}); expected it within {_STARTS} tries; see"
            " whether cores and memory are free and run the same command again, or leave --runner"
            " out"
            if address is None
            else f"the Ray cluster at {address} cannot be joined ({said}); expected one of Ray"
            f" {ray.__version__} that runs; check runner.address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_reach(config: RunConfig, connection: Connection) -> None:
    """Does nothing where every machine of the joined cluster can reach the run's Prefect server.

    Raises:
        ConfigError: the server listens on this machine alone, and the cluster has other machines.
    """
    import ray

    nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    others = sorted(nodes - {ray.util.get_node_ip_address()})
    if others and connection.of_this_machine:
        raise ConfigError(
            f"the Ray cluster at {config.runner.address} has other machines, such as {others[0]},"
            " which cannot reach the Prefect server of this machine; expected a server for all of"
            " them; start one with `prefect server start --host ADDRESS` and set PREFECT_API_URL"
            " to http://ADDRESS:4200/api"
        )


def last_line(error: Exception) -> str:
    """Returns the last line of an error's message, where Ray puts its cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:500]


def _ray_settings(config: RunConfig) -> dict[str, Any]:
    """The arguments of ``ray.init``. A cluster that is started here listens on the loopback address
    only.

    On a CPU the number of threads of a matrix product decides how its sums are rounded, and Ray
    gives a worker one: here workers have as many as this process, so that their results are equal.
    Where together they are more than the cores, threads that spin while they wait would take what
    the others need.
    """
    import torch

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if config.runner.address is None:
        # Read when Ray is first imported. Not a cluster of machines: all of Ray's servers listen
        # on the loopback address, which no argument of ray.init brings about.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    variables = {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": "PASSIVE",
        TOKENS: held_tokens(),
    }
    settings: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": variables},
    }
    if config.runner.address is None:
        settings |= {
            "num_cpus": worker_count(config),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    return settings


def worker_count(config: RunConfig) -> int:
    """Returns the number of workers of a cluster started here: as set, else one per GPU, else
    two."""
    if config.runner.workers is not None:
        return config.runner.workers
    return _gpus(config) or 2


def cluster_gives_gpus(config: RunConfig) -> bool:
    """Whether the configured device can be a GPU and the joined cluster has one."""
    import ray

    return _wants_gpu(config) and bool(ray.cluster_resources().get("GPU"))


def _wants_gpu(config: RunConfig) -> bool:
    return config.device == "auto" or config.device.startswith("cuda")


def _gpus(config: RunConfig) -> int:
    """Returns the number of GPUs of this machine that the configured device can use."""
    import torch

    return torch.cuda.device_count() if _wants_gpu(config) else 0
