"""Frames and masks as image files, read with care: files of a data set may be broken or hostile.

Letters: H W pixels.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import InputError

MAX_PIXELS = 64_000_000
"""A small file can claim to be a huge image; 8K video has 33 million pixels."""

MASK_MODES = frozenset({"1", "L", "P"})
"""PIL modes of index masks: a palette PNG keeps the object id of a pixel as its value."""

_FILES_FAULT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP}
    | {errno.ENAMETOOLONG, errno.EBADMSG, errno.EUCLEAN, errno.EINVAL, errno.ENXIO, errno.EIO}
)
"""Missing, in each other's place, closed, links in a circle, a long name, a damaged file system,
places before the file's start, a socket, a bad sector. A network may give ``EIO`` and mend, but a
disk gives it for good: it costs a video, which can be tried again, and not a shard."""


def is_files_fault(error: Exception) -> bool:
    """Whether a file or folder is at fault for an error, and will be the next time too.

    Otherwise the network or the machine is (``ESTALE``, ``ETIMEDOUT``, ``EMFILE``), and the same
    work may succeed later. Libraries give their own errors for damage no number.
    """
    return not isinstance(error, OSError) or error.errno is None or error.errno in _FILES_FAULT


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) out of the header; no pixel is decoded.

    Raises:
        InputError: the file is missing, is no image, or claims more than MAX_PIXELS.
        OSError: it cannot be read for a reason that may pass.
    """
    with _opened(path, "an image") as image:
        return image.height, image.width


def read_image(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A frame as RGB uint8 [H, W, 3], at its own resolution.

    Args:
        path: JPEG, PNG or whatever PIL reads; grey and palette images become RGB.
        size: (H, W) that the frame must have; None for any.

    Raises:
        InputError: the file is missing, broken, truncated, too large, or of another size.
        OSError: it cannot be read for a reason that may pass.
    """
    with _opened(path, "an image") as image:
        if size is not None and (image.height, image.width) != size:
            raise InputError(
                path,
                f"{image.height} x {image.width} pixels (height x width)",
                f"{size[0]} x {size[1]}, as the video's first frame",
                "give all frames of the video one size",
            )
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def read_mask(
    path: Path, size: tuple[int, int] | None = None, content: bytes | None = None
) -> NDArray[np.uint8]:
    """An index mask as uint8 [H, W]: the value of a pixel is the id of its object, 0 is none.

    Args:
        path: a palette or 8-bit grey PNG.
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
        if size is not None and (image.height, image.width) != size:
            raise InputError(
                path,
                f"a mask of {image.height} x {image.width} pixels (height x width)",
                f"{size[0]} x {size[1]}, as the frame",
                "save the mask at the frame's size",
            )
        return np.array(image, dtype=np.uint8)


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
        with Image.open(path if content is None else io.BytesIO(content)) as image:
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
