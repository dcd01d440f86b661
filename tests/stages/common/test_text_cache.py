from __future__ import annotations

from stages.common.text_cache import KnownTexts


class Noted:
    """Encodes a text as its upper case and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> str:
        self.asked.append(text)
        return text.upper()


def test_a_text_is_encoded_once_and_by_itself() -> None:
    known, encode = KnownTexts[str](4), Noted()
    assert known.of(["a", "b", "a"], encode) == ["A", "B", "A"]
    assert known.of(["c", "b"], encode) == ["C", "B"]
    assert known.of([], encode) == []
    assert encode.asked == ["a", "b", "c"]


def test_what_is_too_much_is_forgotten_and_a_call_still_has_all_of_its_own() -> None:
    known, encode = KnownTexts[str](2), Noted()
    known.of(["a", "b"], encode)
    assert known.of(["b", "c"], encode) == ["B", "C"]
    assert known.of(["a", "b", "c"], encode) == ["A", "B", "C"]
    assert encode.asked == ["a", "b", "b", "c", "a", "b", "c"]
    known.of(["b"], encode)
    assert encode.asked[7:] == ["b"]
