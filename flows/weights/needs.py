"""Says which weights a configuration needs, and whether they are there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.planning.presets import DEMO, fitting_preset
from flows.weights.published import Published, did_you_mean, published
from pipeline.cache import cache_folder
from pipeline.config import RunConfig, load_config
from pipeline.errors import CheckpointError
from stages.common.checkpoints import weights_of_student

INDEX = "model.safetensors.index.json"
"""Of a folder whose weights are in several files: the names of all of them."""


STAGES = ("augment", "ground", "segment", "track", "judge", "student")
"""The stages that use weights."""


@dataclass(frozen=True)
class Need:
    """Weights that a configuration names.

    Attributes:
        stage: that uses them.
        path: file or folder.
        needed: whether a run of this configuration uses them; False for a student that is off.
        tokenizer_only: the weights in the folder are not used; the tokenizer and the sizes are.
    """

    stage: str
    path: Path
    needed: bool = True
    tokenizer_only: bool = False

    @property
    def item(self) -> Published | None:
        """What is published under this name; None for weights of the user's own."""
        return published(self.path.name)


def needs_of(config: RunConfig) -> list[Need]:
    """Returns the weights that a configuration names, without those that ship with the project."""
    found: dict[Path, Need] = {}
    for need in _named(config):
        before = found.get(need.path)
        # One folder can be the tokenizer of one stage and the model of another.
        if before is None or (before.tokenizer_only and not need.tokenizer_only):
            found[need.path] = need
    return list(found.values())


def is_there(need: Need) -> bool:
    """Returns whether the file, or all files of the folder, are there. Reads no weights."""
    path = need.path
    if path.is_file():
        return True
    if not (path / "config.json").is_file():
        return False
    if need.tokenizer_only:
        return any((path / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    return not list(_missing_parts(path))


def missing(config: RunConfig) -> list[Need]:
    """Returns the weights that a run of the configuration needs and that are not there."""
    return [need for need in needs_of(config) if need.needed and not is_there(need)]


def weights_are_there(config: Path) -> bool:
    """Returns whether all weights of a preset's file are there."""
    try:
        cache_folder()
    except ValueError:
        # A user without a home folder has no cache, and so none of a preset's weights.
        return False
    return not missing(load_config(config))


def preset_of_this_machine(settings: Sequence[str] = ()) -> str | None:
    """Returns the preset to use where the user names none; None for the demo models.

    Args:
        settings: of the user. If they name a model, no preset is taken.
    """
    if any(word.partition("=")[0].endswith((".checkpoint", "augment.source")) for word in settings):
        return None
    # Import it here, because it imports torch.
    from stages.common.weights import gpu_memory

    name = fitting_preset(gpu_memory(), weights_are_there)
    return None if name == DEMO else name


def fetch_command(config: Path | None, preset: str | None, overrides: tuple[str, ...] = ()) -> str:
    """Returns the command that fetches the weights of a configuration.

    Args:
        config, preset: as the user gave them.
        overrides: settings; those that name weights are repeated.
    """
    words = ["pseudolabels", "weights", "fetch"]
    words += ["--config", str(config)] if config else []
    words += ["--preset", preset] if preset else []
    sections = tuple(f"{stage}." for stage in STAGES)
    words += [word for word in overrides if word.strip().startswith(sections)]
    return shlex.join(words)


def check_weights(
    config: RunConfig, command: str, option: str = "", stages: Collection[str] = STAGES
) -> None:
    """Raises CheckpointError, which names all weights that are missing and how to get them.

    Args:
        command: that fetches them.
        option: of the user's own command that fetches them too, if it has one.
        stages: whose weights are checked.
    """
    absent = [need for need in missing(config) if need.stage in stages]
    if not absent:
        return
    folders = {need.path.parent for need in absent}
    within = folders.pop() if len(absent) > 1 and len(folders) == 1 else None
    names = ", ".join(need.path.name if within else str(need.path) for need in absent)
    strange = [need for need in absent if need.item is None]
    if strange:
        first = strange[0].path
        remedy = f"check the path of {first.name} in the configuration{did_you_mean(first.name)}"
    else:
        remedy = f"fetch them with `{command}`" + (f", or add {option}" if option else "")
    place, found = (within, f"{names} missing") if within else (names, "missing")
    raise CheckpointError(place, found, f"the weights of {_stages(absent)}", remedy)


def _stages(needs: list[Need]) -> str:
    return " and ".join(dict.fromkeys(need.stage for need in needs))


def _named(config: RunConfig) -> Iterator[Need]:
    encoders, student = config.student.encoders, config.student.enabled
    models = [("segment", config.segment.checkpoint)]
    if config.augment.source == "model":
        models.append(("augment", config.augment.checkpoint))
    if config.augment.similarity_checkpoint and config.augment.similarity == "encoder":
        models.append(("augment", config.augment.similarity_checkpoint))
    if config.ground.uses_checkpoint:
        models.append(("ground", config.ground.checkpoint))
    if config.ground.source == "model":
        if config.ground.adapter is not None:
            yield Need("ground", config.ground.adapter)
        if config.ground.text_encoder is not None:
            yield Need("ground", config.ground.text_encoder, tokenizer_only=True)
    if config.track.uses_checkpoint:
        models.append(("track", config.track.checkpoint))
    if config.judge.source == "model" and config.judge.checkpoint is not None:
        models.append(("judge", config.judge.checkpoint))
    for stage, checkpoint in models:
        if not checkpoint.startswith("demo:"):
            yield Need(stage, Path(checkpoint))
    if config.student.start is not None:
        yield Need("student", weights_of_student(config.student.start), student)
    if encoders.backbone_checkpoint is not None:
        yield Need("student", encoders.backbone_checkpoint, student)
    if encoders.text_encoder != "demo":
        yield Need("student", Path(encoders.text_encoder), student)


def _missing_parts(folder: Path) -> Iterator[str]:
    """Yields the weight files that a model's folder lacks."""
    try:
        listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except FileNotFoundError:
        if not any(folder.glob("*.safetensors")):
            yield "model.safetensors"
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield INDEX
        return
    yield from (name for name in sorted(set(listed)) if not (folder / name).is_file())
