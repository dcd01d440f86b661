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
from flows.orchestration import server
from flows.planning.plan import WeightDigests
from pipeline.config import RunConfig
from pipeline.errors import CheckpointError
from stages.common.checkpoints import DEMO_NAMES, weight_files, weights_of_student

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
class Published:
    """Published weights.

    Attributes:
        file: published name of the file or folder.
        source: address.
        setting: settings that use it.
        sha256: of the file; None for a folder.
    """

    file: str
    source: str
    setting: str
    sha256: str | None = None


_DINO = "https://github.com/IDEA-Research/GroundingDINO/releases/download"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_TORCHVISION = "https://download.pytorch.org/models"
PUBLISHED = (
    Published(
        "groundingdino_swint_ogc.pth",
        f"{_DINO}/v0.1.0-alpha/groundingdino_swint_ogc.pth",
        "ground.checkpoint, ground.backbone=swin_T_224_1k, ground.text_encoder",
        "3b3ca2563c77c69f651d7bd133e97139c186df06231157a64c507099c52bc799",
    ),
    Published(
        "groundingdino_swinb_cogcoor.pth",
        f"{_DINO}/v0.1.0-alpha2/groundingdino_swinb_cogcoor.pth",
        "ground.checkpoint, ground.backbone=swin_B_384_22k, ground.text_encoder",
        "46270f7a822e6906b655b729c90613e48929d0f2bb8b9b76fd10a856f3ac6ab7",
    ),
    Published(
        "bert-base-uncased",
        "https://huggingface.co/google-bert/bert-base-uncased",
        "ground.text_encoder, the folder",
    ),
    Published(
        "sam_vit_h_4b8939.pth",
        f"{_SAM}/sam_vit_h_4b8939.pth",
        "segment.checkpoint, segment.model=vit_h",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    Published(
        "sam_vit_l_0b3195.pth",
        f"{_SAM}/sam_vit_l_0b3195.pth",
        "segment.checkpoint, segment.model=vit_l",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    Published(
        "sam_vit_b_01ec64.pth",
        f"{_SAM}/sam_vit_b_01ec64.pth",
        "segment.checkpoint, segment.model=vit_b",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    Published(
        "Qwen2.5-VL-7B-Instruct",
        "https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct",
        "augment.checkpoint, the folder; any image-text-to-text model of transformers works",
    ),
    Published(
        "resnet50-0676ba61.pth",
        f"{_TORCHVISION}/resnet50-0676ba61.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=resnet50",
    ),
    Published(
        "resnet101-63fe2227.pth",
        f"{_TORCHVISION}/resnet101-63fe2227.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=resnet101",
    ),
    Published(
        "swin3d_t-7615ae03.pth",
        f"{_TORCHVISION}/swin3d_t-7615ae03.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=video-swin-t",
    ),
    Published(
        "roberta-base",
        "https://huggingface.co/FacebookAI/roberta-base",
        "student.encoders.text_encoder, the folder; any text encoder of transformers works",
    ),
)

WEIGHTS_FOLDER = Path("weights")
"""Where doctor looks for published weights that the configuration does not name."""


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


def examine(config: RunConfig) -> list[Finding]:
    """Does all checks. ``config`` says which weights are needed."""
    return [
        *_packages(),
        *_machine(config),
        *_devices(),
        *_demo_weights(config),
        *_configured_weights(config),
        *_published_weights(config),
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


def _demo_weights(config: RunConfig) -> Iterator[Finding]:
    for name in DEMO_NAMES:
        checkpoint = f"demo:{name}"
        needed = checkpoint in _checkpoints(config).values()
        yield _weights("demo weights", checkpoint, config, needed)


def _configured_weights(config: RunConfig) -> Iterator[Finding]:
    for stage, checkpoint in _checkpoints(config).items():
        if not checkpoint.startswith("demo:"):
            yield _weights(f"weights of {stage}", checkpoint, config, True)
    encoders, needed = config.student.encoders, config.student.enabled
    if config.student.start is not None:
        start = weights_of_student(config.student.start)
        yield _weights("weights of student", str(start), config, needed)
    if encoders.backbone_checkpoint is not None:
        yield _weights("weights of student", str(encoders.backbone_checkpoint), config, needed)
    if encoders.text_encoder != "demo":
        yield _weights("weights of student", str(encoders.text_encoder), config, needed)
    if config.ground.adapter is not None:
        yield _weights("weights of ground", str(config.ground.adapter), config, True)
    folder = config.ground.text_encoder
    if folder is not None:
        there = (folder / "config.json").is_file()
        words = str(folder) if there else f"no config.json in {folder}; get bert-base-uncased"
        yield Finding("weights of ground", "text encoder", there, words)


def _checkpoints(config: RunConfig) -> dict[str, str]:
    used = {"segment": config.segment.checkpoint}
    if config.augment.source == "model":
        used["augment"] = config.augment.checkpoint
    if config.ground.source == "model":
        used["ground"] = config.ground.checkpoint
    return used


def _weights(group: str, checkpoint: str, config: RunConfig, needed: bool) -> Finding:
    digests = WeightDigests(config.run_folder / "ledger" / "weights.json", weight_files)
    try:
        files = weight_files(checkpoint)
    except CheckpointError as error:
        words = f"{error.found}: {error.path}; {error.remedy}"
        return Finding(group, checkpoint, False, words, needed)
    size = sum(path.stat().st_size for path in files) / 2**20
    shown = ", ".join(f"{path.name} sha256 {digests.peek(path)[:12]}…" for path in files)
    return Finding(group, checkpoint, True, f"{size:.1f} MiB, {shown}", needed)


def _published_weights(config: RunConfig) -> Iterator[Finding]:
    """Yields whether each published file is in ``weights/``. The demo models need none of them."""
    digests = WeightDigests(config.run_folder / "ledger" / "weights.json", weight_files)
    for item in PUBLISHED:
        path = WEIGHTS_FOLDER / item.file
        well = path.exists()
        if not well:
            words = f"not in {WEIGHTS_FOLDER}/; get it from {item.source}"
        elif item.sha256 is None or digests.peek(path) == item.sha256:
            words = f"{path}; name it in {item.setting}"
        else:
            well = False
            words = (
                f"{path}: sha256 {digests.peek(path)}; expected {item.sha256}; download it again"
            )
        yield Finding("published weights", item.file, well, words, needed=False)


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
