"""A folder of image files as a video."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.types import VideoRef
from storage.datasets.files import REMEDY, listing
from storage.files.images import image_size
from storage.files.names import check_inside, safe_name

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def video_from_folder(
    video_id: str, folder: Path, within: Sequence[Path], names: Sequence[str] | None = None
) -> VideoRef:
    """The frames of a video; headers are read, pixels are not.

    Args:
        video_id: a safe name.
        folder: holds an image file a frame.
        within: folders that the files must lie in once links are followed: the data set's root,
            and layout folders that the user may have linked in as a whole.
        names: frame names without suffix, all of which must be there; None for all files.

    Raises:
        InputError: the folder or a frame is missing or may not be read, a frame is no image, two
            frames are of unequal size, a name occurs twice, or a link leads out of the data set.
        OSError: the folder or a frame cannot be read for a reason that may pass.
    """
    files = _image_files(video_id, folder, [area.resolve() for area in within])
    chosen = sorted(files, key=frame_order) if names is None else _named(folder, files, names)
    if not chosen:
        raise InputError(
            folder, f"no frames of video {video_id}", "a JPEG or PNG a frame", "restore the folder"
        )
    paths = [files[name] for name in chosen]
    first = image_size(paths[0])
    for path in paths[1:]:
        size = image_size(path)
        if size != first:
            raise InputError(
                path,
                f"{size[0]} x {size[1]} pixels (height x width)",
                f"{first[0]} x {first[1]}, as {paths[0].name}",
                "give all frames of the video one size",
            )
    return VideoRef(video_id, tuple(chosen), tuple(paths), *first)


def frame_order(name: str) -> tuple[int, str]:
    """Sort key: by number where the name is one, so that 9 comes before 10."""
    return (int(name), name) if name.isascii() and name.isdecimal() else (-1, name)


def _image_files(video_id: str, folder: Path, within: Sequence[Path]) -> dict[str, Path]:
    """Frame name -> image file."""
    files: dict[str, Path] = {}
    remedy = f"{REMEDY}, or take the video out of the index"
    with listing(folder, f"the frames of video {video_id}", remedy):
        check_inside(folder, within)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - an entry, not a path
            if suffix.lower() not in SUFFIXES or stem.startswith("."):
                continue
            if entry.is_symlink():
                check_inside(Path(entry.path), within)
            files.setdefault(stem, Path(entry.path))
    return files


def _named(folder: Path, files: dict[str, Path], names: Sequence[str]) -> list[str]:
    for name in names:
        safe_name(name, folder, "frame name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            folder, f"frame {twice[0]} is listed twice", "each frame once", "mend the index"
        )
    missing = [name for name in names if name not in files]
    if missing:
        raise InputError(
            folder / f"{missing[0]}.jpg",
            f"no such frame ({len(missing)} of {len(names)} listed are missing)",
            "a JPEG or PNG for every listed frame",
            "restore the frames, or take the video out of the index",
            missing=True,
        )
    return sorted(names, key=frame_order)
