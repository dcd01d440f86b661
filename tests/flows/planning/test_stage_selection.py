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


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("fused", None), "--from-stage fused: no such stage; give one of augment, ground"),
        ((None, "everything"), "--to-stage everything: no such stage"),
        (("rank", "fuse"), "--from-stage rank comes after --to-stage fuse; the order is augment"),
    ],
)
def test_stages_that_cannot_be_asked_for(
    asked: tuple[str | None, str | None], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        scope_of(CONFIG, *asked)


def test_one_stage_alone() -> None:
    scope = scope_of(CONFIG, "fuse", "fuse")
    assert scope.again == ("fuse",)
    assert scope.stages[-1] == "fuse"
