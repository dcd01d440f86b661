"""Reads a folder of image files as a video."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.file_names import composed
from pipeline.types import VideoRef
from storage.datasets.files import REMEDY, listing, names_in
from storage.files.images import image_size
from storage.files.names import check_inside, safe_name

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def video_from_folder(
    video_id: str,
    folder: Path,
    within: Sequence[Path] | None,
    names: Sequence[str] | None = None,
    index: Path | None = None,
) -> VideoRef:
    """Returns the frames of a video. Reads image headers, but no pixels.

    Args:
        video_id: a safe name.
        folder: holds an image file a frame.
        within: folders that the files must lie in once links are followed: the data set's root,
            and layout folders that the user may have linked in as a whole; None for any place.
        names: frame names without suffix, all of which must be there, in the order that counts;
            None for all files in natural order.
        index: the file that lists the names, for messages; None for the folder.

    Raises:
        InputError: the folder or a frame is missing or may not be read, a frame is no image, two
            frames are of unequal size, a name occurs twice, or a link leads out of the data set.
        OSError: the folder or a frame cannot be read for a reason that may pass.
    """
    files = frame_files(video_id, folder, within)
    chosen = list(files) if names is None else list(names)
    paths = list(files.values()) if names is None else _listed(folder, files, names, index)
    if not chosen:
        raise InputError(
            folder, f"no frames of video {video_id}", "a JPEG or PNG a frame", "restore the folder"
        )
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


def frame_files(video_id: str, folder: Path, within: Sequence[Path] | None) -> dict[str, Path]:
    """Frame name -> image file, in natural order. Raises as :func:`video_from_folder`."""
    remedy = f"{REMEDY}, or take the video out of the index"
    files: dict[str, Path] = {}
    names = names_in(folder, f"the frames of video {video_id}", remedy)
    with listing(folder, f"the frames of video {video_id}", remedy):
        check_inside(folder, within)
        for name in names:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
            if suffix.lower() in SUFFIXES:
                check_inside(folder / name, within)
                files.setdefault(stem, folder / name)
    return files


def _listed(
    folder: Path, files: dict[str, Path], names: Sequence[str], index: Path | None
) -> list[Path]:
    """The files of the listed names, in their order."""
    for name in names:
        safe_name(name, index or folder, "frame name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            index or folder,
            f"frame {twice[0]} is listed twice",
            "each frame once",
            "fix the index",
        )
    # Names that look equal may be spelled in two ways; macOS writes letters and accents apart.
    same = {composed(name): path for name, path in files.items()}
    found = [files.get(name) or same.get(composed(name)) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        there = next(iter(files.values()), None)
        others = "no other is there" if there is None else f"what is there is such as {there.name}"
        raise InputError(
            folder / f"{missing[0]}.jpg",
            f"no such frame ({len(missing)} of {len(names)} listed are missing; {others})",
            "a JPEG or PNG for every listed frame",
            "restore the frames, or take the video out of the index",
            missing=True,
        )
    return [path for path in found if path is not None]
