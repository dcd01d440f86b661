"""Memory that is free in the process, handed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> bool:
    """Has the C library return what it keeps of freed memory, where it can (glibc).

    Tensors of changing sizes leave gaps that glibc keeps for later; without this a run over many
    videos grows by what its gaps come to. Takes milliseconds.

    Returns:
        Whether the C library knows how.
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
