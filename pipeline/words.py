"""Words of a sentence, in scripts with spaces between them and in those without."""

from __future__ import annotations

import re

_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul, whose letters tokenizers take apart
)
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+")


def words_of(text: str) -> list[str]:
    """The words of a text: what stands between spaces, and every letter of a script that puts no
    spaces between words, as tokenizers read those letter by letter."""
    return _WORD.findall(text)
