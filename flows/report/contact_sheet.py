"""Writes a sheet of frames of a data set, one per video, with a sentence and its true mask."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flows.report.draw import TRUE, overlay
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex
from storage.files.atomic import replace_file

COLUMNS = 4
WIDTH = 320
CAPTION = 56
_LETTERS = 46


def write_contact_sheet(reader: DatasetReader, path: Path, videos: int = 12) -> int:
    """Writes a PNG. Returns the number of videos on it.

    Args:
        videos: maximum number, evenly spread over the split. Unreadable videos are left out.
    """
    tiles = [
        tile for video in _spread(reader.video_ids(), videos) if (tile := _tile(reader, video))
    ]
    if not tiles:
        return 0
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new("RGB", (WIDTH * min(COLUMNS, len(tiles)), sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (column * WIDTH, top))
        top += height
    with replace_file(path) as file:
        sheet.save(file, format="PNG")
    return len(tiles)


def _spread(ids: Sequence[str], count: int) -> list[str]:
    places = np.linspace(0, len(ids) - 1, min(len(ids), count)).round()
    return [ids[int(place)] for place in places]


def _tile(reader: DatasetReader, video_id: str) -> Image.Image | None:
    """The annotated frame nearest the middle, with the first expression; None if unreadable."""
    try:
        video, expressions = reader.video(video_id), reader.expressions(video_id)
        order = sorted(range(len(video)), key=lambda index: abs(index - len(video) // 2))
        index = FrameIndex(order[0])
        mask = np.zeros((video.height, video.width), np.bool_)
        for place in order if expressions else ():
            truth = reader.truth(video, expressions[0], FrameIndex(place))
            if truth is not None:
                index, mask = FrameIndex(place), truth
                break
        picture = overlay(reader.frame(video, index), mask, TRUE, WIDTH)
    except InputError:
        return None
    text = expressions[0].text if expressions else "no expression"
    tile = Image.new("RGB", (WIDTH, picture.shape[0] + CAPTION), "white")
    tile.paste(Image.fromarray(picture), (0, 0))
    lines = [f"{video_id}  {video.frames[index]}", *textwrap.wrap(text, _LETTERS)[:2]]
    draw = ImageDraw.Draw(tile)
    draw.text((6, picture.shape[0] + 4), "\n".join(lines), "black", ImageFont.load_default(12))
    return tile
