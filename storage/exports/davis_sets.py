"""Results of Ref-DAVIS17 as its evaluation takes them: ``anno_<set>/<video>/<frame>.png``, palette
PNGs whose pixel value is the rank of the object + 1, one folder for each annotation set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.files.atomic import fresh_folder
from storage.files.images import write_index_mask
from storage.files.names import safe_name


class AddLabels(Protocol):
    """Adds the index mask [H, W] of a frame of a video in an annotation set."""

    def __call__(self, number: int, frame: str, labels: NDArray[np.uint8]) -> None: ...


class DavisSets:
    """Folders of index masks that grow video by video.

    Args:
        path: holds the folders of the sets.
        sets: number of annotation sets.
    """

    def __init__(self, path: Path, sets: int) -> None:
        self._tops = [path / f"anno_{number}" for number in range(sets)]

    def has(self, video: str) -> bool:
        """Whether a video is there already, whole."""
        return all((top / safe_name(video, top, "video id")).is_dir() for top in self._tops)

    @contextmanager
    def video(self, video: str) -> Iterator[AddLabels]:
        """Takes the masks of a video; it counts when the block ends without an error."""
        places = [top / safe_name(video, top, "video id") for top in self._tops]
        with ExitStack() as stack:
            folders = [stack.enter_context(fresh_folder(place)) for place in places]

            def add(number: int, frame: str, labels: NDArray[np.uint8]) -> None:
                name = safe_name(frame, places[number], "frame name")
                write_index_mask(folders[number] / f"{name}.png", labels)

            yield add
