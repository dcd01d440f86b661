"""The results of a run as Python objects.

Letters: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flows.context import RunContext
from flows.finished_results import FinishedMasks
from flows.planning.mirrored import fetch_products, refresh
from flows.planning.run_config import place_of_run
from flows.planning.run_paths import RunPaths
from flows.planning.stand_ins import stand_in_warning
from flows.report.draw import jpeg_url, predicted_frame
from pipeline.config import RunConfig, given, load_config
from pipeline.errors import ConfigError
from pipeline.geometry import masks_to_boxes
from pipeline.ports import DatasetReader, Image
from pipeline.sampling import pick_frames
from pipeline.store_urls import resolved, shown
from pipeline.types import FrameIndex, Status, VideoRef
from storage.arrays.masks import MaskStore
from storage.exports.source import ExportSource
from storage.exports.video import save_overlay

_THUMBNAIL = 240
"""Width of a frame in a preview, in pixels."""


class LabelledExpression:
    """The masks of one sentence in one video. Arrays and frames are read when they are asked for.

    Attributes:
        video: id of the video.
        expression: id of the expression.
        text: the sentence.
    """

    def __init__(self, source: ExportSource, video: str, expression: str, text: str) -> None:
        self._source = source
        self.video, self.expression, self.text = video, expression, text

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of the T frames, in order."""
        return self._source.store.frames(self.video)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self._source.store.size(self.video)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks, bool [T, H, W]; all False where the target is absent or unknown."""
        return self._source.store.read(self.video, self.expression)[0]

    @property
    def weight(self) -> NDArray[np.float32]:
        """How far each frame can be trusted, float32 [T] in [0, 1]; 0 where it is unknown."""
        return self._quality[0]

    @property
    def status(self) -> NDArray[np.uint8]:
        """Status of each frame, uint8 [T]: 0 unknown, 1 present, 2 absent (``Status``)."""
        return self._quality[1]

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The boxes of the masks, float32 [T, 4]: x0, y0, x1, y1 in pixels, half-open; zeros for a
        frame without a mask."""
        found = np.zeros((len(self.frames), 4), np.float32)
        for index in np.flatnonzero(self.status == Status.PRESENT):
            mask = self._source.store.read(self.video, self.expression, [int(index)])[0]
            if mask.any():
                found[index] = masks_to_boxes(mask)[0]
        return found

    def frame(self, index: int) -> Image:
        """Returns a frame of the video, uint8 RGB [H, W, 3]."""
        return self._source.reader.frame(self._ref, FrameIndex(range(len(self.frames))[index]))

    def overlay(self, index: int, width: int | None = None) -> Image:
        """Returns a frame with its mask highlighted, uint8 RGB [h, width, 3].

        A frame in which the target is unknown is striped; one without the target is left as it is.

        Args:
            index: position of the frame.
            width: of the picture in pixels; None for the width of the frame.
        """
        place = range(len(self.frames))[index]
        mask = self._source.store.read(self.video, self.expression, [place])[0][0]
        status = int(self.status[place])
        return predicted_frame(self.frame(place), mask, status, width or self.size[1])

    def preview(self, frames: int = 6) -> Pillow.Image:
        """Returns some frames, evenly spread, side by side, each with its mask."""
        tiles = [self.overlay(index, _THUMBNAIL) for index in pick_frames(len(self.frames), frames)]
        return Pillow.fromarray(np.concatenate(tiles, axis=1))

    def show(self, frames: int = 6) -> None:
        """Shows :meth:`preview`: in the notebook, or else in the system's picture viewer."""
        picture = self.preview(frames)
        try:
            from IPython.core.getipython import get_ipython
            from IPython.display import display
        except ImportError:
            picture.show(title=self.text)
            return
        if get_ipython() is None:
            picture.show(title=self.text)
        else:
            display(picture)

    def save(self, path: str | Path) -> None:
        """Writes a video that shows the masks: H.264 in an ``.mp4`` file, over an earlier file.

        Raises:
            ValueError: the path does not end in ``.mp4``.
            InputError: a frame is missing or broken.
            StoreError: no space is left, or the folder may not be written to.
        """
        if Path(path).suffix.lower() != ".mp4":
            raise ValueError(f"{path}: expected a path that ends in .mp4")
        save_overlay(self._source, self._ref, self.expression, Path(path))

    @property
    def counts(self) -> dict[str, int]:
        """Number of frames that are present, absent and unknown."""
        status = self.status
        return {item.name.lower(): int((status == item).sum()) for item in _SHOWN}

    @cached_property
    def _quality(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return self._source.store.quality(self.video, self.expression)

    @cached_property
    def _ref(self) -> VideoRef:
        return self._source.reader.video(self.video)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"<{self.video} {self.expression} {self.text!r}: {counts}>"

    def _repr_html_(self) -> str:
        tiles = "".join(
            f'<img src="{jpeg_url(self.overlay(index, _THUMBNAIL))}" alt="frame {index}"'
            ' style="display:inline">'
            for index in pick_frames(len(self.frames), 6)
        )
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return (
            f"<p><b>{escape(self.text)}</b><br>{escape(self.video)} {escape(self.expression)}:"
            f" {counts}; mean weight {float(self.weight.mean()):.2f}</p><p>{tiles}</p>"
        )


_SHOWN = (Status.PRESENT, Status.ABSENT, Status.UNKNOWN)


class LabelledRun(Sequence[LabelledExpression]):
    """The finished results of a run, one item per expression, in the order of videos and ids.

    Args:
        config: of the run.
        videos: ids of the videos to show; None for all.

    Attributes:
        path: the run's folder.
    """

    def __init__(self, config: RunConfig, videos: Sequence[str] | None = None) -> None:
        self._context = RunContext(config)
        self._shown = None if videos is None else frozenset(videos)
        self._paths = RunPaths(config.run_folder)
        self.path = config.run_folder

    @overload
    def __getitem__(self, place: int) -> LabelledExpression: ...

    @overload
    def __getitem__(self, place: slice) -> list[LabelledExpression]: ...

    @overload
    def __getitem__(self, place: tuple[str, str]) -> LabelledExpression: ...

    def __getitem__(
        self, place: int | slice | tuple[str, str]
    ) -> LabelledExpression | list[LabelledExpression]:
        """Returns an expression by its position, or by (video, expression id)."""
        if isinstance(place, slice):
            return [self._item(key) for key in self._keys[place]]
        if isinstance(place, tuple):
            if place not in self._texts:
                raise KeyError(f"{self.path}: no expression {place[1]} of video {place[0]}")
            return self._item(place)
        return self._item(self._keys[place])

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[LabelledExpression]:
        return map(self._item, self._keys)

    @property
    def videos(self) -> tuple[str, ...]:
        """Ids of the videos that have expressions with masks, sorted."""
        return tuple(dict.fromkeys(video for video, _ in self._keys))

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        """The content of ``metrics.json``; None if the data set has no ground truth."""
        try:
            content: dict[str, Any] = json.loads(self._paths.metrics.read_bytes())
        except FileNotFoundError:
            return None
        return content

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self._context.config

    @property
    def store(self) -> MaskStore:
        """The mask store, for reading single frames; it can be pickled."""
        return self._source.store

    @property
    def reader(self) -> DatasetReader:
        """The reader of the labelled split; it can be pickled."""
        return self._source.reader

    @cached_property
    def _source(self) -> ExportSource:
        warning = stand_in_warning(self._context.config)
        return ExportSource(FinishedMasks(self._paths), self._context.reader(), warning=warning)

    @cached_property
    def _texts(self) -> dict[tuple[str, str], str]:
        """(video, expression id) -> the sentence, in the order of the store."""
        store = self._source.store
        return {
            (video, expression): text
            for video in store.videos()
            if self._shown is None or video in self._shown
            for expression, text in zip(store.expressions(video), store.texts(video), strict=True)
        }

    @cached_property
    def _keys(self) -> list[tuple[str, str]]:
        return list(self._texts)

    def _item(self, key: tuple[str, str]) -> LabelledExpression:
        return LabelledExpression(self._source, *key, self._texts[key])

    def __repr__(self) -> str:
        return f"<run {self.path}: {len(self.videos)} videos, {len(self)} expressions>"

    def _repr_html_(self) -> str:
        first = "".join(item._repr_html_() for item in self[:5])
        return f"<p>{escape(repr(self))}</p>{first}"


def load_run(path: str | Path) -> LabelledRun:
    """Opens the finished results of a run. Reads its configuration and no mask; the masks of a run
    in an object store are downloaded.

    Args:
        path: the run's folder, or its address in an object store.

    Raises:
        ConfigError: the folder is not a run.
        ObjectStoreError: the store refuses or cannot be reached.
    """
    folder = place_of_run(path)
    refresh(folder)
    stored = RunPaths(folder).config
    if not stored.is_file():
        raise ConfigError(
            f"{shown(folder)}: no config.toml; expected the folder of a run, such as"
            " runs/shapes-train; give its path"
        )
    fetch_products(folder, ("augment", "rank", "merge", "evaluate"))
    return LabelledRun(load_config(stored, [given("out", resolved(folder).parent)]))
