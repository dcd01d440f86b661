"""Other methods' predictions as further masks of a run: read, fused, written beside the run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from flows.console import say
from flows.context import RunContext
from flows.evaluation.result import SHOWN_PROBLEMS, Result, mean, present
from flows.evaluation.scores import in_each, left_out
from flows.finished_results import own_masks
from flows.planning.mirrored import pushed
from flows.progress import reporter
from pipeline.config import RunConfig
from pipeline.errors import InputError, PseudoLabelError
from pipeline.fingerprint import digest
from pipeline.metrics import region_similarity
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, FrameQuality, Status, VideoRef
from stages.consensus import VERSION, Consensus, Tracks, consensus
from storage.arrays.masks import MaskStore
from storage.files.atomic import fresh_folder
from storage.predictions import PredictionTree
from storage.run.lock import RunLock, check_held
from storage.tables import write_quality

RUN = "run"
"""Name of the run's own masks among the methods."""


@dataclass
class _Tally:
    """What came of the samples.

    Attributes:
        j: system -> mean J of each sample that has ground truth; the systems are the methods, with
        the
            tracks that were chosen of them, and ``consensus``.
    """

    samples: int = 0
    fused: int = 0
    problems: list[str] = field(default_factory=list)
    j: dict[str, list[float]] = field(default_factory=dict)


def import_predictions(config: RunConfig, folders: Sequence[Path], console: Console) -> Path:
    """Fuses predictions with the masks of the run, where it has any, and with each other.

    Args:
        config: of the run, which need not have begun; it names the data set.
        folders: of PNG files each: ``<video>/<frame>.png`` of index masks with any ids, or
            ``<video>/<expression>/<frame>.png`` of binary ones.
        console: for the figures: what was fused, and J where the data set has ground truth.

    Returns:
        The folder of the result: ``pseudomasks.zarr`` and ``quality.parquet``.

    Raises:
        PseudoLabelError: a folder is missing, or no video of the data set is in any.
    """
    context = RunContext(config, progress=reporter(console))
    reader, tally = context.reader(), _Tally()
    videos = list(reader.video_ids())
    trees = {name: PredictionTree(path, videos) for name, path in _named(folders).items()}
    own = own_masks(context)
    place = context.paths.consensus
    with RunLock(config.run_folder), pushed(place), fresh_folder(place) as folder:
        store = MaskStore(folder / context.paths.masks.name)
        rows = _fused_videos(reader, trees, own, store, tally)
        write_quality(folder / context.paths.quality.name, rows)
        if not tally.samples:
            raise PseudoLabelError(
                f"{', '.join(map(str, folders))}: no mask of any of the {len(videos)} videos of"
                f" {reader.name} {reader.split}; expected <video>/<frame>.png or"
                " <video>/<expression>/<frame>.png; check the folders and --dataset"
            )
        check_held(config.run_folder)
    _show(tally, trees, place, reader, console)
    return place


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """A name of its own for each folder."""
    result: dict[str, Path] = {}
    for path in folders:
        name, number = path.stem, 2
        while name in result or name in (RUN, "consensus"):
            name, number = f"{path.stem}-{number}", number + 1
        result[name] = path
    return result


def _fused_videos(
    reader: DatasetReader,
    trees: dict[str, PredictionTree],
    own: MaskStore,
    store: MaskStore,
    tally: _Tally,
) -> Iterator[FrameQuality]:
    """Writes the masks video by video and gives the quality rows that go with them."""

    def fuse_video(video: VideoRef, expressions: Sequence[Expression]) -> list[Consensus]:
        indexed = {
            name: tracks
            for name, tree in trees.items()
            if (tracks := _index_tracks(name, tree, video)) is not None
        }
        targets = {item.object_ids or (item.key.expression,) for item in expressions}
        fused = []
        for expression in expressions:
            methods = list(indexed.values())
            for name, tree in trees.items():
                if name not in indexed:
                    methods += _sample_tracks(name, tree, video, expression)
            methods += _own_tracks(own, video, expression)
            found = _fuse(video, expression, methods, len(targets) == 1)
            sample = f"{video.id} {expression.key.expression}"
            if found.reason:
                tally.problems.append(f"{sample}: {found.reason}")
            tally.samples += 1
            tally.fused += not found.reason
            try:
                _measure(reader, video, expression, methods, found, tally)
            except InputError as error:
                tally.problems.append(f"{sample} was not measured: {error}")
            fused.append(found)
        store.write_video(
            video, [item.text for item in expressions], [found.mask for found in fused]
        )
        return fused

    named = (
        video_id
        for video_id in reader.video_ids()
        if video_id in own or any(tree.names(video_id) for tree in trees.values())
    )
    for video_id, fused in in_each(reader, named, fuse_video):
        if isinstance(fused, InputError):
            tally.problems.append(left_out(video_id, fused))
            continue
        for found in fused:
            yield from found.quality


