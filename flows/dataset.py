"""Finds the data set of a run, and renders ``shapes`` if it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.config import RunConfig, ShapesConfig
from pipeline.errors import ConfigError


def dataset_root(config: RunConfig) -> Path:
    """Returns the folder of the data set. By default ``shapes`` is in ``<out>/data``.

    Raises:
        ConfigError: another data set than ``shapes`` has no root.
    """
    dataset, shapes = config.dataset, config.shapes
    if dataset.root is not None:
        return dataset.root
    if dataset.name != "shapes":
        raise ConfigError(
            f"dataset {dataset.name!r} needs its folder: give --root DIR, or ROOT=DIR to make"
        )
    kind = "shapes-hard" if shapes.hard else "shapes"
    name = f"{kind}-{shapes.train_videos}-{shapes.valid_videos}-seed{shapes.seed}"
    return config.out / "data" / name


def prepare_dataset(config: RunConfig, say: Callable[[str], None]) -> None:
    """Renders ``shapes`` if its folder is missing.

    Raises:
        ConfigError: there is no root, or that of ``shapes`` holds something else.
    """
    root = dataset_root(config)
    if shapes_to_render(config) is not None:
        shapes = config.shapes
        render_shapes(root, shapes, say)


def shapes_to_render(config: RunConfig) -> str | None:
    """Returns what of ``shapes`` has to be rendered, in words; None if nothing has.

    Raises:
        ConfigError: its folder holds something else.
    """
    root = dataset_root(config)
    if config.dataset.name != "shapes" or (root / "meta_expressions").is_dir():
        return None
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(
            f"{root}: not a shapes data set (no meta_expressions); expected one, or an empty"
            " folder; name the data set with --dataset, or give another --root"
        )
    return f"{config.shapes.train_videos} + {config.shapes.valid_videos} videos"


def render_shapes(out: Path, shapes: ShapesConfig, say: Callable[[str], None]) -> None:
    """Renders the shapes data set into a folder; ``say`` gets a line before and after."""
    from storage.datasets.shapes import write_shapes

    train, valid = shapes.train_videos, shapes.valid_videos
    say(f"Rendering {'hard ' if shapes.hard else ''}shapes: {train} + {valid} videos")
    write_shapes(out, train, valid, shapes.seed, hard=shapes.hard)
    say(f"shapes: {train} videos to train on, {valid} to validate on, in {out}")
