"""Finds the data set of a run, in a folder or an object store, and renders ``shapes`` if it is
missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.config import RunConfig, ShapesConfig
from pipeline.errors import ConfigError
from pipeline.store_urls import shown, url_of


def dataset_root(config: RunConfig) -> Path:
    """Returns the folder of the data set; of one in an object store, that of its local copy. By
    default ``shapes`` is in ``<out>/data``.

    Raises:
        ConfigError: another data set than ``shapes`` has no root.
    """
    dataset, shapes = config.dataset, config.shapes
    if dataset.root is not None:
        return dataset.root
    if dataset.name != "shapes":
        raise ConfigError(
            f"dataset {dataset.name!r} needs its folder or address: give --root DIR, or ROOT=DIR to"
            " make"
        )
    kind = "shapes-hard" if shapes.hard else "shapes"
    name = f"{kind}-{shapes.train_videos}-{shapes.valid_videos}-seed{shapes.seed}"
    return config.out / "data" / name


def prepare_dataset(config: RunConfig, say: Callable[[str], None]) -> None:
    """Renders ``shapes`` if its folder is missing. Says where the copy of a data set in an object
    store is.

    Raises:
        ConfigError: there is no root, that of ``shapes`` holds something else, or the run would be
            among the files of the data set.
    """
    root = dataset_root(config)
    if config.dataset.root is not None and (url := url_of(root)) is not None:
        if root.absolute() in (config.run_folder.absolute(), *config.run_folder.absolute().parents):
            raise ConfigError(
                f"out {shown(config.out)}: lies in the data set {url}, which is only read; expected"
                " a place outside of it; give another --out"
            )
        say(f"The data set is at {url}; its local copy is {root}.")
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
    if config.dataset.root is not None and url_of(root) is not None:
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
