"""``pseudolabels doctor``: what this machine has, what is missing, and how to get it.

Downloads nothing and loads no model.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from flows.console import say
from flows.orchestration.servers import server
from flows.planning.presets import DEMO, ON_CPU, config_of_preset, fitting_preset
from flows.weights.needs import fetch_command, needs_of, weights_are_there
from flows.weights.published import did_you_mean
from flows.weights.state import state_of, stored_digests
from pipeline.config import RunConfig
from pipeline.errors import CheckpointError
from stages.common.checkpoints import weight_files

PACKAGES = (
    ("torch", "torch"),
    ("torchvision", "torchvision"),
    ("transformers", "transformers"),
    ("segment-anything", "segment_anything"),
    ("groundingdino-py", "groundingdino"),
    ("prefect", "prefect"),
    ("zarr", "zarr"),
    ("pyarrow", "pyarrow"),
)
"""(name of the distribution, name to import) of the main libraries."""

ENOUGH_MEMORY = 4 << 30
ENOUGH_DISK = 4 << 30


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        group: heading under which it is shown.
        name: what was checked.
        well: whether it is as it should be.
        words: what was found, and what to do if it is not well.
        needed: whether a run needs it.
    """

    group: str
    name: str
    well: bool
    words: str
    needed: bool = True


def examine(config: RunConfig, command: str) -> list[Finding]:
    """Does all checks.

    Args:
        config: says which weights are needed.
        command: that fetches them.
    """
    return [
        *_packages(),
        *_machine(config),
        *_devices(),
        *_preset(),
        *_demo_weights(config),
        *_published_weights(config, command),
        _server(),
    ]


def show(findings: list[Finding], console: Console) -> None:
    """Prints the findings by group. Lines are not wrapped, so that addresses can be copied."""
    for group in dict.fromkeys(finding.group for finding in findings):
        say(console, f"\n{group}", "bold")
        mine = [finding for finding in findings if finding.group == group]
        width = max(len(finding.name) for finding in mine)
        for finding in mine:
            mark, style = (
                ("✓", "green") if finding.well else ("✗", "red") if finding.needed else ("–", "dim")
            )
            say(console, f"{finding.name:<{width}}  {finding.words}", style, label=f" {mark}")


def _packages() -> Iterator[Finding]:
    found = platform.python_version()
    well = sys.version_info >= (3, 11)
    yield Finding(
        "software", "Python", well, found if well else f"{found}; 3.11 or later is needed"
    )
    for name, module in PACKAGES:
        try:
            installed = version(name)
            importlib.import_module(module)
            yield Finding("software", name, True, installed)
        except PackageNotFoundError:
            yield Finding("software", name, False, "not installed; run `make setup`")
        except (ImportError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            words = f"{installed}, does not import ({reason}); run `make setup`"
            yield Finding("software", name, False, words)


def _machine(config: RunConfig) -> Iterator[Finding]:
    yield Finding("machine", "system", True, f"{platform.system()} on {platform.machine()}")
    yield Finding("machine", "processors", True, str(_processors()))
    memory = _memory()
    if memory is None:
        yield Finding("machine", "memory", True, "unknown on this system")
    else:
        words = f"{memory / 2**30:.1f} GiB"
        well = memory >= ENOUGH_MEMORY
        yield Finding("machine", "memory", well, words if well else f"{words}; 4 GiB are needed")
    folder = config.out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    words = f"{free / 2**30:.1f} GiB free at {folder}"
    well = free >= ENOUGH_DISK
    yield Finding(
        "machine", "disk", well, words if well else f"{words}; free some space, or set out"
    )


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, RuntimeError):
        return
    count = torch.cuda.device_count()
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        size = properties.total_memory / 2**30
        words = f"{properties.name}, {size:.0f} GiB, CUDA {torch.version.cuda}"
        yield Finding("devices", f"cuda:{index}", True, words, needed=False)
    if not count:
        yield Finding("devices", "cuda", False, "none; runs use the CPU", needed=False)
    mps = torch.backends.mps.is_available()
    if mps or platform.system() == "Darwin":
        yield Finding("devices", "mps", mps, "available" if mps else "none", needed=False)
    yield Finding("devices", "cpu", True, f"{torch.get_num_threads()} threads")


def _preset() -> Iterator[Finding]:
    try:
        from stages.common.weights import gpu_memory
    except (ImportError, RuntimeError):
        return
    memory = gpu_memory()
    name = fitting_preset(memory, weights_are_there)
    ready = weights_are_there(config_of_preset(name))
    found = "no GPU" if memory is None else f"a GPU of {memory / 2**30:.0f} GiB"
    words = f"{name}, for {found}; its weights are {'there' if ready else 'not there yet'}"
    if name == DEMO:
        words = (
            f"{name}, for {found} and no fetched weights; it knows rendered shapes only; for real"
            f" videos: {fetch_command(None, ON_CPU)}"
        )
    elif not ready:
        words += f": {fetch_command(None, name)}"
    larger = fitting_preset(memory, lambda config: False)
    if ready and larger not in (DEMO, name):
        words += f"; {larger} fits as well: {fetch_command(None, larger)}"
    yield Finding("devices", "preset", True, words)


def _demo_weights(config: RunConfig) -> Iterator[Finding]:
    """Yields the demo models that the configuration uses."""
    used = {"segment": config.segment.checkpoint}
    if config.augment.source == "model":
        used["augment"] = config.augment.checkpoint
    if config.ground.uses_checkpoint:
        used["ground"] = config.ground.checkpoint
    if config.track.uses_checkpoint:
        used["track"] = config.track.checkpoint
    for stage, checkpoint in used.items():
        if not checkpoint.startswith("demo:"):
            continue
        group = f"weights of {stage}"
        try:
            size = sum(path.stat().st_size for path in weight_files(checkpoint)) / 2**20
            words = f"{size:.1f} MiB, a demo model: knows rendered shapes only"
            yield Finding(group, checkpoint, True, words)
        except CheckpointError as error:
            yield Finding(group, checkpoint, False, f"{error.found}: {error.path}; {error.remedy}")


def _published_weights(config: RunConfig, command: str) -> Iterator[Finding]:
    """Yields the weights that the configuration names, and the command that fetches them."""
    absent = False
    for need in needs_of(config):
        state = state_of(need, stored_digests().peek)
        words = f"{state.size / 1e6:,.1f} MB, {state.words}, at {need.path}"
        if not state.well:
            words = f"{state.words}: {need.path}"
            source = f"; it comes from {need.item.source}" if need.item else ""
            words += source or f"; it is not published{did_you_mean(need.path.name)}"
            absent |= need.needed and need.item is not None
        words += "" if need.needed else " (only with student.enabled=true)"
        yield Finding(f"weights of {need.stage}", need.path.name, state.well, words, need.needed)
    if absent:
        yield Finding("missing weights", "fetch with", False, command)


def _server() -> Finding:
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        well = server.is_healthy(configured)
        words = f"{configured}, from PREFECT_API_URL" + ("" if well else ", does not answer")
        return Finding("Prefect", "server", well, words)
    try:
        found = server.running()
    except server.ServerError as error:
        return Finding("Prefect", "server", False, str(error))
    if found is None:
        words = "not running; a run starts it, or `pseudolabels server start`"
        return Finding("Prefect", "server", False, words, needed=False)
    return Finding("Prefect", "server", True, f"running at {found.ui}")


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _memory() -> int | None:
    """Returns the bytes of memory: of the machine, or of its control group if that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return total
