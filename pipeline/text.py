"""Opens text files; the whole project uses it."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, with which Windows begins a text file, and the encodings that they tell of."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file without its byte order mark; every end of a line is a line feed.

    Args:
        path: the file.
        encoding: of a file that has no mark; a mark says the encoding itself.

    Raises:
        OSError: as ``open`` does.
        UnicodeDecodeError: the bytes are not text in that encoding.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), encoding)
    text = content.decode(encoding)
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


def markdown_escaped(text: str) -> str:
    """Returns text that Markdown shows unchanged, on one line."""
    line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>&" else letter for letter in line)
