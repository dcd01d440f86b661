"""How well the tracks of finished runs keep the identity of objects.

    .venv/bin/python -m benchmarks.tracks RUN [RUN ...] [--root DIR]

Compares, over all frames with ground truth, the run's own tracks (`association`, or those of a
video model) with tracks that are never joined again after a gap. HOTA, its AssA (association) and
DetA (detection), and IDF1 are those of TrackEval, over the IoU of masks. The objects are those that
the sentences name. What else is visible in a video, and is tracked, lowers DetA and IDF1 but not
AssA. Then J&F of frame level and of track level on the same candidates. Figures in percent; the
runs are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table
from trackeval.metrics import HOTA, Identity

from benchmarks.ablation import COLUMNS as FIGURES
from benchmarks.ablation import row_of, score, system, wide_console
from benchmarks.weights import opened
from flows.context import RunContext
from pipeline.geometry import pairwise_mask_iou
from pipeline.types import FrameIndex, Tracks, VideoRef
from stages.track import associate
from stages.track_masks import tracks_in
from storage.arrays.candidates import StoredCandidates
from storage.tables import ground_videos, read_ground
from storage.track_table import read_tracks

COLUMNS = ("HOTA", "AssA", "DetA", "IDF1")


@dataclass
class Sequences:
    """What TrackEval reads of one video: the objects and the tracks of each frame."""

    truth: list[NDArray[np.intp]] = field(default_factory=list)
    tracks: list[NDArray[np.intp]] = field(default_factory=list)
    overlap: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        objects: Sequence[int],
        true: NDArray[np.bool_],
        numbers: Sequence[int],
        masks: NDArray[np.bool_],
    ) -> None:
        """Adds a frame: numbers and masks [n, H, W] of its objects and of its tracks."""
        self.truth.append(np.array(objects, np.intp))
        self.tracks.append(np.array(numbers, np.intp))
        self.overlap.append(pairwise_mask_iou(true, masks).astype(np.float64))

    def data(self) -> dict[str, Any]:
        """The video in TrackEval's form, with the numbers of objects and tracks without gaps."""
        return {
            **{
                f"{name}_ids": _without_gaps(ids)
                for name, ids in (("gt", self.truth), ("tracker", self.tracks))
            },
            "similarity_scores": self.overlap,
            "num_timesteps": len(self.overlap),
            "num_gt_dets": sum(map(len, self.truth)),
            "num_tracker_dets": sum(map(len, self.tracks)),
            "num_gt_ids": len(np.unique(np.concatenate(self.truth))) if self.truth else 0,
            "num_tracker_ids": len(np.unique(np.concatenate(self.tracks))) if self.tracks else 0,
        }


def _without_gaps(ids: Sequence[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    known = np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.intp)
    return [np.searchsorted(known, each) for each in ids]


def identity(videos: Sequence[Sequences]) -> dict[str, float]:
    """HOTA, AssA, DetA and IDF1 over some videos, in percent.

    Args:
        videos: at least one, of at least one frame.
    """
    hota, idf1 = HOTA(), Identity({"PRINT_CONFIG": False})
    data = [video.data() for video in videos]
    together = hota.combine_sequences({i: hota.eval_sequence(each) for i, each in enumerate(data)})
    same = idf1.combine_sequences({i: idf1.eval_sequence(each) for i, each in enumerate(data)})
    figures = {name: 100 * float(np.mean(together[name])) for name in ("HOTA", "AssA", "DetA")}
    return {**figures, "IDF1": 100 * float(same["IDF1"])}


TracksOf = Callable[[str, str], Tracks]
"""The tracks of a video, given its shard and its id."""


def sources(context: RunContext) -> dict[str, TracksOf]:
    """Name -> tracks: the run's own, and the association's that are never joined after a gap."""
    paths, config = context.paths, context.config.track

    def own(shard: str, video: str) -> Tracks:
        return read_tracks(paths.part("track", shard), video)

    def broken(shard: str, video: str) -> Tracks:
        texts, boxes = read_ground(paths.boxes(shard), video)
        candidates = StoredCandidates(paths.candidates(shard), video)
        never = config.model_copy(update={"join_above": 1.01})
        return associate(len(texts), boxes, candidates, never)

    name = config.checkpoint if config.uses_checkpoint else config.source
    return {name: own, "association, never joined": broken}


def sequences(context: RunContext, tracks_of: TracksOf) -> Iterator[Sequences]:
    """Yields every finished video of a run."""
    plan, paths, reader = context.make_plan(remember=False), context.paths, context.reader()
    for shard in plan.shards:
        for video_id in ground_videos(paths.boxes(shard.name)):
            video = reader.video(video_id)
            tracks = tracks_of(shard.name, video_id)
            found = Sequences()
            candidates = StoredCandidates(paths.candidates(shard.name), video_id)
            for frame, item in enumerate(candidates):
                objects = true_objects(context, video, frame)
                if objects is not None:
                    size = video.height, video.width
                    found.add(*objects, *tracks_in(item, tracks.of_candidate[frame], size))
            if found.overlap:
                yield found


def true_objects(
    context: RunContext, video: VideoRef, frame: int
) -> tuple[list[int], NDArray[np.bool_]] | None:
    """Numbers and masks of the objects that are visible in a frame; None without ground truth."""
    reader = context.reader()
    numbers: dict[tuple[str, ...], int] = {}
    shown: dict[int, NDArray[np.bool_]] = {}
    for expression in reader.expressions(video.id):
        number = numbers.setdefault(expression.object_ids, len(numbers))
        if number in shown:
            continue
        mask = reader.truth(video, expression, FrameIndex(frame))
        if mask is None:
            return None
        shown[number] = mask
    seen = [number for number, mask in shown.items() if mask.any()]
    masks = [shown[number] for number in seen]
    return seen, np.stack(masks) if masks else np.zeros((0, video.height, video.width), np.bool_)


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
) -> None:
    """Prints the identity of the tracks, and J&F at both levels, of each run."""
    for folder in runs:
        context = opened(folder, root)
        table = Table("tracks", *COLUMNS, title=escape(str(folder)))
        for name, tracks_of in sources(context).items():
            figures = identity(list(sequences(context, tracks_of)))
            table.add_row(escape(name), *(f"{figures[column]:.1f}" for column in COLUMNS))
        wide_console().print(table)
        table = Table("masks", *FIGURES)
        for level in ("frame", "track"):
            found = score(context, system(context.config, level=level))
            table.add_row(f"{level} level", *row_of([found]))
        wide_console().print(table)


if __name__ == "__main__":
    typer.run(main)
