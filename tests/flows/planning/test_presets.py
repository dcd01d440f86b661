"""Presets: their files, and which one fits a machine."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flows.planning.presets import (
    CONFIGS,
    GIB,
    PAPERS,
    PRESETS,
    config_of_preset,
    fitting_preset,
    settings_of_paper,
)
from flows.weights.needs import needs_of
from flows.weights.published import published
from pipeline.config import load_config
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_from_any_folder_and_names_published_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "cache"))
    config = load_config(config_of_preset(name))
    needs = needs_of(config)
    assert bool(needs) == (name != "demo")
    for need in needs:
        assert need.path.parent == tmp_path / "cache" / "weights"
        assert need.item is not None
        checked = {
            config.ground.checkpoint: config.ground.sha256,
            config.segment.checkpoint: config.segment.sha256,
        }
        if str(need.path) in checked:
            assert need.item.sha256 == checked[str(need.path)]


def test_the_demo_preset_is_the_defaults() -> None:
    assert load_config(config_of_preset("demo")) == load_config(None)


def test_a_wheel_has_the_presets() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert CONFIGS == ROOT / "configs"
    assert "configs" in setuptools["packages"]["find"]["include"]
    assert setuptools["package-data"]["configs"] == ["*.toml", "papers/*.toml"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("paper", PAPERS)
def test_a_papers_settings_replace_the_student_of_any_preset(paper: str, preset: str) -> None:
    assert {path.stem for path in (CONFIGS / "papers").iterdir()} == set(PAPERS)
    settings = settings_of_paper(paper)
    config = load_config(config_of_preset(preset), settings)
    assert config.student.model == paper
    written = tomllib.loads((CONFIGS / "papers" / f"{paper}.toml").read_text())["student"]
    found = config.student.model_dump(mode="json")
    for name, value in written.items():
        if name == "encoders":
            assert found[name]["backbone"] == value["backbone"]
        elif isinstance(value, dict):
            assert found[name].items() >= value.items(), name
        else:
            assert found[name] == value, name
    assert load_config(None, [*settings, "student.steps=7"]).student.steps == 7


def test_an_unknown_paper_is_one_message() -> None:
    with pytest.raises(ConfigError, match="--paper nosuch: unknown; expected one of simrvos"):
        settings_of_paper("nosuch")


@pytest.mark.parametrize(
    ("name", "words"),
    [("smal", "did you mean small?"), ("LARGE", "did you mean large?"), ("xyz", "give --config")],
)
def test_an_unknown_preset_is_one_message(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of_preset(name)
    assert words in str(caught.value) and "demo, small, base, large" in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "there", "expected"),
    [
        (None, (), "demo"),
        (None, ("small", "base", "large"), "small"),
        (4 * GIB, ("small",), "small"),
        (4 * GIB, (), "demo"),
        (8 * GIB, (), "small"),
        (24 * GIB - 600, (), "base"),
        (24 * GIB, ("small", "large"), "small"),
        (80 * GIB, (), "large"),
        (80 * GIB, ("base",), "base"),
        (79 * GIB, ("small", "base", "large"), "large"),
    ],
)
def test_the_largest_preset_that_fits(
    memory: int | None, there: tuple[str, ...], expected: str
) -> None:
    assert fitting_preset(memory, lambda config: config.stem in there) == expected


def test_what_presets_name_is_published_under_one_name() -> None:
    assert published("sam_vit_b_01ec64.pth") is not None
    assert published("sam_vit_b") is None
