"""Frames and masks as image files, read with care: files of a data set may be broken or hostile.

Letters: H W pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import InputError
from storage.files.faults import is_files_fault
from storage.files.regular import check_regular
from storage.files.turning import EXIF_TURNS, Turn

MAX_PIXELS = 64_000_000
"""A small file can claim to be a huge image; 8K video has 33 million pixels."""

_DARK = 16
"""A picture of 16 bits whose values all lie below a 16th of the range holds 10 or 12 bits that were
not scaled."""

_ORIENTATION = 0x0112

_SCALES = {"L;2": 85, "L;4": 17}
"""Of grey PNGs with 2 and 4 bits: the factor by which PIL scales them to 0..255."""

MASK_MODES = frozenset({"1", "L", "P"})
"""PIL modes of index masks: a palette PNG keeps the object id of a pixel as its value."""


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the picture as it stands upright, out of the header; no pixel is decoded.

    Raises:
        InputError: the file is missing, is no image, or claims more than MAX_PIXELS.
        OSError: it cannot be read for a reason that may pass.
    """
    with _opened(path, "an image") as image:
        return _turn(image).size(image.height, image.width)


def is_upright_jpeg(path: Path) -> bool:
    """Whether a file is a JPEG whose pixels every program shows as :func:`read_image` reads them.

    Raises:
        InputError, OSError: as :func:`image_size`.
    """
    with _opened(path, "an image") as image:
        return image.format == "JPEG" and not _turn(image)


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A frame as RGB uint8 [H, W, 3], at its own resolution, turned upright as its tag says.

    Args:
        path: JPEG, PNG or whatever PIL reads; grey and palette images become RGB, and 16 bits are
            scaled to 8.
        size: (H, W) that the frame must have; None for any.

    Raises:
        InputError: the file is missing, broken, truncated, too large, of another size, or holds
            numbers that have no one meaning as a picture (floats, 32 bits, 10 bits in 16).
        OSError: it cannot be read for a reason that may pass.
    """
    with _opened(path, "an image") as image:
        turn = _turn(image)
        found = turn.size(image.height, image.width)
        if size is not None and found != size:
            raise InputError(
                path,
                f"{found[0]} x {found[1]} pixels (height x width)",
                f"{size[0]} x {size[1]}, as the video's first frame",
                "give all frames of the video one size",
            )
        pixels = _rgb(path, image)
        return turn.of(pixels) if turn else pixels


def _rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] as they are stored, in 8 bits."""
    sixteen = ";16" in _raw_mode(image)
    if image.mode in ("I", "F"):
        raise InputError(
            path,
            f"pixels of mode {image.mode} (32-bit numbers)",
            "8 or 16 bits a channel",
            "save the frames with 8 bits a channel",
        )
    if image.mode.startswith("I;16"):
        stored = np.asarray(image).astype(np.uint32)
        highest = int(stored.max(initial=0)) / 256
        grey = ((stored * 255 + 32767) // 65535).astype(np.uint8)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    else:
        # PIL keeps the upper 8 of 16 bits in colour.
        pixels = np.array(image.convert("RGB"), dtype=np.uint8)
        highest = int(pixels.max(initial=0)) if sixteen else 0
    if 0 < highest < _DARK:
        raise InputError(
            path,
            "16 bits a channel, of which no pixel uses more than a 16th of the range",
            "values that are scaled to the whole range",
            "save the frames with 8 bits a channel, or scale 10 or 12 bits to 16",
        )
    return pixels


def _raw_mode(image: Image.Image) -> str:
    """How a file stores its pixels, in PIL's words, such as ``RGB;16B``; empty where unknown. Of an
    image that is not decoded yet."""
    tiles = getattr(image, "tile", None)
    raw = tiles[0][3] if tiles else ""
    return str(raw[0] if isinstance(raw, tuple) and raw else raw)


def _turn(image: Image.Image) -> Turn:
    """What an image's tag says of how it is to be turned. Of an image that is not decoded yet."""
    if image.format == "TIFF":
        return Turn()  # PIL turns these itself, its size too.
    try:
        # Not PNG's own method, which decodes the pixels to look for a tag behind them.
        value = Image.Image.getexif(image).get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return Turn()  # A damaged tag says nothing.
    return EXIF_TURNS.get(value, Turn()) if isinstance(value, int) else Turn()


def read_mask(
    path: Path, size: tuple[int, int] | None = None, content: bytes | None = None
) -> NDArray[np.uint8]:
    """An index mask as uint8 [H, W]: the value of a pixel is the id of its object, 0 is none.

    Args:
        path: a palette PNG, or a grey one of at most 8 bits; turned upright as its tag says.
        size: (H, W) that the mask must have; None for any.
        content: the file's bytes, where it lies in an archive.

    Raises:
        InputError: the file is missing, broken, truncated, too large, of another size, or holds
            colours in place of ids.
        OSError: it cannot be read for a reason that may pass.
    """
    with _opened(path, "an index mask", content) as image:
        if image.mode not in MASK_MODES:
            raise InputError(
                path,
                f"an image of mode {image.mode}",
                "a palette or 8-bit grey PNG whose pixel values are object ids",
                "save the mask with mode 'P'",
            )
        turn, scale = _turn(image), _SCALES.get(_raw_mode(image), 1)
        found = turn.size(image.height, image.width)
        if size is not None and found != size:
            raise InputError(
                path,
                f"a mask of {found[0]} x {found[1]} pixels (height x width)",
                f"{size[0]} x {size[1]}, as the frame",
                "save the mask at the frame's size",
            )
        ids = np.array(image, dtype=np.uint8) // np.uint8(scale)
        return turn.of(ids) if turn else ids


def write_index_mask(
    path: Path, ids: NDArray[np.uint8], palette: Sequence[int] | None = None
) -> None:
    """Saves an index mask [H, W] as a palette PNG: the value of a pixel is the id of its object.

    Args:
        palette: red, green and blue of each id, one after the other; None for DAVIS's.
    """
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes())
    image.putpalette(_palette() if palette is None else palette)
    image.save(path, format="PNG")


