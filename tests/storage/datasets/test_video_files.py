"""Clips: which frame a number is, which way up, and what is no clip."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import InputError
from storage.datasets.video_files import ClipCache
from tests.storage.datasets import trees

FRAMES = 6


def _clip(
    path: Path, without: int | None = None, turn: tuple[int, bool, bool] | None = None
) -> Path:
    """A clip whose frames can each be decoded alone and are told apart by their brightness.

    Args:
        without: a frame whose packet holds no picture.
        turn: degrees counter-clockwise, and two flips, that the container asks for.
    """
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = trees.WIDTH, trees.HEIGHT, "yuv444p"
        stream.options = {"g": "1", "bf": "0", "crf": "1"}
        if turn is not None:
            stream.set_display_rotation(*turn)
        packets = []
        for number in range(FRAMES):
            image = np.full((trees.HEIGHT, trees.WIDTH, 3), 20, np.uint8)
            image[:8, :8] = 40 * number + 30
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        for number, packet in enumerate([*packets, *stream.encode()]):
            if number == without:
                empty = av.Packet(b"\0\0\0\1\x09\xf0")
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                empty.duration, empty.stream = packet.duration, stream
                packet = empty
            file.mux(packet)
    return path


def _shade(image: np.ndarray) -> int:
    return round((float(image[2:6, 2:6].mean()) - 30) / 40)


def test_a_packet_without_a_picture_shifts_no_later_frame(tmp_path: Path) -> None:
    path, clips = _clip(tmp_path / "c.mp4", without=2), ClipCache()
    assert clips.info(path).frames == FRAMES
    seen = {}
    for number in range(FRAMES):
        try:
            seen[number] = _shade(clips.frame(path, number))
        except InputError as error:
            assert number == 2
            assert error.found.startswith("frame 2 does not decode")
    assert seen == {number: number for number in range(FRAMES) if number != 2}
    # Nor where the frames are asked for one by one.
    assert all(_shade(ClipCache().frame(path, number)) == number for number in seen)


@pytest.mark.parametrize(
    "turn", [(90, False, False), (180, False, False), (-90, False, False), (0, True, False)]
)
def test_frames_stand_as_the_container_says(tmp_path: Path, turn: tuple[int, bool, bool]) -> None:
    path, clips = _clip(tmp_path / "c.mp4", turn=turn), ClipCache()
    upright = ClipCache().frame(_clip(tmp_path / "upright.mp4"), 3)
    expected = np.rot90(upright, turn[0] // 90)
    expected = expected[:, ::-1] if turn[1] else expected
    info = clips.info(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert np.array_equal(clips.frame(path, 3), expected)


@pytest.mark.parametrize("kind", ["a named pipe", "a folder"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.mp4"
    os.mkfifo(path) if kind == "a named pipe" else path.mkdir()
    with pytest.raises(InputError, match=kind):
        ClipCache().info(path)
