from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from storage.exports.davis_sets import DavisSets
from storage.files.images import read_mask


def test_a_video_is_in_all_sets_or_in_none(tmp_path: Path) -> None:
    sets, labels = DavisSets(tmp_path, 2), np.array([[0, 1], [2, 0]], np.uint8)
    with pytest.raises(KeyboardInterrupt), sets.video("cut") as add:
        add(0, "00000", labels)
        raise KeyboardInterrupt
    assert not sets.has("cut")
    assert not list(tmp_path.glob("anno_*/*"))
    with sets.video("a") as add:
        add(0, "00000", labels)
        add(1, "00000", labels.T)
    assert sets.has("a")
    assert np.array_equal(read_mask(tmp_path / "anno_0/a/00000.png"), labels)
    assert np.array_equal(read_mask(tmp_path / "anno_1/a/00000.png"), labels.T)
    with Image.open(tmp_path / "anno_0/a/00000.png") as image:
        assert image.mode == "P", "a palette, as DAVIS has it"


def test_names_may_not_lead_out(tmp_path: Path) -> None:
    sets = DavisSets(tmp_path / "out", 1)
    with pytest.raises(InputError), sets.video("../a"):
        pass
    with pytest.raises(InputError), sets.video("a") as add:
        add(0, "../../x", np.zeros((1, 1), np.uint8))
    assert not (tmp_path / "x.png").exists()
