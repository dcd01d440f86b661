from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from pipeline.errors import InputError
from storage.files.images import (
    image_size,
    is_upright_jpeg,
    png_of,
    png_of_scores,
    read_image,
    read_mask,
    read_scores,
    write_index_mask,
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "00000.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    return path


def _claimed(
    path: Path, height: int, width: int, bits: int = 8, pixels: bytes = zlib.compress(b"")
) -> Path:
    """A grey PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
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
    with pytest.raises(InputError, match="a folder; expected an image"):
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


def _tagged(path: Path, pixels: np.ndarray, value: int, **named: object) -> Path:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(pixels).save(path, exif=exif, **named)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_pixels_are_turned_as_the_tag_says(tmp_path: Path, value: int, suffix: str) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (3, 5, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    path = _tagged(tmp_path / f"x.{suffix}", pixels, value)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape[:2] == ((24, 40) if value < 5 else (40, 24))
    assert image_size(path) == expected.shape[:2]
    assert np.array_equal(read_image(path, expected.shape[:2]), expected)
    assert is_upright_jpeg(path) == (suffix == "jpg" and value == 1)


@pytest.mark.parametrize("value", [3, 6])
def test_so_are_masks(tmp_path: Path, value: int) -> None:
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    path = _tagged(tmp_path / "m.png", ids, value)
    expected = np.rot90(ids, {3: 2, 6: 3}[value])
    assert np.array_equal(read_mask(path, expected.shape), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_tag_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 6)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert image_size(path) == read_image(path).shape[:2] == (6, 8)


def test_16_bits_are_scaled_to_8(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    levels = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(path)
    assert read_image(path)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]


def _deep(path: Path, values: np.ndarray) -> Path:
    """A PNG of 16 bits a channel in colour, [H, W, 3]."""
    assert cv2.imwrite(str(path), values.astype(np.uint16)[:, :, ::-1])
    return path


def test_so_are_16_bits_in_colour(tmp_path: Path) -> None:
    values = np.full((2, 3, 3), (0, 32896, 65535))
    assert (read_image(_deep(tmp_path / "x.png", values)) == (0, 128, 255)).all()


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("colours", [1, 3])
def test_10_or_12_bits_in_16_are_refused(tmp_path: Path, bits: int, colours: int) -> None:
    values = np.linspace(0, 2**bits - 1, 24).reshape(4, 6).astype(np.uint16)
    path = tmp_path / "x.png"
    if colours == 3:
        _deep(path, np.repeat(values[:, :, None], 3, axis=2))
    else:
        Image.fromarray(values).save(path)
    with pytest.raises(InputError, match="16 bits a channel, of which no pixel uses more"):
        read_image(path)


def test_a_black_picture_of_16_bits_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(tmp_path / "x.png")
    assert not read_image(tmp_path / "x.png").any()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_floats_and_32_bits_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    """PIL would cut them at 255."""
    path = tmp_path / "x.png"
    Image.fromarray(np.linspace(0, 1000, 24).reshape(4, 6).astype(dtype)).save(path, format="TIFF")
    with pytest.raises(InputError, match="32-bit numbers"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_mask_of_more_than_8_bits_is_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.ones((4, 6), dtype)).save(path, format="TIFF")
    with pytest.raises(InputError, match="an image of mode"):
        read_mask(path)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_grey_mask_of_few_bits_keeps_its_ids(tmp_path: Path, bits: int) -> None:
    """PIL scales grey of 2 and 4 bits to 0..255, which makes id 3 to 255 or 51."""
    ids = np.array([[0, 1, 2, 3]] * 2, np.uint8)
    packed = [
        sum(int(v) << (8 - bits * (k + 1)) for k, v in enumerate(part))
        for part in ([[0, 1, 2, 3]] if bits == 2 else [[0, 1], [2, 3]])
    ]
    row = b"\0" + bytes(packed)
    path = _claimed(tmp_path / "m.png", 2, 4, bits, zlib.compress(row * 2))
    assert np.array_equal(read_mask(path, (2, 4)), ids)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    for reader in (image_size, read_image, read_mask, is_upright_jpeg):
        with pytest.raises(InputError, match=kind):
            reader(path)


def test_index_masks_are_written_as_they_are_read(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_index_mask(tmp_path / "m.png", ids)
    assert np.array_equal(read_mask(tmp_path / "m.png", (8, 32)), ids)
    with Image.open(tmp_path / "m.png") as image:
        colours = np.array(image.convert("RGB")).reshape(256, 3).tolist()
    # DAVIS's palette: none twice, and the first bits of an id are the strongest of each colour.
    assert colours[:5] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert colours[8] == [64, 0, 0] and colours[255] == [224, 224, 192]
    assert len(set(map(tuple, colours))) == 256


def test_a_mask_as_a_png_is_black_and_white(tmp_path: Path) -> None:
    mask = np.array([[True, False, False]])
    (tmp_path / "m.png").write_bytes(png_of(mask))
    assert read_mask(tmp_path / "m.png").tolist() == [[255, 0, 0]]


def test_scores_come_back_to_the_last_of_16_bits(tmp_path: Path) -> None:
    scores = np.array([[0, 1, 32767, 32768], [40000, 65534, 65535, 7]], np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png_of_scores(scores))
    found = read_scores(path, (2, 4))
    assert np.array_equal(found, scores.astype(np.float32) / np.float32(65535))
    assert (found >= 0.5).sum() == 4
    path.write_bytes(png_of(scores > 40000))
    assert read_scores(path).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    for size, words in (((4, 2), "scores of 2 x 4 pixels"), (None, "mode RGB")):
        if size is None:
            Image.new("RGB", (4, 2)).save(path)
        with pytest.raises(InputError, match=words):
            read_scores(path, size)
