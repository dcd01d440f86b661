"""``pseudolabels demo-models``: train the demo models that ship with the project."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.console import LogLines, say
from pipeline.errors import ConfigError, UnusableAnswerError
from stages.common.checkpoints import DEMO_FOLDER, DEMO_NAMES
from storage.files.atomic import fresh_folder

if TYPE_CHECKING:
    import torch

STEPS = {
    "bind": 450,
    "ground": 1300,
    "ground polish": 1000,
    "ground polish again": 480,
    "ground polish at last": 2400,
    "segment": 1500,
    "segment polish": 500,
    "track frames": 900,
    "track clips": 400,
    "track long clips": 300,
    "captioner look": 900,
    "captioner name": 2200,
    "captioner write": 1150,
}
"""Optimiser steps of each part. On two CPU cores the grounder takes two hours, the
segmenter half an hour, the tracker twenty minutes, and the captioner two hours."""


def train_demo_models(
    out: Path | None,
    only: Sequence[str],
    device: str,
    seed: int,
    console: Console,
    steps: dict[str, int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Trains demo models, and writes their accuracy on unseen videos beside the weights.

    Args:
        out: folder of the weights; None for the project's own.
        only: which of ``ground``, ``segment``, ``track`` and ``captioner``; empty for all.
        steps: replaces entries of ``STEPS``; a test trains for a few steps.

    Returns:
        Name -> accuracy, as in ``figures.json``.

    Raises:
        ConfigError: there is no demo model of a name, or the device does not exist.
    """
    unknown = sorted(set(only) - set(DEMO_NAMES))
    if unknown:
        raise ConfigError(
            f"--only {unknown[0]}: no such demo model; expected {', '.join(DEMO_NAMES)}"
        )

    from stages.common.weights import resolve_device

    chosen = resolve_device(device)
    handler = LogLines(console, "  ")
    logging.getLogger("stages.demo").setLevel(logging.INFO)
    logging.getLogger("stages.demo").addHandler(handler)
    try:
        return {
            name: _train_one(name, out, chosen, seed, console, steps or {})
            for name in only or DEMO_NAMES
        }
    finally:
        logging.getLogger("stages.demo").removeHandler(handler)


def _train_one(
    name: str,
    out: Path | None,
    device: torch.device,
    seed: int,
    console: Console,
    steps: dict[str, int],
) -> dict[str, Any]:
    import torch

    say(console, f"Training the demo model {name!r} on {device}")
    torch.manual_seed(seed)
    began = time.monotonic()
    folder = (out or DEMO_FOLDER) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with fresh_folder(folder) as partial:
        figures = _TRAIN[name](partial, seed, device, STEPS | steps)
        figures["seed"], figures["minutes"] = seed, round((time.monotonic() - began) / 60, 1)
        (partial / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    say(console, json.dumps(figures, indent=2))
    return figures


def _ground(folder: Path, seed: int, device: torch.device, steps: dict[str, int]) -> dict[str, Any]:
    from stages.demo.figures import ground_figures
    from stages.demo.ground import polish_grounder, train_grounder
    from stages.demo.tokenizer import build_tokenizer
    from stages.ground.architecture import build_demo

    tokenizer = build_tokenizer()
    model = build_demo(tokenizer)
    train_grounder(model, bind_steps=steps["bind"], steps=steps["ground"], seed=seed, device=device)
    polishes = [name for name in STEPS if name.startswith("ground polish")]
    for cycle, part in enumerate(polishes, start=1):
        polish_grounder(model, steps=steps[part], seed=seed, cycle=cycle, device=device)
    tokenizer.save_pretrained(folder)
    _save(model, folder)
    return ground_figures(model.eval())


def _segment(
    folder: Path, seed: int, device: torch.device, steps: dict[str, int]
) -> dict[str, Any]:
    from stages.demo.figures import segment_figures
    from stages.demo.segment import polish_segmenter, train_segmenter
    from stages.segment.architecture import build_demo

    sam = build_demo()
    train_segmenter(sam, steps=steps["segment"], seed=seed, device=device)
    polish_segmenter(sam, steps=steps["segment polish"], seed=seed, device=device)
    _save(sam, folder)
    return segment_figures(sam)


def _track(folder: Path, seed: int, device: torch.device, steps: dict[str, int]) -> dict[str, Any]:
    from pipeline.config import TrackConfig
    from stages.demo.figures import track_figures
    from stages.demo.track import build_processor, build_tracker, save_tracker
    from stages.demo.track_training import train_tracker
    from stages.track.video_model import load_tracker

    model, processor = build_tracker(), build_processor()
    train_tracker(
        model,
        processor,
        frame_steps=steps["track frames"],
        clip_steps=steps["track clips"],
        long_clip_steps=steps["track long clips"],
        seed=seed,
        device=device,
    )
    save_tracker(model, processor, folder)
    return track_figures(load_tracker(TrackConfig(checkpoint=str(folder)), device))


def _captioner(
    folder: Path, seed: int, device: torch.device, steps: dict[str, int]
) -> dict[str, Any]:
    from stages.augment.captioner import ModelCaptioner
    from stages.augment.checkpoint import load_model
    from stages.demo.captioner import build_captioner, build_processor, save_captioner
    from stages.demo.captioner_training import train_captioner
    from stages.demo.figures import captioner_figures, default_captioner_config

    processor = build_processor()
    model = build_captioner(processor)
    train_captioner(
        model,
        processor,
        look_steps=steps["captioner look"],
        name_steps=steps["captioner name"],
        write_steps=steps["captioner write"],
        seed=seed,
        device=device,
    )
    save_captioner(model, processor, folder)
    config = default_captioner_config()
    loaded, processor, prompt = load_model(folder, config, device)
    captioner = ModelCaptioner(loaded, processor, prompt, config, "demo", "unsaved", seed)
    try:
        return captioner_figures(captioner)
    except UnusableAnswerError as error:  # keep the result of hours of training
        return {"measure": "none: it does not write usable answers yet", "error": str(error)}


_TRAIN: dict[str, Callable[[Path, int, torch.device, dict[str, int]], dict[str, Any]]] = {
    "ground": _ground,
    "segment": _segment,
    "track": _track,
    "captioner": _captioner,
}


def _save(model: Any, folder: Path) -> None:
    """Writes the weights in half precision, and rounds those of the model in the same way."""
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    model.load_state_dict(
        {name: value.to(torch.float32) if value.is_floating_point() else value
         for name, value in tensors.items()}
    )  # fmt: skip
