"""Run lengths of CVAT and Label Studio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.files.mask_runs import (
    cvat_runs,
    label_studio_runs,
    mask_of_cvat_runs,
    mask_of_label_studio_runs,
)


@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 1 << 30), st.floats(0, 1))
def test_masks_survive_both_encodings(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    assert np.array_equal(mask_of_cvat_runs(cvat_runs(mask), height, width), mask)
    packed = label_studio_runs(mask)
    assert all(0 <= byte < 256 for byte in packed)
    assert np.array_equal(mask_of_label_studio_runs(packed, height, width), mask)


def test_the_first_run_is_outside() -> None:
    mask = np.array([[True, True, False], [False, False, True]])
    assert cvat_runs(mask) == "0, 2, 3, 1"
    assert cvat_runs(~mask) == "2, 3, 1"


def test_long_runs_and_loose_values_of_label_studio() -> None:
    mask = np.zeros((200, 200), np.bool_)
    mask[3:190, 5:150] = True
    assert np.array_equal(mask_of_label_studio_runs(label_studio_runs(mask), 200, 200), mask)
    # 1 x 2 pixels, RGBA, as loose values of 8 bits: the second pixel is opaque.
    head = f"{8:032b}{7:05b}" + "0010001101111111"
    bits = head + "0" + "00" + "111" + "".join(f"{value:08b}" for value in [0] * 7 + [255])
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert mask_of_label_studio_runs(packed, 1, 2).tolist() == [[False, True]]


def test_damage_is_an_error() -> None:
    mask = np.eye(4, dtype=np.bool_)
    packed = label_studio_runs(mask)
    for wrong in (packed[:-3], packed[:5]):
        with pytest.raises(ValueError, match="cut off"):
            mask_of_label_studio_runs(wrong, 4, 4)
    with pytest.raises(ValueError, match="64 values; expected 5 x 4 x 4"):
        mask_of_label_studio_runs(packed, 5, 4)
    with pytest.raises(ValueError, match="expected 4 x 5"):
        mask_of_cvat_runs(cvat_runs(mask), 4, 5)
    with pytest.raises(ValueError, match="invalid literal"):
        mask_of_cvat_runs("1, x", 4, 5)
