"""The mask store against one PNG a frame, as data sets ship masks: bytes, seconds, and a loader.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.store [--json]

Both sides hold the same masks: objects of rendered `shapes`, enlarged to 360 x 640. One PNG a frame
is written by Pillow, as a palette image (mode P, as Ref-YouTube-VOS and DAVIS ship them) and with
one bit a pixel (mode 1), with Pillow's own settings; it is read back into bool [T, H, W]. The
loader reads the masks of random clips with the frames, JPEG, from two processes of PyTorch's
DataLoader. Writing and reading are CPU time of the process, all its threads, which other work on
the machine hardly changes; the rest is wall-clock time. Each figure is the median of several passes
over warm files; every pass opens the store anew. Ends with 1 where the store misses what is held
to.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pipeline.packed_masks import PackedMasks
from pipeline.shapes.render import render
from pipeline.shapes.scene import sample_scene
from pipeline.types import PseudoMask, SampleKey, VideoRef
from storage.arrays.masks import MaskStore
from storage.files.images import read_image

HEIGHT, WIDTH = 360, 640
HELD_TO = {
    "times as fast to write": 3.0,
    "times as fast to read": 3.0,
    "times the bytes": 1.0,
    "random frame, ms": 5.0,
    "loader, frames/s": 400.0,
}

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Video:
    """A video's masks [E, T, H, W] and its frames as JPEG files."""

    ref: VideoRef
    masks: list[Masks]


def videos_of(folder: Path, count: int, frames: int) -> list[Video]:
    """Rendered videos, their frames written as JPEG."""
    made = []
    for number in range(count):
        scene = replace(sample_scene(np.random.default_rng((9, number))), frames=frames)
        paths, masks = [], [np.zeros((frames, HEIGHT, WIDTH), np.bool_) for _ in scene.objects]
        for time_ in range(frames):
            drawn = render(scene, time_)
            path = folder / f"video{number}" / f"{time_:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = cv2.resize(drawn.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            Image.fromarray(image).save(path, quality=90)
            paths.append(path)
            for row, mask in enumerate(drawn.masks):
                soft = cv2.resize(mask.astype(np.float32), (WIDTH, HEIGHT))
                masks[row][time_] = soft > 0.5
        names = tuple(path.stem for path in paths)
        ref = VideoRef(f"video{number}", names, tuple(paths), HEIGHT, WIDTH)
        made.append(Video(ref, masks))
    return made


def write_pngs(folder: Path, videos: list[Video], mode: str) -> None:
    for video in videos:
        for row, masks in enumerate(video.masks):
            place = folder / video.ref.id / str(row)
            place.mkdir(parents=True, exist_ok=True)
            for name, mask in zip(video.ref.frames, masks, strict=True):
                _png(mask, mode).save(place / f"{name}.png")


