"""Overlays decode at the video's own times, and say what is known of each frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.packed_masks import PackedMasks
from pipeline.types import FrameIndex, PseudoMask, SampleKey, Status
from storage.arrays.masks import MaskStore
from storage.datasets.videos import Videos
from storage.exports.marked_folder import is_export
from storage.exports.source import ExportSource
from storage.exports.video import FRAMES_PER_SECOND, export_video
from tests.storage.datasets import trees
from tests.storage.datasets.test_video_clip import write_video

TIMES = [0, 40, 500, 540, 1900]
STATUS = (Status.PRESENT, Status.ABSENT, Status.UNKNOWN)


def _source(folder: Path, times: list[int] | None, warning: str = "") -> ExportSource:
    """A video of 33 x 47 pixels, or a folder of frames, whose first frame has a mask."""
    root = folder / "data"
    root.mkdir()
    if times is None:
        trees.videos(root, folder=True)
    else:
        write_video(root / "clip.webm", codec="libvpx-vp9", size=(33, 47), milliseconds=times)
        (root / "expressions.csv").write_text("video,text\nclip,a box\n")
    reader, store = Videos(root, "train"), MaskStore(folder / "masks.zarr")
    video = reader.video("clip")
    expressions = reader.expressions("clip")
    masks = np.zeros((len(video), video.height, video.width), np.bool_)
    masks[0, 5:20, 6:30] = True
    status = np.resize(np.array(STATUS, np.uint8), len(video))
    weight = np.where(status == Status.PRESENT, 0.5, 0).astype(np.float32)
    packed = PackedMasks.of(masks)
    store.write_video(
        video,
        [item.text for item in expressions],
        [
            PseudoMask(SampleKey("videos", "train", "clip", name), packed, weight, status, "")
            for name in (item.key.expression for item in expressions)
        ],
    )
    return ExportSource(store, reader, warning=warning)


@pytest.mark.parametrize("times", [TIMES, [0], None])
def test_an_overlay_has_the_times_of_the_video(tmp_path: Path, times: list[int] | None) -> None:
    source, out = _source(tmp_path, times), tmp_path / "out"
    report = export_video(source, out)
    frames = len(source.reader.video("clip"))
    expected = [1000 * n / FRAMES_PER_SECOND for n in range(frames)] if times is None else times
    with av.open(str(out / "clip" / "overlay.mp4")) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.width % 2 == context.height % 2 == 0
        shown = [round(1000 * float(frame.time or 0)) for frame in file.decode(video=0)]
        assert stream.duration is not None
        assert stream.duration * (stream.time_base or 0) > expected[-1] / 1000
    assert shown == pytest.approx(expected, abs=2)
    content = (out / "clip" / "overlay.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert is_export(out)
    assert report.counts["videos"] == 1


def test_masks_are_images_of_the_frames_size(tmp_path: Path) -> None:
    source, out = _source(tmp_path, TIMES), tmp_path / "out"
    export_video(source, out)
    files = sorted((out / "clip" / "masks" / "0").iterdir())
    assert [path.stem for path in files] == [f"{number:05d}" for number in range(5)]
    pictures = [np.asarray(Image.open(path)) for path in files]
    mask = source.mask("clip", "0", 0)[0]
    assert np.array_equal(pictures[0], mask * np.uint8(255))
    assert not any(picture.any() for picture in pictures[1:3])


def test_the_overlay_shows_the_mask(tmp_path: Path) -> None:
    source, out = _source(tmp_path, TIMES), tmp_path / "out"
    export_video(source, out)
    with av.open(str(out / "clip" / "overlay.mp4")) as file:
        first, second, *_ = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    frame = source.reader.frame(source.reader.video("clip"), FrameIndex(0))
    scale = first.shape[1] / frame.shape[1]
    row, column = round(18 * scale), round(24 * scale)
    # The first colour is blue; without a mask the place is grey.
    assert int(first[row, column, 2]) - int(first[row, column, 0]) > 30
    assert abs(int(second[row, column, 2]) - int(second[row, column, 0])) < 12
