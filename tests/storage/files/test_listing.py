from __future__ import annotations

from pathlib import Path

from storage.files.listing import data_names, spelled


def test_names_are_in_natural_order_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.png", "._f9.png"):
        (tmp_path / name).write_text("")
    assert data_names(tmp_path) == ["f9.png", "f10.png"]


def test_a_file_is_found_in_another_spelling(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.MP4").write_text("")
    assert spelled(tmp_path, "caf\u00e9.mp4") == tmp_path / "cafe\u0301.MP4"
    (tmp_path / "caf\u00e9.mp4").write_text("")
    assert spelled(tmp_path, "caf\u00e9.mp4") == tmp_path / "caf\u00e9.mp4"


def test_what_is_not_there_keeps_its_path(tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_text("")
    assert spelled(tmp_path, "x.mp4") == tmp_path / "x.mp4"
    assert spelled(tmp_path / "none", "x.mp4") == tmp_path / "none" / "x.mp4"
