from __future__ import annotations

import pytest

from pipeline.words import words_of


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("the red square", 3),
        ("  a\tdog's  tail ", 3),
        ("", 0),
        ("\u7ea2\u8272\u7684\u65b9\u5757", 5),
        ("\u7ea2\u8272 red \u65b9\u5757x", 6),
        ("\u8d64\u3044\u30dc\u30fc\u30eb", 5),
        ("\u0e2a\u0e35", 2),
        ("\U00020000\U00020001", 2),
        ("caf\u00e9 na\u00efve", 2),
    ],
)
def test_letters_of_scripts_without_spaces_count_as_words(text: str, count: int) -> None:
    assert len(words_of(text)) == count
