from pathlib import Path

import numpy as np
import pytest

from pipeline.calibration import Calibration
from pipeline.errors import InputError
from storage.calibration_file import read_calibration, write_calibration
from storage.files.sealed_json import read_sealed, write_sealed


def written(path: Path) -> Path:
    made = Calibration(np.array([0, 0.25, 1]), np.array([0, 0.125, 1]), {"weights": "abc"})
    write_calibration(path, made, {"labels": "truth"})
    return path


def test_a_calibration_comes_back(tmp_path: Path) -> None:
    found = read_calibration(written(tmp_path / "c.json"))
    assert found.scores.tolist() == [0, 0.25, 1]
    assert found.probabilities.tolist() == [0, 0.125, 1]
    assert found.scores_of == {"weights": "abc"}


def test_what_is_no_calibration_is_refused_in_one_message(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    with pytest.raises(InputError, match=r"none\.json.*expected a file that `pseudolabels cal"):
        read_calibration(missing)
    path = written(tmp_path / "c.json")
    values = read_sealed(path)
    write_sealed(path, {**values, "version": 9})
    with pytest.raises(InputError, match="version 9; expected a calibration of version 1"):
        read_calibration(path)
    write_sealed(path, {**values, "knots": [[0, 0.5], [1, 0.2]]})
    with pytest.raises(InputError, match="broken knots"):
        read_calibration(path)
    path.write_text(path.read_text().replace("0.2", "0.9"))
    with pytest.raises(InputError, match="checksum"):
        read_calibration(path)
