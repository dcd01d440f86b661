from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from flows.orchestration.parameters import (
    Dataset,
    FirstStage,
    LastStage,
    Preset,
    Student,
    config_of_form,
    preset_or_none,
    stage_or_none,
)
from flows.planning.presets import PRESETS
from flows.planning.stages import STAGES
from pipeline.config import StudentConfig
from pipeline.errors import ConfigError
from storage.datasets import READERS


def test_the_choices_of_the_forms_are_what_there_is() -> None:
    assert set(get_args(Dataset)) == set(READERS)
    assert get_args(Preset)[1:] == PRESETS
    assert get_args(FirstStage)[1:] == get_args(LastStage)[1:] == STAGES
    models = {item.model_fields["model"].default for item in StudentConfig.__subclasses__()}
    assert set(get_args(Student)) == models


def test_a_choice_can_name_nothing() -> None:
    assert [stage_or_none(item) for item in ("what is due", "the last", "rank")] == [
        None,
        None,
        "rank",
    ]
    assert [preset_or_none(item) for item in ("default", "demo")] == [None, "demo"]


def test_a_form_becomes_the_configuration_that_options_give(tmp_path: Path) -> None:
    out = str(tmp_path / 'a "quoted" folder')
    config = config_of_form(
        "mevis", "/data", "valid", out, "small", "", ["a", 'b"c'], ["rank.threshold=0.3"]
    )
    assert (config.dataset.name, config.dataset.root) == ("mevis", Path("/data"))
    assert config.run_folder == Path(out) / "mevis-valid"
    assert config.dataset.only_videos == ("a", 'b"c')
    assert config.rank.threshold == 0.3
    assert (
        config.segment.checkpoint
        != config_of_form("mevis", "/data", "valid", out, None, "", (), ()).segment.checkpoint
    )


def test_a_preset_and_a_file_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        config_of_form("shapes", "", "train", "runs", "demo", "mine.toml", (), ())