def png_of(mask: NDArray[np.bool_]) -> bytes:
    """A mask [H, W] as an 8-bit grey PNG, 255 inside and 0 outside."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, format="PNG")
    return buffer.getvalue()


def png_of_scores(scores: NDArray[np.uint16]) -> bytes:
    """Scores [H, W] as a 16-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(scores).save(buffer, format="PNG")
    return buffer.getvalue()


def read_scores(
    path: Path, size: tuple[int, int] | None = None, content: bytes | None = None
) -> NDArray[np.float32]:
    """Scores in [0, 1] as float32 [H, W], of a grey PNG of 8 or 16 bits whose highest value is 1.

    Args:
        path, size, content: as of :func:`read_mask`.

    Raises:
        InputError, OSError: as :func:`read_mask`.
    """
    expected = "a grey PNG of 8 or 16 bits"
    with _opened(path, expected, content) as image:
        deep = ";16" in _raw_mode(image)
        if not deep and image.mode not in ("1", "L"):
            found = f"an image of mode {image.mode}"
            raise InputError(path, found, expected, "save scores as grey values")
        if size is not None and (image.height, image.width) != size:
            found = f"scores of {image.height} x {image.width} pixels (height x width)"
            wanted = f"{size[0]} x {size[1]}, as the frame"
            raise InputError(path, found, wanted, "save the scores at the frame's size")
        most = 65535 if deep else 1 if image.mode == "1" else 255
        return np.asarray(image).astype(np.float32) / np.float32(most)


@lru_cache(maxsize=1)
def _palette() -> bytes:
    """256 colours: black for 0, and neighbouring ids well apart.

    The bits of an id go to red, green and blue in turn, low bits to high values, as in the palette
    of PASCAL VOC and DAVIS.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            position = 3 * bit + channel
            if position < 8:
                colours[:, channel] |= (((ids >> position) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


@contextmanager
def _opened(path: Path, expected: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The open image; every way in which the file is at fault becomes an InputError."""
    try:
        if content is None:
            check_regular(path, expected)
        # Opened here: PIL leaves a file open that it cannot read.
        with (
            path.open("rb") if content is None else io.BytesIO(content) as file,
            Image.open(file) as image,
        ):
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise InputError(
                    path,
                    f"{image.height} x {image.width} pixels",
                    f"{expected} of at most {MAX_PIXELS:,} pixels",
                    "scale the file down",
                )
            yield image
    except FileNotFoundError as error:
        raise InputError(
            path, "no such file", expected, "restore the file", missing=True
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            path,
            "a file that claims a huge number of pixels",
            f"{expected} of at most {MAX_PIXELS:,} pixels",
            "scale the file down",
        ) from error
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, NotImplementedError) as error:
        if not is_files_fault(error):
            raise
        # PIL raises SyntaxError for a broken PNG chunk, OSError for a truncated stream,
        # NotImplementedError for rare kinds of textures.
        raise InputError(
            path, f"not readable as an image ({error})", expected, "restore the file"
        ) from error
