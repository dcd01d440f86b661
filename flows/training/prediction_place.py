"""Checks the place that a student's predictions go to, and notes there which student made them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flows.evaluation.queries import DATASETS
from pipeline.errors import ConfigError
from pipeline.text import read_text
from storage.arrays.masks import MaskStore
from storage.files.atomic import replace_file

Form = Literal["masks", "scores", "merged"]
"""What a folder gets: ``masks``; these with their ``scores``; or the objects of Ref-DAVIS17
``merged`` by their scores, in each annotation set."""

NOTE = "predictions.json"
"""What the masks of a folder were made by."""


def check_suffix(to: Path, form: Form) -> None:
    """Raises ConfigError for what looks like a file of another kind, or one without scores."""
    kind = to.suffix.lower()
    if form != "masks" and kind in (".zip", ".zarr", ".json"):
        option = "--scores" if form == "scores" else "--merge"
        raise ConfigError(f"{option} with --to {to}: only a folder can hold them; give a folder")
    if kind in ("", ".zip", ".zarr", ".json") or not re.search("[a-z]", kind) or to.is_dir():
        return
    raise ConfigError(
        f"--to {to}: a file that ends in {to.suffix}; expected a folder or a .zip for PNGs, a"
        " .zarr for a mask store, or a .json for COCO results; give another path"
    )


def check_fits(to: Path, form: Form, dataset: str) -> None:
    """Raises ConfigError where a data set has not what a form of prediction is made for."""
    if form == "merged" and dataset != "refdavis":
        raise ConfigError(
            f"--merge with the data set {dataset}: only refdavis has annotation sets; leave"
            " --merge out"
        )
    if to.suffix == ".json" and dataset not in DATASETS:
        raise ConfigError(
            f"--to {to}: a JSON file with the data set {dataset}; expected one of"
            f" {', '.join(DATASETS)}, whose results are COCO's; give a folder, or a .zip or .zarr"
        )


def vouch_folder(folder: Path, fingerprint: str, how: Mapping[str, Any]) -> None:
    """Raises ConfigError if a folder has masks of another student; else notes the student there.

    Args:
        fingerprint: of the masks, as ``made_by`` has it.
        how: the options of the prediction, for people to read.
    """
    note = folder / NOTE
    if note.exists():
        try:
            found = json.loads(read_text(note))
            if not isinstance(found, dict):
                raise ValueError(f"a JSON {type(found).__name__}")
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{note}: damaged ({error}); expected which student the masks beside it are of;"
                " remove the folder and predict again, or give another --to"
            ) from error
        if found.get("made_by") == fingerprint:
            return
        raise ConfigError(
            f"{folder}: holds the masks of another student, or of this one predicted otherwise"
            f" ({NOTE}); expected its own, or an empty folder; give another --to, or remove it"
        )
    if (held := next((item.name for item in folder.iterdir()), None)) is not None:
        raise ConfigError(f"{folder}: holds {held}; expected an empty folder; give another --to")
    with replace_file(note, "w") as file:
        json.dump({"made_by": fingerprint, **how}, file, indent=2)


def vouch_store(place: Path, fingerprint: str) -> set[str]:
    """Raises ConfigError if a store has masks of another student; else returns its video ids."""
    store = MaskStore(place)
    videos = store.videos()
    for video_id in videos:
        if set(store.fingerprints(video_id)) - {fingerprint}:
            raise ConfigError(
                f"{place}: holds masks ({video_id}) of another student, or of this one predicted"
                " otherwise; expected its own, or no store; give another --to, or remove it"
            )
    return set(videos)