def _index_tracks(name: str, tree: PredictionTree, video: VideoRef) -> Tracks | None:
    """A method's index masks of a video; None where it has none, or one mask a sample."""
    if not any(file.lower().endswith(".png") for file in tree.names(video.id)):
        return None
    ids, there = tree.clip([video.id], video.frames, (video.height, video.width))
    return Tracks(name, ids, there, False, np.ones(len(video), np.float32))


def _sample_tracks(
    name: str, tree: PredictionTree, video: VideoRef, expression: Expression
) -> list[Tracks]:
    """A method's binary masks of a sample, if it has any."""
    parts = [video.id, expression.key.expression]
    if not tree.names(*parts):
        return []
    ids, there = tree.clip(parts, video.frames, (video.height, video.width))
    inside = (ids > 0).astype(np.uint8)
    return [Tracks(name, inside, there, True, np.ones(len(video), np.float32))]


def _own_tracks(own: MaskStore, video: VideoRef, expression: Expression) -> list[Tracks]:
    """The run's masks of a sample, if it has any; unknown frames say nothing."""
    name = expression.key.expression
    if video.id not in own or name not in own.expressions(video.id):
        return []
    if own.frames(video.id) != video.frames:
        return []
    mask, weight, status = own.read(video.id, name)
    there = status != Status.UNKNOWN
    return [Tracks(RUN, mask.astype(np.uint8), there, True, weight)]


def _fuse(
    video: VideoRef, expression: Expression, methods: Sequence[Tracks], only_target: bool
) -> Consensus:
    if not methods:
        nothing = np.zeros((len(video), video.height, video.width), np.uint8)
        nowhere = np.zeros(len(video), np.bool_)
        methods = [Tracks(RUN, nothing, nowhere, False, np.zeros(len(video), np.float32))]
    fingerprint = digest(
        {
            "stage": "consensus",
            "version": VERSION,
            "sample": str(expression.key),
            "methods": [(method.name, method.digest) for method in methods],
        }
    )
    return consensus(expression.key, video.frames, methods, fingerprint, only_target)


def _measure(
    reader: DatasetReader,
    video: VideoRef,
    expression: Expression,
    methods: Sequence[Tracks],
    found: Consensus,
    tally: _Tally,
) -> None:
    """Adds J of the result, and of each method's chosen track, to the tally; after the choice."""
    values: dict[str, list[float]] = {}
    for frame in range(len(video)):
        truth = reader.truth(video, expression, FrameIndex(frame))
        if truth is None:
            continue
        void = reader.void(video, FrameIndex(frame))
        values.setdefault("consensus", []).append(
            float(region_similarity(found.mask.mask[frame], truth, void))
        )
        for method, track in zip(methods, found.chosen, strict=False):
            mask = method.ids[frame] == (track or 0) if track else np.zeros_like(truth)
            values.setdefault(method.name, []).append(float(region_similarity(mask, truth, void)))
    for name, js in values.items():
        tally.j.setdefault(name, []).append(mean(js))


def _show(
    tally: _Tally,
    trees: dict[str, PredictionTree],
    place: Path,
    reader: DatasetReader,
    console: Console,
) -> None:
    problems = [
        f"{name}: {problem}" for name, tree in trees.items() for problem in tree.problems
    ] + tally.problems
    counts = {"samples": tally.samples, "fused": tally.fused}
    if tally.j:
        systems = {name: {"J": mean(js)} for name, js in tally.j.items()}
        title = f"{reader.name}, {reader.split}: mean J, unknown frames as empty"
        present(Result(title, systems, problems=problems, counts=counts), console, False, None)
    else:
        say(console, f"{tally.fused} of {tally.samples} samples have masks")
        for problem in problems[:SHOWN_PROBLEMS]:
            say(console, problem, "yellow")
    say(console, f"{place}: see `--from consensus`")