def _png(mask: Masks, mode: str) -> Image.Image:
    if mode == "1":
        return Image.fromarray(mask)
    image = Image.fromarray(mask.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    return image


def read_pngs(folder: Path, video: Video, row: int) -> Masks:
    names = video.ref.frames
    mask = np.zeros((len(names), HEIGHT, WIDTH), np.bool_)
    for index, name in enumerate(names):
        with Image.open(folder / video.ref.id / str(row) / f"{name}.png") as image:
            mask[index] = np.asarray(image) > 0
    return mask


def write_store(path: Path, videos: list[Video]) -> None:
    store = MaskStore(path)
    for video in videos:
        frames = len(video.ref)
        masks = [
            PseudoMask(
                SampleKey("bench", "train", video.ref.id, str(row)),
                PackedMasks.of(mask),
                np.ones(frames, np.float32),
                np.ones(frames, np.uint8),
                "",
            )
            for row, mask in enumerate(video.masks)
        ]
        store.write_video(video.ref, [""] * len(masks), masks)


def read_store(path: Path, samples: list[tuple[Video, int]]) -> None:
    store = MaskStore(path)
    for video, row in samples:
        store.read(video.ref.id, str(row))


class Clips(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random clips: frames uint8 [T, H, W, 3] and masks bool [T, H, W]."""

    def __init__(self, store: Path, videos: list[VideoRef], clips: int, frames: int) -> None:
        self._store, self._videos, self._clips, self._frames = store, videos, clips, frames
        self._open: MaskStore | None = None

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._open = self._open or MaskStore(self._store)
        rng = np.random.default_rng(index)
        video = self._videos[rng.integers(len(self._videos))]
        expressions = self._open.expressions(video.id)
        start = int(rng.integers(len(video) - self._frames + 1))
        chosen = range(start, start + self._frames)
        mask, _, _ = self._open.read(
            video.id, expressions[rng.integers(len(expressions))], list(chosen)
        )
        size = (video.height, video.width)
        images = np.stack([read_image(video.paths[frame], size) for frame in chosen])
        return torch.from_numpy(images), torch.from_numpy(mask)


def measure(count: int = 4, frames: int = 27, passes: int = 3, clips: int = 150) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = videos_of(folder / "frames", count, frames)
        samples = [(video, row) for video in videos for row in range(len(video.masks))]
        store = MaskStore(folder / "masks.zarr")
        ours = {
            "write": _seconds(lambda: write_store(store.path, videos), passes),
            "read": _seconds(lambda: read_store(store.path, samples), passes),
            "bytes": _bytes(store.path),
        }
        for video, row in samples:
            assert np.array_equal(store.read(video.ref.id, str(row))[0], video.masks[row])
        found: dict[str, Any] = {"masks": len(samples) * frames, "store": ours}
        for mode in ("P", "1"):
            place = folder / f"png-{mode}"
            theirs = {
                "write": _seconds(lambda: write_pngs(place, videos, mode), passes),  # noqa: B023
                "read": _seconds(
                    lambda: [read_pngs(place, v, row) for v, row in samples],  # noqa: B023
                    passes,
                ),
                "bytes": _bytes(place),
            }
            for video, row in samples:
                assert np.array_equal(read_pngs(place, video, row), video.masks[row])
            found[f"png, mode {mode}"] = theirs | {
                "times as fast to write": theirs["write"] / ours["write"],
                "times as fast to read": theirs["read"] / ours["read"],
                "times the bytes": ours["bytes"] / theirs["bytes"],
            }
        found["random frame, ms"] = 1000 * _random_frame(store.path, videos, 200)
        found["loader, frames/s"] = _loader(store.path, [v.ref for v in videos], clips)
    return found


def _seconds(work: Callable[[], Any], passes: int) -> float:
    taken = []
    for _ in range(passes):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _random_frame(path: Path, videos: list[Video], reads: int) -> float:
    """Median seconds of one frame of any video; a store opened before, videos as they come."""
    store, rng, taken = MaskStore(path), np.random.default_rng(0), []
    for _ in range(reads):
        video = videos[rng.integers(len(videos))]
        row, frame = rng.integers(len(video.masks)), int(rng.integers(len(video.ref)))
        start = time.perf_counter()
        store.read(video.ref.id, str(row), [frame])
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _loader(path: Path, videos: list[VideoRef], clips: int, frames: int = 8) -> float:
    """Frames a second of a DataLoader with two workers, once each has given a clip."""
    loader = DataLoader(
        Clips(path, videos, clips, frames),
        batch_size=None,
        num_workers=2,
        prefetch_factor=4,
        multiprocessing_context="spawn",  # As the students' loader.
    )
    coming = iter(loader)
    next(coming)
    next(coming)
    start = time.perf_counter()
    count = sum(len(images) for images, _ in coming)
    return count / (time.perf_counter() - start)


def _held(found: dict[str, Any]) -> bool:
    """Against the PNGs that data sets ship, of mode P."""
    png = found["png, mode P"]
    return (
        all(png[name] >= HELD_TO[name] for name in HELD_TO if name.startswith("times as"))
        and png["times the bytes"] <= HELD_TO["times the bytes"]
        and found["random frame, ms"] <= HELD_TO["random frame, ms"]
        and found["loader, frames/s"] >= HELD_TO["loader, frames/s"]
    )


def main(
    count: Annotated[int, typer.Option(min=1, help="videos")] = 4,
    frames: Annotated[int, typer.Option(min=8, help="of a video")] = 27,
    passes: Annotated[int, typer.Option(min=1)] = 3,
    clips: Annotated[int, typer.Option(min=3, help="that the loader gives")] = 150,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    found = measure(count, frames, passes, clips)
    if as_json:
        typer.echo(json.dumps(found | {"cores": os.cpu_count()}, indent=2))
    else:
        print(f"{found['masks']} masks of {HEIGHT} x {WIDTH}")
        for side in ("store", "png, mode P", "png, mode 1"):
            row = found[side]
            line = f"write {row['write']:.2f} s, read {row['read']:.2f} s, {row['bytes']:,} bytes"
            if "times the bytes" in row:
                line += (
                    f"; the store {row['times as fast to write']:.1f} times as fast to write,"
                    f" {row['times as fast to read']:.1f} to read, {row['times the bytes']:.2f}"
                    " times the bytes"
                )
            print(f"  {side:12} {line}")
        for name in ("random frame, ms", "loader, frames/s"):
            print(f"  {name}: {found[name]:.2f}")
    if not _held(found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
