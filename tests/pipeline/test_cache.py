"""Where the weights lie that projects share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cache import cache_folder, resolve_published


def test_the_folder_is_the_named_one_else_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PSEUDOLABELS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "pseudolabels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "pseudolabels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "pseudolabels"
    monkeypatch.setenv("PSEUDOLABELS_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert resolve_published("published:a.pth") == str(tmp_path / "mine" / "weights" / "a.pth")
    assert resolve_published("demo:ground") == "demo:ground"


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("PSEUDOLABELS_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(ValueError, match="set PSEUDOLABELS_CACHE"):
        cache_folder()
