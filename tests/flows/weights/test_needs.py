"""What a configuration needs, and what is said of what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.planning.presets import config_of_preset
from flows.weights.needs import (
    INDEX,
    Need,
    check_weights,
    fetch_command,
    is_there,
    needs_of,
    weights_are_there,
)
from pipeline.config import load_config
from pipeline.errors import CheckpointError, ConfigError

COMMAND = "pseudolabels weights fetch --preset small"


def test_only_what_the_configuration_names_is_needed() -> None:
    assert needs_of(load_config(None)) == []
    found = needs_of(
        load_config(
            None,
            [
                "segment.checkpoint=published:sam_vit_b_01ec64.pth",
                "ground.text_encoder=published:bert-base-uncased",
                "augment.checkpoint=published:Qwen2.5-VL-7B-Instruct",  # the source is the lexicon
                "student.enabled=false",
                "student.encoders.text_encoder=published:roberta-base",
            ],
        )
    )
    assert [(need.stage, need.path.name, need.needed, need.tokenizer_only) for need in found] == [
        ("ground", "bert-base-uncased", True, True),
        ("segment", "sam_vit_b_01ec64.pth", True, False),
        ("student", "roberta-base", False, False),
    ]


def test_a_folder_that_two_stages_use_is_needed_whole(tmp_path: Path) -> None:
    settings = [f'{key}="{tmp_path}"' for key in ("ground.text_encoder", "augment.checkpoint")]
    [need] = needs_of(load_config(None, [*settings, "augment.source=model"]))
    assert not need.tokenizer_only


def test_a_folder_is_there_with_all_its_parts(tmp_path: Path) -> None:
    need = Need("augment", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert not is_there(need)
    assert not is_there(Need("ground", tmp_path, tokenizer_only=True))
    (tmp_path / "vocab.txt").write_text("a")
    assert is_there(Need("ground", tmp_path, tokenizer_only=True))
    (tmp_path / "a.safetensors").write_text("")
    assert is_there(need)
    parts = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(parts))
    assert not is_there(need)
    (tmp_path / "b.safetensors").write_text("")
    assert is_there(need)
    (tmp_path / INDEX).write_text("[]")
    assert not is_there(need)


def test_missing_weights_are_one_message_with_the_command(cache: Path) -> None:
    config = load_config(
        None,
        [
            "segment.checkpoint=published:sam_vit_b_01ec64.pth",
            "ground.checkpoint=published:groundingdino_swint_ogc.pth",
        ],
    )
    with pytest.raises(CheckpointError) as caught:
        check_weights(config, COMMAND, "--fetch")
    assert str(caught.value) == (
        f"{cache}: sam_vit_b_01ec64.pth, groundingdino_swint_ogc.pth missing; expected the weights"
        f" of segment and ground; fetch them with `{COMMAND}`, or add --fetch"
    )
    for name in ("sam_vit_b_01ec64.pth", "groundingdino_swint_ogc.pth"):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("")
    check_weights(config, COMMAND)


def test_a_name_that_is_not_published_is_not_fetched_but_corrected(tmp_path: Path) -> None:
    config = load_config(None, [f'segment.checkpoint="{tmp_path}/sam_vit_b_01ec46.pth"'])
    with pytest.raises(CheckpointError, match=r"did you mean sam_vit_b_01ec64\.pth\?"):
        check_weights(config, COMMAND)


def test_the_command_repeats_what_names_weights() -> None:
    words = ("out=x", "segment.model=vit_b", "rank.threshold=0.4")
    assert fetch_command(None, "base", words) == (
        "pseudolabels weights fetch --preset base segment.model=vit_b"
    )
    assert fetch_command(Path("a b.toml"), None) == "pseudolabels weights fetch --config 'a b.toml'"


@pytest.mark.parametrize("value", ["published:", "published:../x", "published:.x", "published:a/b"])
def test_a_published_name_is_a_plain_one(value: str) -> None:
    with pytest.raises(ConfigError, match="expected published:NAME"):
        load_config(None, [f'segment.checkpoint="{value}"'])
    with pytest.raises(ConfigError, match="expected published:NAME"):
        load_config(None, [f'ground.text_encoder="{value}"'])


def test_a_user_without_a_home_folder_has_no_published_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("PSEUDOLABELS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda path: no_home())
    assert not weights_are_there(config_of_preset("small"))
