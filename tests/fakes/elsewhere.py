"""A device that is not the CPU, for machines that have none: ``elsewhere``.

Its tensors hide tensors of the CPU and go by the rules of a GPU: what is computed must lie there
whole, NumPy cannot see it, and a copy to the host that does not block has not arrived before the
device is waited for. So code that forgets to move a tensor, or reads too early, fails here as it
would there; and every time the host waits for the device is counted. Kernels, memory, autocast and
speed are the CPU's: of those it says nothing.

:func:`start` changes the process for good, so it is for a process of its own
(:func:`in_a_process_of_its_own`).
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_flatten, tree_map

NAME = "elsewhere"
DEVICE = f"{NAME}:0"

waits: Counter[str] = Counter()
"""How often the host waited for the device, by why."""

_under_way: list[tuple[Tensor, Tensor]] = []
"""Copies to the host that do not block: where to, and what will arrive."""

aten = torch.ops.aten

_BOTH_SIDES = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor}
_BOTH_SIDES |= {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""What may read tensors of both sides, on a GPU too."""

_MAKE = ("arange", "arange.start", "arange.start_step", "eye", "full", "linspace", "zeros", "ones")
_MAKE += ("rand", "randn", "randint", "randint.low", "randperm")
"""Made by a kernel of their own: PyTorch's would resize a tensor whose size is set."""

_NO_BYTES = {aten._upsample_bilinear2d_aa.default, aten._upsample_bicubic2d_aa.default}
_NO_BYTES |= {aten.upsample_bilinear2d.default, aten.upsample_bicubic2d.default}
"""What CUDA has no kernel of for bytes, and the CPU has."""


class Elsewhere(Tensor):
    """A tensor of the device. ``hidden`` is on the CPU."""

    hidden: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, hidden: Tensor) -> Elsewhere:
        made: Any = Tensor._make_wrapper_subclass
        found: Elsewhere = made(
            cls,
            hidden.size(),
            strides=hidden.stride(),
            storage_offset=hidden.storage_offset(),
            dtype=hidden.dtype,
            device=torch.device(DEVICE),
        )
        found.hidden = hidden
        return found

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operator, args, kwargs or {})

    def __getitem__(self, place: Any) -> Tensor:
        return super().__getitem__(torch.tensor(place) if isinstance(place, list) else place)

    def __format__(self, how: str) -> str:
        return format(self.cpu(), how)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, **_: Any) -> Tensor:
        return torch.tensor(data, dtype=self.dtype, device=self.device)


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]


def start() -> torch.device:
    """Registers the device with this process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    every, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _kept.extend((every, own))
    every.fallback(lambda operator, *args, **kwargs: _run(operator, args, kwargs), "PrivateUse1")
    for name in _MAKE:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(aten, packet), overload or "default")
        own.impl(
            name,
            lambda *args, _operator=operator, **kwargs: _run(_operator, args, kwargs),
            "PrivateUse1",
        )
    # None of these gets on with tensors whose kernels are in Python.
    _device_constructors()  # What `with torch.device(...)` moves: the functions as they are now.
    torch.inference_mode = torch.no_grad  # type: ignore[assignment, misc]
    torch.tensor = _moved(torch.tensor)
    torch.as_tensor = _moved(torch.as_tensor)
    torch.accelerator.synchronize = lambda device=None: _wait("synchronize")
    return torch.device(DEVICE)


_kept: list[Any] = []
"""Registrations, which end with their objects."""


def _moved(make: Any) -> Any:
    def made(data: Any, **kwargs: Any) -> Tensor:
        data = tree_map(lambda item: item.item() if isinstance(item, Elsewhere) else item, data)
        device = kwargs.pop("device", None)
        if device is None or torch.device(device).type != NAME:
            return cast(Tensor, make(data, device=device, **kwargs))
        return cast(Tensor, make(data, **kwargs)).to(device)

    return made


def _run(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on the hidden tensors; what it gives is of the device where its arguments are, or
    where that is asked for."""
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, Tensor)]
    mine = [item for item in tensors if isinstance(item, Elsewhere)]
    # A GPU's kernels take a number from a tensor of the CPU.
    others = [item for item in tensors if not isinstance(item, Elsewhere) and item.dim()]
    if mine and others and operator not in _BOTH_SIDES:
        found = ", ".join(f"{list(item.shape)} on {item.device}" for item in tensors)
        raise RuntimeError(f"{operator}: expected all tensors on one device, found {found}")
    if operator in _NO_BYTES and any(item.dtype == torch.uint8 for item in mine):
        raise RuntimeError(f"{operator}: not implemented for 'Byte'")
    here = bool(mine)
    if kwargs.get("device") is not None:
        here = torch.device(kwargs["device"]).type == NAME
        kwargs = kwargs | {"device": torch.device("cpu")}
    if operator is aten.copy_.default and len(mine) == 1:
        if not _copy_blocks(args, kwargs):
            return args[0]
    elif operator is aten._to_copy.default and here != bool(mine):
        _wait("copy")
    elif operator in (aten._local_scalar_dense.default, aten.nonzero.default):
        _wait("value")
    elif operator is aten._fused_sdp_choice.default:
        return 0  # Written out: the fused kernels of attention are of other devices.
    result = operator(*tree_map(_hidden, args), **tree_map(_hidden, kwargs))
    assert all(item.hidden.shape == item.shape for item in mine), f"{operator} resizes a tensor"
    known = {id(item.hidden): item for item in mine}

    def shown(item: Any) -> Any:
        if not here or not isinstance(item, Tensor):
            return item
        return known[id(item)] if id(item) in known else Elsewhere(item)

    return tree_map(shown, result)


def _hidden(item: Any) -> Any:
    return item.hidden if isinstance(item, Elsewhere) else item


def _copy_blocks(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a copy between the sides is to be done now; False where it arrives later."""
    to, source = args[:2]
    late = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    if not late:
        _wait("copy")
    elif isinstance(source, Elsewhere):
        _under_way.append((to, source.hidden.clone()))
        to.fill_(float("nan") if to.is_floating_point() else 85)
        return False
    return True


def _wait(why: str) -> None:
    waits[why] += 1
    for to, arrived in _under_way:
        to.copy_(arrived)
    _under_way.clear()


@contextmanager
def in_a_process_of_its_own() -> Iterator[Callable[..., Any]]:
    """Gives what calls a function of a module in a process that has the device."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=start) as pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()
