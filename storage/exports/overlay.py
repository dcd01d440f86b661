"""Draws the masks of sentences on a frame, over a legend. Letters: E expressions, H W pixels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from pipeline.marks import marked
from pipeline.ports import Image
from pipeline.types import Status

_Colour = tuple[int, int, int]

COLOURS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 190, 130),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (120, 130, 255),
)
"""Of the expressions, in their order; they repeat. Told apart with colour blindness too."""

NO_TRACK = (96, 100, 110)
"""Of a sentence that takes no track."""

SHORTEST, LONGEST = 640, 1920
"""The longest side of a frame is scaled into these bounds, pixels: phones play no larger video."""

MAX_LINES = 3
"""Lines of one sentence."""

MAX_SENTENCES = 12
"""Sentences in the legend."""

_PAPER = (24, 26, 30)
_INK = (240, 240, 240)
_DIM = (150, 155, 165)
_RED = (255, 92, 92)
_TINT = 0.45


class Painter:
    """Draws frames of one video.

    Args:
        size: (H, W) of its frames.
        texts: the E sentences.
        warning: is drawn in red above them; empty for none.
        colours: of the sentences; None for :data:`COLOURS`.
        longest: the longest words that are said of a sentence beside it.
    """

    def __init__(
        self,
        size: tuple[int, int],
        texts: Sequence[str],
        warning: str = "",
        colours: Sequence[_Colour] | None = None,
        longest: str = "mask, weight 0.00",
    ) -> None:
        self._colours = COLOURS if colours is None else tuple(colours)
        self._longest = longest
        factor = min(max(1.0, SHORTEST / max(size)), LONGEST / max(size))
        self._size = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        # H.264 with colour at half the resolution needs even sides.
        self._width = max(self._size[1] + self._size[1] % 2, SHORTEST // 2)
        letters = {letter for text in texts for letter in text}
        self._font = _font(max(14, round(self._width / 46)), frozenset(letters))
        self._line = round(self._font.size * 1.35)
        self._legend, self._marks = self._drawn_legend(texts, warning)
        self.lacking = _lacking(self._font, letters)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of what is drawn; both are even."""
        height = self._size[0] + len(self._legend)
        return height + height % 2, self._width

    def paint(
        self,
        image: Image,
        masks: Sequence[NDArray[np.bool_]],
        weights: Sequence[float],
        statuses: Sequence[int],
    ) -> Image:
        """Returns a frame with its masks, uint8 of :attr:`size`.

        Args:
            image: uint8 [H, W, 3].
            masks: E masks [H, W].
            weights: of each expression in this frame.
            statuses: values of :class:`pipeline.types.Status`.
        """
        pixels = self._scaled(image).astype(np.float32)
        for number, mask in enumerate(masks):
            if mask.any():
                colour = self._colours[number % len(self._colours)]
                _draw_mask(pixels, self._scaled_mask(mask), colour)
        words = [
            f"mask, weight {weight:.2f}"
            if status == Status.PRESENT
            else Status(status).name.lower()
            for weight, status in zip(weights, statuses, strict=True)
        ]
        present = [status == Status.PRESENT for status in statuses]
        return self._composed(pixels.clip(0, 255), words, present)

    def paint_tracks(
        self,
        image: Image,
        masks: NDArray[np.bool_],
        numbers: Sequence[int],
        words: Sequence[str],
        present: Sequence[bool],
    ) -> Image:
        """Returns a frame with its tracks, each with an outline and its number, uint8 of
        :attr:`size`.

        Args:
            image: uint8 [H, W, 3].
            masks: [n, H, W] of the tracks.
            numbers: of the tracks.
            words: of each of the E sentences.
            present: whether the track of each sentence is in this frame.
        """
        scaled = [self._scaled_mask(mask) for mask in masks]
        shapes = np.stack(scaled) if scaled else np.zeros((0, *self._size), np.bool_)
        return self._composed(marked(self._scaled(image), shapes, numbers), words, present)

    def _scaled(self, image: Image) -> Image:
        height, width = self._size
        small = Picture.fromarray(image)
        if small.size != (width, height):
            way = Picture.Resampling.BOX if small.width > width else Picture.Resampling.BICUBIC
            small = small.resize((width, height), way)
        return np.array(small)

    def _scaled_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        way = Picture.Resampling.NEAREST
        return np.array(Picture.fromarray(mask).resize(self._size[::-1], way), np.bool_)

    def _composed(
        self, pixels: NDArray[Any], words: Sequence[str], present: Sequence[bool]
    ) -> Image:
        """The frame over the legend, with what is said of each expression."""
        height, width = self._size
        canvas = np.empty((*self.size, 3), np.uint8)
        canvas[:] = _PAPER
        canvas[:height, :width] = pixels
        legend = Picture.fromarray(self._legend)
        pen = ImageDraw.Draw(legend)
        for top, said, bright in zip(self._marks, words, present, strict=False):
            place = self._width - self._pad, top
            pen.text(place, said, _INK if bright else _DIM, self._font, anchor="ra")
        canvas[height : height + len(self._legend)] = np.asarray(legend)
        return canvas

    @property
    def _pad(self) -> int:
        return max(6, self._line // 3)

    def _drawn_legend(self, texts: Sequence[str], warning: str) -> tuple[Image, list[int]]:
        """The legend without what changes, and the top of each sentence in it."""
        pad, side = self._pad, self._line - self._line // 4
        shown = list(texts[:MAX_SENTENCES])
        left, right = 2 * pad + side, round(self._font.getlength(self._longest)) + 4 * pad
        wrapped = [self._wrapped(text, self._width - left - right) for text in shown]
        red = self._wrapped(warning, self._width - 2 * pad) if warning else []
        rest = len(texts) - len(shown)
        lines = len(red) + sum(map(len, wrapped)) + bool(rest)
        legend = Picture.new("RGB", (self._width, 2 * pad + lines * self._line), _PAPER)
        pen, top, marks = ImageDraw.Draw(legend), pad, list[int]()
        for line in red:
            pen.text((pad, top), line, _RED, self._font)
            top += self._line
        for number, sentence in enumerate(wrapped):
            marks.append(top)
            box = (pad, top + 1, pad + side, top + 1 + side)
            pen.rectangle(box, fill=self._colours[number % len(self._colours)])
            for line in sentence:
                pen.text((left, top), line, _INK, self._font)
                top += self._line
        if rest:
            pen.text((left, top), f"and {rest} more", _DIM, self._font)
        return np.array(legend), marks

    def _wrapped(self, text: str, width: float) -> list[str]:
        """The lines of a text, of which the last ends in dots if there are too many."""
        lines = [""]
        for word in "".join(letter if letter.isprintable() else " " for letter in text).split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        if len(lines) > MAX_LINES:
            lines = [*lines[: MAX_LINES - 1], f"{lines[MAX_LINES - 1]} …"]
        return [self._fitting(line, width) for line in lines]

    def _fitting(self, line: str, width: float) -> str:
        """A line cut to a width; a word can be longer than it."""
        if self._font.getlength(line) <= width:
            return line
        while line and self._font.getlength(f"{line}…") > width:
            line = line[:-1]
        return f"{line}…"


def _draw_mask(pixels: NDArray[np.float32], mask: NDArray[np.bool_], colour: _Colour) -> None:
    """Tints what is inside a mask [H, W] and draws its outline, with a dark rim around it."""
    thick = max(2, max(mask.shape) // 400)
    pixels[mask] = (1 - _TINT) * pixels[mask] + _TINT * np.array(colour, np.float32)
    pixels[_grown(mask, 1) & ~mask] = _PAPER
    pixels[mask & _grown(~mask, thick)] = colour


def _grown(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """A mask with its neighbours of the four sides, so many times."""
    for _ in range(times):
        wider = mask.copy()
        wider[1:] |= mask[:-1]
        wider[:-1] |= mask[1:]
        wider[:, 1:] |= mask[:, :-1]
        wider[:, :-1] |= mask[:, 1:]
        mask = wider
    return mask


@cache
def _font(size: int, letters: frozenset[str]) -> ImageFont.FreeTypeFont:
    """Returns a font for some letters.

    DejaVu Sans comes with matplotlib and has most alphabets. Where it lacks a letter, the first
    font of the system that has all of them is taken, if there is one.
    """
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is installed"
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    usual = ImageFont.truetype(str(path), size)
    if not _lacking(usual, letters):
        return usual
    for place in _system_fonts():
        try:
            other = ImageFont.truetype(place, size)
        except OSError:
            continue
        if not _lacking(other, letters):
            return other
    return usual


def _system_fonts() -> list[str]:
    # Import it here, because it takes long and is seldom needed.
    from matplotlib.font_manager import findSystemFonts

    return sorted(findSystemFonts())


def _lacking(font: ImageFont.FreeTypeFont, letters: Collection[str]) -> list[str]:
    """The letters for which a font draws its sign for a missing one."""
    missing = bytes(font.getmask("\U0010ffff"))
    return sorted(x for x in letters if not x.isspace() and bytes(font.getmask(x)) == missing)
