"""Batches that fit into memory. A batch that does not fit is halved.

Rows of a batch do not depend on each other, so results are the same for every size.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from pipeline.errors import TooLargeError

logger = logging.getLogger(__name__)

_LOST = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "device-side assert", "NCCL error")
"""What PyTorch says where a device does nothing any more until the process ends."""

T = TypeVar("T")
R = TypeVar("R")

_SIGNS = (
    "out of memory",
    "not enough memory",
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What PyTorch says where it raises a plain RuntimeError for want of memory."""


class FittingBatches:
    """Cuts work into batches of at most ``size``, and into smaller ones once a batch did not fit.

    Keep an instance as long as its model, so that it remembers the size that fits.

    Args:
        size: items of the first batch.
        what: name of an item, such as ``frame``.
        setting: the setting that gives the size.
        remedy: what to do if a single item does not fit.
        whole: whether every batch is filled up to ``size``.

    Attributes:
        size: items of the next batch.
    """

    def __init__(
        self, size: int, what: str, setting: str, remedy: str, whole: bool = False
    ) -> None:
        self.size = size
        self._what, self._setting, self._remedy = what, setting, remedy
        self._whole = whole

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> Iterator[R]:
        """Yields the results of ``work``, batch after batch, in the order of the items.

        Args:
            work: returns the results of a batch, one per item or one for all. It is called again
                with fewer items if memory ran out.

        Raises:
            TooLargeError: a batch of one does not fit.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            problem = None
            try:
                done = work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = str(error).partition("\n")[0] or type(error).__name__
            # Here, for an error that is being handled keeps the tensors of its frames alive.
            if problem is not None:
                self._shrink(self.size if self._whole else len(part), problem)
                continue
            yield from done
            start += len(part)

    def _shrink(self, failed: int, problem: str) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if failed == 1:
            raise TooLargeError(
                self._setting,
                f"memory does not suffice for a single {self._what} ({problem[:200]})",
                f"room for a batch of one {self._what}",
                self._remedy,
            )
        self.size = failed // 2
        logger.warning(
            "memory does not suffice for %d at a time (%s); goes on with %d; set %s=%d to begin"
            " with that",
            failed,
            problem[:200],
            self.size,
            self._setting,
            self.size,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device, or the machine, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def is_lost_device(error: BaseException) -> bool:
    """Whether an error means that a device can no longer be used."""
    if isinstance(error, getattr(torch, "AcceleratorError", ())):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST)
