"""Frames with masks over a legend that never hides them."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from pipeline.types import Status
from storage.exports import overlay
from storage.exports.overlay import COLOURS, LONGEST, MAX_SENTENCES, SHORTEST, Painter


def _paint(painter: Painter, size: tuple[int, int], count: int, status: Status) -> np.ndarray:
    image, mask = np.full((*size, 3), 90, np.uint8), np.zeros(size, np.bool_)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = status == Status.PRESENT
    return painter.paint(image, [mask] * count, [0.5] * count, [status] * count)


@pytest.mark.parametrize("size", [(33, 47), (720, 1280), (1281, 721), (4320, 7680)])
def test_sides_are_even_and_within_bounds(size: tuple[int, int]) -> None:
    painter = Painter(size, ["a dog"])
    drawn = _paint(painter, size, 1, Status.PRESENT)
    assert drawn.shape == (*painter.size, 3)
    assert painter.size[0] % 2 == painter.size[1] % 2 == 0
    assert SHORTEST // 2 <= painter.size[1] <= LONGEST
    # The legend is below the frame.
    assert painter.size[0] > round(size[0] * painter.size[1] / size[1]) - 2


def test_each_status_looks_different() -> None:
    painter = Painter((90, 160), ["a dog"])
    drawn = [_paint(painter, (90, 160), 1, status) for status in Status]
    for one in range(3):
        for other in range(one):
            assert not np.array_equal(drawn[one], drawn[other])


def test_each_sentence_has_its_colour_and_the_warning_is_red() -> None:
    texts = ["a dog", "a cat"]
    plain, warned = Painter((90, 160), texts), Painter((90, 160), texts, "take care " * 3)
    legend = _paint(plain, (90, 160), 2, Status.ABSENT)[360:]
    for colour in COLOURS[:2]:
        assert (legend == colour).all(axis=-1).any()
    assert not ((legend[..., 0].astype(int) - legend[..., 1]) > 100).any(axis=1)[:4].any()
    red = _paint(warned, (90, 160), 2, Status.ABSENT)[360 : 360 + 30].astype(int)
    assert ((red[..., 0] - red[..., 1]) > 100).any()
    assert warned.size[0] > plain.size[0]


def test_long_and_many_sentences_are_cut() -> None:
    texts = ["word " * 200, "w" * 900, "line\nbreak\t\x1b[31m"] + ["dog"] * 40
    painter = Painter((90, 160), texts)
    assert painter.size[0] < 360 + 25 * (MAX_SENTENCES + 8)
    _paint(painter, (90, 160), len(texts), Status.PRESENT)


def test_letters_that_no_font_has_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "_system_fonts", list)
    overlay._font.cache_clear()
    assert Painter((90, 160), ["собака, σκύλος, câine"]).lacking == []
    assert Painter((90, 160), ["dog 猫"]).lacking == ["猫"]


def test_a_font_of_the_system_is_taken_for_letters_that_the_usual_one_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    found = [tmp_path / "broken.ttf", fonts / "cmr10.ttf", fonts / "STIXGeneral.ttf"]
    monkeypatch.setattr(overlay, "_system_fonts", lambda: list(map(str, found)))
    overlay._font.cache_clear()
    painter = Painter((90, 160), ["dog \u1d81"])
    assert painter.lacking == [] and painter._font.getname()[0] == "STIXGeneral"
    assert Painter((90, 160), ["dog"])._font.getname()[0] == "DejaVu Sans"
