"""What a folder of predictions says of the student that they are of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.training.prediction_place import NOTE, vouch_folder
from pipeline.errors import ConfigError


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "\\ud800", "[" * 100_000])
def test_a_damaged_note_is_one_message(tmp_path: Path, content: str) -> None:
    (tmp_path / NOTE).write_text(content)
    with pytest.raises(ConfigError, match=r"predictions\.json: damaged"):
        vouch_folder(tmp_path, "f", {"split": "train"})


def test_the_note_of_the_same_student_passes_with_or_without_a_mark(tmp_path: Path) -> None:
    vouch_folder(tmp_path, "f", {"split": "train"})
    vouch_folder(tmp_path, "f", {"split": "train"})
    note = tmp_path / NOTE
    note.write_bytes(note.read_text().encode("utf-8-sig"))
    vouch_folder(tmp_path, "f", {"split": "train"})
    assert json.loads(note.read_text("utf-8-sig"))["made_by"] == "f"
    with pytest.raises(ConfigError, match="another student"):
        vouch_folder(tmp_path, "g", {"split": "train"})
