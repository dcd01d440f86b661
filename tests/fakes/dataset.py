"""A tiny data set in the Ref-YouTube-VOS layout: two coloured squares that move apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
HEIGHT, WIDTH, FRAMES = 40, 64, 5


def write_dataset(root: Path, videos: int = 3, split: str = "train") -> Path:
    """``videos`` clips; the blue square is gone in the last frame."""
    expressions, objects = {}, {}
    for number in range(videos):
        video = f"clip{number:02d}"
        names = [f"{5 * t:05d}" for t in range(FRAMES)]
        for t, name in enumerate(names):
            image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
            truth = np.zeros((HEIGHT, WIDTH), np.uint8)
            squares = [("red", 1, 4 + 2 * t, 8), ("blue", 2, 44 - 2 * t, 20)]
            for colour, label, x, y in squares[: 1 if t == FRAMES - 1 else 2]:
                image[y : y + 12, x : x + 12] = COLOURS[colour]
                truth[y : y + 12, x : x + 12] = label
            for folder, suffix, pixels in (
                ("JPEGImages", "jpg", Image.fromarray(image)),
                ("Annotations", "png", Image.fromarray(truth)),
            ):
                path = root / split / folder / video / f"{name}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == "png":
                    pixels = pixels.convert("P")
                    pixels.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
                    pixels.save(path)
                else:
                    pixels.save(path, quality=98)
        expressions[video] = {
            "expressions": {
                "0": {"exp": "the red square", "obj_id": "1"},
                "1": {"exp": "the blue square moving left", "obj_id": "2"},
            },
            "frames": names,
        }
        objects[video] = {
            "objects": {
                "1": {"category": "square", "frames": names},
                "2": {"category": "square", "frames": names[:-1]},
            }
        }
    folder = root / "meta_expressions" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": expressions}))
    (root / split / "meta.json").write_text(json.dumps({"videos": objects}))
    return root
