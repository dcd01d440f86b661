"""Writes the ``shapes`` data set in the Ref-YouTube-VOS layout; its reader reads it back.

An expression carries its ``kind`` beside ``exp`` and ``obj_id``, and both splits have ground truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.shapes.language import referring_expressions
from pipeline.shapes.render import render
from pipeline.shapes.scene import FRAME_STEP, Scene, sample_hard_scene, sample_scene
from storage.files.atomic import fresh_folder
from storage.files.images import write_index_mask

JPEG_QUALITY = 93
_SPLIT_SEED = {"train": 1, "valid": 2}


def write_shapes(out: Path, train: int, valid: int, seed: int, *, hard: bool = False) -> None:
    """Renders a data set into a folder, which appears whole or not at all.

    Args:
        out: the data set's root; a folder that is not there, or an empty one.
        train, valid: videos of each split. A video depends on the seed, its split and its number
            alone, so a longer data set begins with the shorter one's videos.
        seed: of everything drawn.
        hard: whether the scenes are those of ``sample_hard_scene``.

    Raises:
        InputError: the folder holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            out,
            "there is something in it, and no shapes data set (no meta_expressions)"
            if not (out / "meta_expressions").is_dir()
            else "a data set is in it",
            "a folder to render shapes into: none yet, or an empty one",
            "name the data set that it holds with --dataset, or give another folder",
        )
    with fresh_folder(out) as folder:
        for split, videos in (("train", train), ("valid", valid)):
            _write_split(folder, split, videos, seed, hard)


def scenes(
    split: str, videos: int, seed: int, *, hard: bool = False
) -> Iterator[tuple[str, Scene, np.random.Generator]]:
    """(id, scene, generator for its sentences) of each video of a split."""
    for number in range(videos):
        rng = np.random.default_rng((seed, _SPLIT_SEED[split], number))
        scene = sample_hard_scene(rng) if hard else sample_scene(rng)
        yield f"{split}{number:05d}", scene, rng


def _write_split(folder: Path, split: str, videos: int, seed: int, hard: bool) -> None:
    expressions: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for video, scene, rng in scenes(split, videos, seed, hard=hard):
        names = [f"{FRAME_STEP * time:05d}" for time in range(scene.frames)]
        said = referring_expressions(scene, rng)
        expressions[video] = {
            "expressions": {
                str(number): {"exp": item.text, "obj_id": str(item.target + 1), "kind": item.kind}
                for number, item in enumerate(said)
            },
            "frames": names,
        }
        shown = _write_frames(folder / split, video, scene, names)
        objects[video] = {
            "objects": {
                str(row + 1): {"category": item.shape, "frames": shown[row]}
                for row, item in enumerate(scene.objects)
            }
        }
    index = folder / "meta_expressions" / split
    index.mkdir(parents=True)
    _write_json(index / "meta_expressions.json", {"videos": expressions})
    _write_json(folder / split / "meta.json", {"videos": objects})


def _write_frames(folder: Path, video: str, scene: Scene, names: list[str]) -> list[list[str]]:
    """Writes frames and palette masks; returns for each object the frames that show it."""
    images, masks = folder / "JPEGImages" / video, folder / "Annotations" / video
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    shown: list[list[str]] = [[] for _ in scene.objects]
    for time, name in enumerate(names):
        drawn = render(scene, time)
        Image.fromarray(drawn.image).save(images / f"{name}.jpg", quality=JPEG_QUALITY)
        ids = np.zeros(drawn.image.shape[:2], np.uint8)
        for row, mask in enumerate(drawn.masks):
            ids[mask] = row + 1
            if mask.any():
                shown[row].append(name)
        write_index_mask(masks / f"{name}.png", ids, _palette(len(scene.objects)))
    return shown


def _palette(objects: int) -> list[int]:
    """Black, then a distinct colour an object."""
    hues = np.arange(objects) / max(objects, 1)
    colours = np.stack(
        [0.5 + 0.5 * np.cos(2 * np.pi * (hues + shift)) for shift in (0, 1 / 3, 2 / 3)]
    )
    return [0, 0, 0, *(colours.T.ravel() * 255).astype(int).tolist()]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
