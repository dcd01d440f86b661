from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.errors import InputError
from storage.files.images import image_size, read_image, read_mask


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "00000.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    return path


def _claimed(path: Path, height: int, width: int) -> Path:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_a_frame_reads_as_rgb(picture: Path) -> None:
    assert image_size(picture) == (20, 30)
    image = read_image(picture, (20, 30))
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").shape == (3, 4, 3)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_keeps_its_ids(tmp_path: Path, mode: str) -> None:
    ids = np.array([[0, 1], [7, 200]], np.uint8)
    image = Image.fromarray(ids)
    if mode == "P":
        image = Image.frombytes("P", (2, 2), ids.tobytes())
        image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", (2, 2)), ids)


def test_a_mask_in_colours_is_refused(picture: Path) -> None:
    with pytest.raises(InputError, match="mode RGB"):
        read_mask(picture)


def test_another_size_is_refused(picture: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="20 x 30"):
        read_image(picture, (30, 20))
    with pytest.raises(InputError, match="3 x 4"):
        read_mask(tmp_path / "m.png", (4, 3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"00000\.jpg.*no such file"):
        read_image(tmp_path / "00000.jpg")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0broken"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not readable"):
        read_image(path)
    with pytest.raises(InputError, match="not readable"):
        image_size(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert image_size(path) == (64, 64)
    with pytest.raises(InputError, match="not readable"):
        read_image(path)


@pytest.mark.parametrize("side", [8_100, 10_000, 60_000])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = _claimed(tmp_path / "bomb.png", side, side)
    for reader in (image_size, read_image, read_mask):
        with pytest.raises(InputError, match="pixels"):
            reader(path)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable"):
        read_image(tmp_path)


FAULTS = [errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.EIO]
PASSING = [errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EMFILE, errno.ENOMEM]


@pytest.mark.parametrize("number", [*FAULTS, *PASSING], ids=errno.errorcode.get)
@pytest.mark.parametrize("when", ["open", "load"])
def test_only_an_error_that_is_the_files_fault_is_an_input_error(
    picture: Path, monkeypatch: pytest.MonkeyPatch, when: str, number: int
) -> None:
    """So that the flow tries again what a network failed to give."""

    def failed(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    place = (Image, "open") if when == "open" else (ImageFile.ImageFile, "load")
    monkeypatch.setattr(*place, failed)
    with pytest.raises(InputError if number in FAULTS else OSError, match=os.strerror(number)):
        read_image(picture)


def test_a_kind_that_pil_does_not_know_is_refused(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*arguments: object) -> None:
        raise NotImplementedError("Unknown pixel format flags 2")

    monkeypatch.setattr(Image, "open", unknown)
    with pytest.raises(InputError, match="not readable as an image"):
        read_image(picture)
