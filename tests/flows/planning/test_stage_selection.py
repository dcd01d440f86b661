from pathlib import Path

import pytest

from flows.planning.stage_selection import Scope, scope_of, videos_asked_for
from pipeline.config import load_config
from pipeline.errors import ConfigError

CONFIG = load_config(None)


def test_a_scope_is_a_stretch_of_the_stages() -> None:
    assert scope_of(CONFIG, None, None) == Scope()
    assert scope_of(CONFIG, None, "ground") == Scope(("augment", "ground"), ())
    assert scope_of(CONFIG, "evaluate", None).again == ("evaluate", "report")
    assert scope_of(CONFIG, "ground", "segment") == Scope(
        ("augment", "ground", "segment"), ("ground", "segment")
    )


def test_ids_come_as_words_and_from_files(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("b\n\n  c \na\n", encoding="utf-8-sig")
    assert videos_asked_for(["a", f"@{file}"]) == ("a", "b", "c")
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_bytes("b\r\nc\r\n".encode(encoding))
        assert videos_asked_for([f"@{file}"]) == ("b", "c")
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        videos_asked_for([f"@{file}"])
