import ctypes

import numpy as np
import pytest

from flows.labelling import memory
from flows.labelling.memory import give_back


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_freed_memory_goes_back_to_the_system() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library has no malloc_trim")
    # Pieces too small to be mapped each by itself, and one that stays above them.
    pieces = [np.ones(4000) for _ in range(4000)]
    stays = np.ones(4000)
    before = resident()
    del pieces
    assert give_back()
    assert before - resident() > 64e6
    assert stays.sum() == 4000


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", lambda: None)
    assert not give_back()
