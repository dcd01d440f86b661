"""Reads and writes calibration files (``docs/format.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.calibration import Calibration
from pipeline.errors import InputError
from storage.files.sealed_json import read_sealed, write_sealed

VERSION = 1
_EXPECTED = "a file that `pseudolabels calibrate` wrote"


def write_calibration(path: Path, calibration: Calibration, about: Mapping[str, Any]) -> None:
    """Writes a calibration, over an earlier one.

    Args:
        about: how it was made, for readers.
    """
    knots = np.stack([calibration.scores, calibration.probabilities], 1)
    write_sealed(
        path,
        {
            "kind": "calibration",
            "version": VERSION,
            "about": dict(about),
            "scores_of": dict(calibration.scores_of),
            "knots": np.round(knots, 6).tolist(),
        },
    )


def read_calibration(path: Path) -> Calibration:
    """Returns a calibration. Raises InputError if the file is missing, damaged or newer."""
    remedy = f"check fuse.calibration, or make it again: pseudolabels calibrate RUN --out {path}"
    try:
        values = read_sealed(path)
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, found, _EXPECTED, remedy, missing=True) from error
    except ValueError as error:
        raise InputError(path, str(error), _EXPECTED, remedy) from error
    if values.get("kind") != "calibration" or values.get("version") != VERSION:
        found = f"kind {values.get('kind')!r}, version {values.get('version')!r}"
        raise InputError(path, found, f"a calibration of version {VERSION}", remedy)
    try:
        scores, probabilities = np.array(values["knots"], np.float64).T
        return Calibration(scores, probabilities, dict(values["scores_of"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"broken knots ({error})", _EXPECTED, remedy) from error
