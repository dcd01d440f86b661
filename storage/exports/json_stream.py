"""JSON written piece by piece, so that a file can be larger than memory."""

from __future__ import annotations

import json
from types import TracebackType
from typing import IO, Any, Literal


class JsonStream:
    """Writes one object whose values may be built up entry by entry.

    ::

        with JsonStream(file) as stream:
            stream.value("info", {...})
            stream.begin("images", "[")
            stream.item({...})
            stream.end()

    Args:
        file: a text file.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._first = True
        self._first_inside = True
        self._close = ""

    def __enter__(self) -> JsonStream:
        self._file.write("{")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            assert not self._close, "a list or object is still open"
            self._file.write("\n}\n")

    def value(self, key: str, value: Any) -> None:
        """A key with a value that is at hand."""
        self._key(key)
        self._file.write(_text(value))

    def begin(self, key: str, bracket: Literal["[", "{"]) -> None:
        """A key with a list or an object, whose items follow."""
        self._key(key)
        self._file.write(bracket)
        self._close = {"[": "]", "{": "}"}[bracket]
        self._first_inside = True

    def item(self, value: Any, key: str | None = None) -> None:
        """The next item; with its key, where an object is open."""
        assert (key is None) == (self._close == "]"), "objects have keys, lists have none"
        self._file.write("\n " if self._first_inside else ",\n ")
        self._first_inside = False
        if key is not None:
            self._file.write(f"{_text(key)}: ")
        self._file.write(_text(value))

    def end(self) -> None:
        """Closes the list or object."""
        self._file.write(f"\n{self._close}")
        self._close = ""

    def _key(self, key: str) -> None:
        assert not self._close, "a list or object is still open"
        self._file.write(("\n" if self._first else ",\n") + f"{_text(key)}: ")
        self._first = False


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
