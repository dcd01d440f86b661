from __future__ import annotations

import sys

import numpy as np
import pytest

from pipeline.packed_masks import PackedMasks, pack_mask, unpack_mask


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (36, 64)])
def test_masks_come_out_as_they_were_put_in(size: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).random((4, *size)) < 0.5
    masks[2] = False
    masks[3] = True
    packed = PackedMasks.of(masks)
    assert (len(packed), packed.shape) == (4, masks.shape)
    for frame, mask in enumerate(masks):
        assert packed[frame].dtype == np.bool_
        assert np.array_equal(packed[frame], mask)
    assert np.array_equal(np.asarray(packed), masks)
    assert packed.packed(2) is None
    assert not packed[2].any()


def test_some_frames_are_put_in_at_a_time() -> None:
    masks = np.random.default_rng(0).random((5, 6, 7)) < 0.5
    packed = PackedMasks(5, 6, 7)
    assert not np.any(packed)
    packed.put(range(3, 5), masks[3:])
    packed.put(range(3), masks[:3])
    assert np.array_equal(np.asarray(packed), masks)
    packed[1] = np.zeros((6, 7), np.bool_)
    assert packed.packed(1) is None


def test_what_does_not_fit_is_refused() -> None:
    packed = PackedMasks(2, 6, 7)
    with pytest.raises(ValueError, match=r"expected \(6, 7\)"):
        packed[0] = np.ones((7, 6), np.bool_)
    with pytest.raises(ValueError, match="shorter"):
        packed.put(range(2), np.ones((1, 6, 7), np.bool_))
    with pytest.raises(IndexError):
        packed[2] = np.ones((6, 7), np.bool_)
    with pytest.raises(ValueError, match="6 bytes of a mask; expected 5"):
        unpack_mask(pack_mask(np.ones((5, 8), np.bool_)), (4, 8))


def test_they_take_little_memory() -> None:
    mask = np.zeros((720, 1280), np.bool_)
    rows, columns = np.mgrid[:720, :1280]
    mask[(rows - 300) ** 2 + (columns - 500) ** 2 < 150**2] = True
    assert sys.getsizeof(pack_mask(mask)) < mask.nbytes / 500
