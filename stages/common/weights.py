"""Loads weights and checks that they are the right ones.

``demo:NAME`` is a checkpoint that ships with the project. Anything else is a path. Nothing is
downloaded, and no code of a file is executed: safetensors, or ``torch.load`` with ``weights_only``.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import CheckpointError, ConfigError
from stages.common.checkpoints import (
    DEMO_FOLDER,
    DEMO_NAMES,
    REMEDY,
    check_digest,
    resolve_checkpoint,
    weights_digest,
)

__all__ = [
    "DEMO_FOLDER",
    "DEMO_NAMES",
    "check_digest",
    "fill_model",
    "gpu_memory",
    "read_weights",
    "resolve_checkpoint",
    "resolve_device",
    "weights_digest",
]


_DAMAGE = (
    OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError,
    ValueError, KeyError, IndexError, TypeError, AssertionError,
)  # fmt: skip
"""What PyTorch's unpickler raises on a damaged file, which depends on the byte that is wrong."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint file, on the CPU.

    It reads safetensors and PyTorch files. In the latter, tensors may be under ``model``, and names
    may have the prefix ``module.`` of a data-parallel wrapper.

    Raises:
        CheckpointError: the file is truncated, or holds something other than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # On pickle protocols; what the loader cannot read it refuses below.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            values = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            path,
            f"it does not load ({reason[:200]})",
            "a complete file of tensors (pickles with code in them are refused)",
            REMEDY,
        ) from error
    if isinstance(values, Mapping) and isinstance(values.get("model"), Mapping):
        values = values["model"]
    if not isinstance(values, Mapping) or not all(isinstance(v, Tensor) for v in values.values()):
        raise CheckpointError(path, "not a mapping of tensors", "model weights", REMEDY)
    return {name.removeprefix("module."): tensor for name, tensor in values.items()}


def fill_model(
    model: nn.Module, path: Path, ignore: tuple[str, ...] = (), prefix: str = ""
) -> None:
    """Loads a checkpoint file into a model, strictly.

    Args:
        ignore: names in the file that current models of this kind do not have.
        prefix: prefix of the model's names in the file. Other names in it are ignored.

    Raises:
        CheckpointError: names or shapes differ.
    """
    tensors = read_weights(path)
    wanted = model.state_dict()
    found = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name not in ignore and name.startswith(prefix)
    }
    missing = sorted(wanted.keys() - found.keys())
    surplus = sorted(found.keys() - wanted.keys())
    reshaped = [n for n in wanted.keys() & found.keys() if wanted[n].shape != found[n].shape]
    problems = [
        f"{len(names)} {what} (such as {sorted(names)[0]})"
        for what, names in (
            ("missing", missing),
            ("of another model", surplus),
            ("of another shape", reshaped),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            path,
            f"parameters {', '.join(problems)}",
            f"the weights of a {type(model).__name__} of this configuration",
            "check that checkpoint and model (or backbone) in the configuration belong together",
        )
    model.load_state_dict(found, strict=True)


def resolve_device(name: str) -> torch.device:
    """Returns the device of a name. ``auto`` is CUDA if there is a GPU, else the CPU.

    Raises:
        ConfigError: the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r}: not on this machine ({str(error).splitlines()[0]}); take 'auto',"
            " 'cpu', or one that `pseudolabels doctor` lists"
        ) from error
    return device


def gpu_memory() -> int | None:
    """Returns the bytes of memory of the first GPU; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
