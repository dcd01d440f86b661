"""Which frames of a file are shown, in which order and when, however it is stored."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from storage.datasets import video_clip
from storage.datasets.video_files import ClipCache
from storage.files import images

H264 = {"bf": "2", "g": "6"}


def write_video(
    path: Path,
    frames: int = 12,
    codec: str = "libx264",
    size: tuple[int, int] = (32, 48),
    options: dict[str, str] | None = None,
    milliseconds: list[int] | None = None,
    audio: bool = False,
    form: str | None = None,
    pixels: str = "yuv420p",
) -> Path:
    """A video whose frames are told apart by the brightness of a corner.

    Args:
        size: (H, W).
        milliseconds: when each frame is shown; None for ten a second.
        form: of the container; None for that of the suffix.
    """
    times = milliseconds or [100 * number for number in range(frames)]
    with av.open(str(path), "w", format=form) as file:
        stream: Any = file.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound: Any = file.add_stream("aac", rate=8000) if audio else None
        for number, time in enumerate(times):
            image = np.full((*size, 3), 10, np.uint8)
            image[:16, :16] = 16 * number + 20
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if milliseconds:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if sound is not None:
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
            noise.sample_rate = 8000
            file.mux(sound.encode(noise))
            file.mux(sound.encode())
    return path


def shade(image: np.ndarray) -> int:
    """The number of a frame of :func:`write_video`."""
    return round((float(image[4:12, 4:12].mean()) - 20) / 16)


KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": H264, "audio": True},
    "a.mov": {"codec": "mpeg4"},
    "a.mkv": {"codec": "mpeg4", "options": {"bf": "2"}},
    "a.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "size": (33, 47)},
    "b.avi": {"options": H264},
    "a.avi": {"codec": "mpeg4"},
    "raw.mkv": {"options": H264, "form": "h264"},
    "uneven.mp4": {"options": H264, "milliseconds": [0, 40, 500, 540, 1900]},
    "one.mp4": {"frames": 1},
}


@pytest.mark.parametrize("name", KINDS)
def test_each_frame_comes_once_in_order_and_alone(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    path, clips = write_video(tmp_path / name, **kind), ClipCache()
    info = clips.info(path)
    count = len(kind.get("milliseconds", ())) or kind.get("frames", 12)
    assert [shade(clips.frame(path, number)) for number in range(info.frames)] == list(range(count))
    order = list(range(count))
    random.Random(0).shuffle(order)
    assert [shade(clips.frame(path, number)) for number in order] == order
    assert (info.height, info.width) == kind.get("size", (32, 48))
    expected = [time / 1000 for time in kind.get("milliseconds", ())]
    if not kind.get("form"):
        assert np.allclose(info.times, expected or [0.1 * n for n in range(count)], atol=1e-3)


def test_frames_of_one_time_count_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", codec="mpeg4")
    twice = tmp_path / "twice.mkv"
    with av.open(str(path)) as source, av.open(str(twice), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            if number == 4:
                packet.pts = packet.dts = 300
            packet.stream = stream
            file.mux(packet)
    clips = ClipCache()
    seen = [shade(clips.frame(twice, number)) for number in range(clips.info(twice).frames)]
    assert seen == [0, 1, 2, 3, *range(5, 12)]


def test_a_cut_clip_begins_where_its_edit_list_says(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", options={"g": "12", "bf": "0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(path)) as source, av.open(str(cut), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= round(0.5 / packet.time_base)
                packet.dts -= round(0.5 / packet.time_base)
                packet.stream = stream
                file.mux(packet)
    clips = ClipCache()
    seen = [shade(clips.frame(cut, number)) for number in range(clips.info(cut).frames)]
    assert seen == list(range(5, 12))


def test_frames_of_a_gif_are_cleared_as_it_asks(tmp_path: Path) -> None:
    pages = []
    for number in range(3):
        page = Image.new("P", (24, 20), 0)
        page.putpalette([255, 0, 0, 0, 200, 0] + [0] * 762)
        page.paste(1, (8 * number, 4, 8 * number + 8, 12))
        pages.append(page)
    path = tmp_path / "a.gif"
    rest = {"save_all": True, "append_images": pages[1:], "duration": 70}
    pages[0].save(path, transparency=0, disposal=2, **rest)
    clips = ClipCache()
    assert np.allclose(clips.info(path).times, [0, 0.07, 0.14])
    for number in range(3):
        row = clips.frame(path, number)[8]
        assert [bool(row[8 * place + 4, 0] < 100) for place in range(3)] == [
            place == number for place in range(3)
        ]


def test_frames_are_scaled_to_a_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert ClipCache().frame(path, 3, (16, 24)).shape == (16, 24, 3)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _noise(path: Path) -> None:
    path.write_bytes(b"no video at all" * 100)


def _audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        stream: Any = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.mark.parametrize(
    ("make", "found"),
    [(_empty, "0 bytes"), (_noise, "not readable as a video"), (_audio, "(audio alone)")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, make: Any, found: str) -> None:
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(InputError) as caught:
        ClipCache().info(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert found in str(caught.value)
    assert "expected a video file (avi, gif, mkv, mov, mp4, webm)" in str(caught.value)


def test_frames_that_are_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=1)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match=r"32 x 48 pixels .* at most 1,000 pixels; scale"):
        ClipCache().info(path)


def test_a_file_without_an_index_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mkv", codec="mpeg4", options={"g": "3"})
    clips = ClipCache()
    assert shade(clips.frame(path, 11)) == 11
    # As in a stream that was saved while it was sent: every search ends at the end of the file.
    monkeypatch.setattr(video_clip.Clip, "_is_late", lambda self, key, index: True)
    assert shade(clips.frame(path, 2)) == 2
    assert shade(clips.frame(path, 7)) == 7


def test_frames_on_the_way_that_nothing_is_made_from_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"bf": "5", "g": "60", "b_strategy": "0"}
    path = write_video(tmp_path / "a.mp4", frames=12, options=options)
    in_order = ClipCache()
    pictures = [in_order.frame(path, number).tobytes() for number in range(12)]
    decoded: list[int] = []
    place_of = video_clip.Clip._place_of

    def counted(clip: video_clip.Clip, frame: Any) -> int:
        decoded.append(place_of(clip, frame))
        return decoded[-1]

    monkeypatch.setattr(video_clip.Clip, "_place_of", counted)
    for number in [10, 3, 5, 11, 0, 9, 2, 8, 4, 1, 7, 6]:
        decoded.clear()
        assert ClipCache().frame(path, number).tobytes() == pictures[number]
        assert number < 8 or len(decoded) < number
    clips = ClipCache()
    for number in [10, 3, 5, 11, 0, 9, 2, 8, 4, 1, 7, 6]:
        assert clips.frame(path, number).tobytes() == pictures[number]
