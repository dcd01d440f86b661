from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes('[dataset]\r\nname = "refytvos"\r\n'.encode(encoding))
    assert load_config(path).dataset.name == "refytvos"


def test_what_is_no_text_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "run.toml")


def test_links_are_followed_unless_the_configuration_says_otherwise() -> None:
    assert load_config(None).dataset.links == "follow"
    assert load_config(None, ["dataset.links=inside"]).dataset.links == "inside"
    with pytest.raises(ConfigError, match=r"dataset\.links"):
        load_config(None, ["dataset.links=none"])
