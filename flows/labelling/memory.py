"""Returns free memory of the process to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> bool:
    """Asks the C library to return freed memory to the system, if it can (glibc).

    Tensors of changing sizes leave gaps that glibc keeps, so that memory would grow with the number
    of videos. Takes milliseconds.

    Returns:
        Whether the C library can do this.
    """
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None  # macOS, musl, Windows
