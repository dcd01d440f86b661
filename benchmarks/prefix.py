"""What it saves to read a video's frames once for all its sentences, against once a sentence.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.prefix [--videos 3] [--json]

The demo captioner over videos of shapes with eight sentences each, in batches of eight, both ways
in one process; CPU time. Answers are compared token by token. What is saved is the reading; the
writing is the same on both sides, and is most of the time of a model that writes much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from pipeline.config import AugmentConfig
from pipeline.ports import CaptionRequest
from pipeline.shapes.language import referring_expressions
from pipeline.shapes.render import render
from pipeline.shapes.scene import sample_scene
from pipeline.types import Expression, SampleKey, VideoRef
from stages.augment import load_captioner
from stages.augment.captioner import Answer, ModelCaptioner

SENTENCES, FRAMES = 8, 4


def requests_of(number: int) -> list[CaptionRequest]:
    rng = np.random.default_rng(number)
    scene = sample_scene(rng)
    said = (referring_expressions(scene, rng) * SENTENCES)[:SENTENCES]
    times = np.linspace(0, scene.frames - 1, FRAMES).round().astype(int)
    images = [render(scene, int(time_)).image for time_ in times]
    video = VideoRef(f"v{number}", (), (), *images[0].shape[:2])
    keys = [SampleKey("shapes", "train", video.id, str(row)) for row in range(SENTENCES)]
    return [
        CaptionRequest(video, images, Expression(key, item.text))
        for key, item in zip(keys, said, strict=True)
    ]


def answered(
    captioner: ModelCaptioner, batch: Sequence[CaptionRequest], share: bool
) -> tuple[list[Answer], float]:
    """Answers and CPU seconds."""
    frames = captioner.shared_frames(batch) if share else None
    start = time.process_time()
    answers = captioner.answers(batch, frames=frames)
    return answers, time.process_time() - start


def measure(videos: int) -> dict[str, Any]:
    config = AugmentConfig(source="model", positives=6, batch_texts=SENTENCES)
    captioner = load_captioner(config, torch.device("cpu"), 0, None)
    assert isinstance(captioner, ModelCaptioner)
    answered(captioner, requests_of(videos), share=True)
    seconds, same = {"once a video": 0.0, "once a sentence": 0.0}, 0
    for number in range(videos):
        batch = requests_of(number)
        once, taken = answered(captioner, batch, share=True)
        seconds["once a video"] += taken
        each, taken = answered(captioner, batch, share=False)
        seconds["once a sentence"] += taken
        same += sum(one.tokens == other.tokens for one, other in zip(once, each, strict=True))
    return {
        "seconds": seconds,
        "ratio": seconds["once a sentence"] / seconds["once a video"],
        "answers": videos * SENTENCES,
        "answers that are the same": same,
    }


def main(
    videos: Annotated[int, typer.Option(min=1, help="of eight sentences each")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    found = measure(videos)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table("frames read", "CPU seconds", title=f"{found['answers']} sentences")
    for name, taken in found["seconds"].items():
        table.add_row(name, f"{taken:.2f}")
    Console().print(table)
    typer.echo(
        f"{found['ratio']:.2f} times as fast; {found['answers that are the same']} of"
        f" {found['answers']} answers the same, token by token"
    )


if __name__ == "__main__":
    typer.run(main)
