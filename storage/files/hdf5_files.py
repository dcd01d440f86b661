"""Reads arrays from HDF5 files of data sets, after checking their size and place."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 28
"""Of an array; a file of a few kilobytes can claim any size."""


def stored_array(file: h5py.File, name: str) -> NDArray[Any]:
    """An array of numbers that lies in the file itself.

    An array may name another file to read its bytes out of, and a link may lead to one.

    Raises:
        KeyError: the file has nothing by that name.
        ValueError: it is no array of numbers, too large, or lies elsewhere.
        OSError: it cannot be read.
    """
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link")
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is no array of numbers")
    if array.external or array.is_virtual:
        raise ValueError(f"{name} lies in another file")
    if array.size is None or array.nbytes > MAX_BYTES:
        raise ValueError(f"{name} has {' x '.join(map(str, array.shape or ()))} values")
    return np.asarray(array)
