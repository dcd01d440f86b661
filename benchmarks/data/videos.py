"""A data set of any length and size for measurements: scenes of `shapes`, drawn and enlarged.

    .venv/bin/python -m benchmarks.data.videos OUT [--videos 8] [--frames 50] [--height 360] ...

In the layout of Ref-YouTube-VOS, without truth: `pseudolabels run --dataset refytvos --root OUT`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from pipeline.shapes.language import referring_expressions
from pipeline.shapes.render import render
from pipeline.shapes.scene import FRAME_STEP, sample_scene

DRAWN_FRAMES = 20
"""Frames that are drawn; a longer video plays them forwards and backwards."""


def write_videos(
    root: Path, videos: int, frames: int, expressions: int, height: int = 144, width: int = 256
) -> None:
    """Writes split ``train`` of a data set; the same arguments give the same bytes."""
    index = {}
    for number in range(videos):
        rng = np.random.default_rng((7, number))
        scene = replace(sample_scene(rng), frames=min(frames, DRAWN_FRAMES))
        said = [item.text for item in referring_expressions(scene, rng, each=4)]
        texts = [said[row % len(said)] for row in range(expressions)]
        name, places = f"video{number:04d}", [FRAME_STEP * time for time in range(frames)]
        folder = root / "train" / "JPEGImages" / name
        folder.mkdir(parents=True)
        drawn = []
        for time in range(scene.frames):
            image = cv2.resize(render(scene, time).image, (width, height))
            done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            assert done
            drawn.append(content.tobytes())
        for time, place in enumerate(places):
            turn = time % max(1, 2 * len(drawn) - 2)
            shown = min(turn, 2 * len(drawn) - 2 - turn) if len(drawn) > 1 else 0
            (folder / f"{place:05d}.jpg").write_bytes(drawn[shown])
        index[name] = {
            "expressions": {str(row): {"exp": text} for row, text in enumerate(texts)},
            "frames": [f"{place:05d}" for place in places],
        }
    folder = root / "meta_expressions" / "train"
    folder.mkdir(parents=True)
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": index}))


def main(
    out: Path,
    videos: Annotated[int, typer.Option(min=1)] = 8,
    frames: Annotated[int, typer.Option(min=1, help="of a video")] = 50,
    expressions: Annotated[int, typer.Option(min=1, help="of a video")] = 4,
    height: Annotated[int, typer.Option(min=16, help="pixels")] = 360,
    width: Annotated[int, typer.Option(min=16, help="pixels")] = 640,
) -> None:
    write_videos(out, videos, frames, expressions, height, width)


if __name__ == "__main__":
    typer.run(main)
