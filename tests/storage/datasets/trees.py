"""Small data sets in their real layouts, rendered for tests.

Every tree holds the same scene: video ``clip`` with three frames of 24 x 32 pixels, in which object
1 moves to the right and object 2 stands still and is gone in the last frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
FRAMES = ("00000", "00005", "00010")


def object_mask(number: int, frame: int) -> np.ndarray:
    """The mask of object 1 or 2 in a frame, [HEIGHT, WIDTH]."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if number == 1:
        mask[2:8, 1 + 3 * frame : 9 + 3 * frame] = True
    elif frame < 2:
        mask[12:20, 18:30] = True
    return mask


def index_mask(frame: int) -> np.ndarray:
    """Both objects' ids, uint8 [HEIGHT, WIDTH]."""
    return (object_mask(1, frame) + 2 * object_mask(2, frame)).astype(np.uint8)


def picture(frame: int) -> np.ndarray:
    """A frame, uint8 [HEIGHT, WIDTH, 3]."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[object_mask(1, frame)] = (230, 20, 20)
    image[object_mask(2, frame)] = (20, 20, 230)
    return image


def write_frame(path: Path, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(frame)).save(path)


def write_mask(path: Path, ids: np.ndarray) -> None:
    """A palette PNG whose pixel values are the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def refytvos(root: Path, split: str = "train", video: str = "clip", masks: bool = True) -> Path:
    """Ref-YouTube-VOS: one video with an expression of each object."""
    for frame, name in enumerate(FRAMES):
        write_frame(root / split / "JPEGImages" / video / f"{name}.jpg", frame)
        if masks:
            write_mask(root / split / "Annotations" / video / f"{name}.png", index_mask(frame))
    expressions: dict[str, Any] = {"0": {"exp": "a red box"}, "1": {"exp": "a blue box "}}
    if masks:
        expressions["0"]["obj_id"], expressions["1"]["obj_id"] = "1", "2"
        objects = {number: {"category": "box", "frames": list(FRAMES)} for number in "12"}
        write_json(root / split / "meta.json", {"videos": {video: {"objects": objects}}})
    write_index(root, split, {video: {"expressions": expressions, "frames": list(FRAMES)}})
    return root


def write_index(root: Path, split: str, videos: Mapping[str, object]) -> None:
    path = root / "meta_expressions" / split / "meta_expressions.json"
    write_json(path, {"videos": videos})


def refdavis(root: Path, video: str = "clip", split: str = "train") -> Path:
    """Ref-DAVIS17 as published: four annotation sets, the second annotator's in Latin-1."""
    for frame in range(len(FRAMES)):
        write_frame(root / f"DAVIS/JPEGImages/480p/{video}/{frame:05d}.jpg", frame)
        mask = root / f"DAVIS/Annotations_unsupervised/480p/{video}/{frame:05d}.png"
        write_mask(mask, index_mask(frame))
    texts = root / "davis_text_annotations"
    texts.mkdir(parents=True)
    for name, encoding, word in (
        ("Davis17_annot1.txt", "utf-8", "caf\u00e9"),
        ("Davis17_annot1_full_video.txt", "utf-8", "moving"),
        ("Davis17_annot2.txt", "latin-1", "caf\u00e9"),
        ("Davis17_annot2_full_video.txt", "latin-1", "still"),
    ):
        lines = [f'{video} 1 "a red {word} box"', f'{video} 2 "a blue {word} box"', ""]
        (texts / name).write_bytes("\n".join(lines).encode(encoding))
    name = "val" if split == "valid" else "train"
    sets = root / "DAVIS" / "ImageSets" / "2017" / f"{name}.txt"
    sets.parent.mkdir(parents=True)
    sets.write_text(f"{video}\n")
    return root
