"""Takes over masks that people corrected in CVAT or Label Studio."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from flows.console import say
from flows.context import RunContext
from flows.evaluation.result import SHOWN_PROBLEMS
from flows.exchange.export import masks_of
from flows.planning.mirrored import pushed
from flows.progress import reporter
from pipeline.config import RunConfig
from pipeline.errors import InputError, PseudoLabelError
from pipeline.fingerprint import digest, file_digest
from pipeline.packed_masks import PackedMasks
from pipeline.types import FrameQuality, PseudoMask, SampleKey, Status, VideoRef
from storage.arrays.masks import MaskStore
from storage.corrections import CorrectedVideo, Corrections, expression_of, read_corrections
from storage.exports.source import ExportReport, ExportSource, Quality
from storage.files.atomic import fresh_folder
from storage.run.lock import RunLock, check_held
from storage.tables import write_quality

REASON = "corrected by a person"
WEIGHT = 1.0
"""Of a frame that a person changed."""


@dataclass
class _Tally:
    """What came of the frames.

    Attributes:
        changed: frames of a sentence that are not as they were.
        kept: the others.
    """

    changed: int = 0
    kept: int = 0
    videos: int = 0
    problems: list[str] = field(default_factory=list)


def import_corrections(
    config: RunConfig, files: Sequence[Path], source: str, console: Console
) -> Path:
    """Writes the masks of a run with the corrections in place of what they changed.

    A frame whose mask a person changed has the weight 1 and the status present, or absent if no
    mask is left. A frame that was unknown and got no mask stays unknown. Other frames, and videos
    that the files do not have, are as before.

    Args:
        config: of the run.
        files: what CVAT or Label Studio exported.
        source: the masks that were exported before: a source of `export`.
        console: for the figures.

    Returns:
        The folder of the result: ``pseudomasks.zarr`` and ``quality.parquet``.

    Raises:
        PseudoLabelError: a file cannot be read, or belongs to no video of the run.
    """
    found = [read_corrections(path) for path in files]
    context = RunContext(config, progress=reporter(console))
    before, place, tally = masks_of(context, source), context.paths.consensus, _Tally()
    mark = digest([file_digest(path) for path in files])
    with RunLock(config.run_folder), pushed(place), fresh_folder(place) as folder:
        store = MaskStore(folder / context.paths.masks.name)
        rows = _corrected(before, found, store, mark, tally)
        write_quality(folder / context.paths.quality.name, rows)
        _check_videos(found, files, tally, before)
        check_held(config.run_folder)
    tally.problems += [problem for item in found for problem in item.problems]
    say(
        console,
        f"{tally.videos} videos: {tally.changed} frames of sentences changed, {tally.kept} as"
        " before",
    )
    for problem in tally.problems[:SHOWN_PROBLEMS]:
        say(console, problem, "yellow")
    say(console, f"{place}: see `--from consensus`")
    return place


def _check_videos(
    found: Sequence[Corrections], files: Sequence[Path], tally: _Tally, before: ExportSource
) -> None:
    known = set(before.store.videos())
    named = {name for item in found for name in item.videos}
    tally.problems += [
        f"{name}: not a video of the run; left out" for name in sorted(named - known)
    ]
    if not named & known:
        raise PseudoLabelError(
            f"{', '.join(map(str, files))}: masks of none of the {len(known)} videos of"
            f" {before.reader.name} {before.reader.split}; expected what `export --to cvat` or"
            " `--to label-studio` of this run wrote, corrected; check --run"
        )


def _corrected(
    before: ExportSource,
    found: Sequence[Corrections],
    store: MaskStore,
    mark: str,
    tally: _Tally,
) -> Iterator[FrameQuality]:
    """Writes the masks video by video and gives the quality rows that go with them."""
    report, quality = ExportReport(), before.quality_by_video()
    for video in before.videos(report):
        rows = quality.of(video.id)
        mine = [item.videos[video.id] for item in found if video.id in item.videos]
        masks = []
        for expression in before.store.expressions(video.id):
            mask, told = _sample(before, video, expression, mine, rows, mark, tally)
            masks.append(mask)
            yield from told
        store.write_video(video, before.store.texts(video.id), masks)
        tally.videos += bool(mine)
    tally.problems += report.notes


def _sample(
    before: ExportSource,
    video: VideoRef,
    expression: str,
    corrections: Sequence[CorrectedVideo],
    rows: Quality,
    mark: str,
    tally: _Tally,
) -> tuple[PseudoMask, list[FrameQuality]]:
    """Returns the masks of a sentence and their quality."""
    expressions = before.store.expressions(video.id)
    key = SampleKey(before.reader.name, before.reader.split, video.id, expression)
    weight, status = before.store.quality(video.id, expression)
    weight, status = weight.copy(), status.copy()
    masks = PackedMasks(len(video), video.height, video.width)
    told = []
    for frame, name in enumerate(video.frames):
        mask, _, _ = before.mask(video.id, expression, frame)
        row = rows.get((expression, frame)) or _unmeasured(video, expression, frame)
        row = replace(row, weight=float(weight[frame]), status=int(status[frame]))
        for item in corrections:
            if not item.covers(frame, name):
                continue
            labels = {
                label for label in item.labels if expression_of(label, expressions) == expression
            }
            new = _mask_of(item, labels, frame, video)
            if np.array_equal(new, mask):
                continue
            mask = new
            status[frame] = Status.PRESENT if new.any() else Status.ABSENT
            weight[frame] = WEIGHT
            row = replace(row, weight=WEIGHT, status=int(status[frame]), reason=REASON)
            tally.changed += 1
            break
        else:
            tally.kept += 1
        masks[frame] = mask
        told.append(row)
    fingerprint = digest([before.store.fingerprints(video.id), mark])
    return PseudoMask(key, masks, weight, status, fingerprint), told


def _mask_of(
    item: CorrectedVideo, labels: set[str], frame: int, video: VideoRef
) -> NDArray[np.bool_]:
    try:
        return item.mask(labels, frame, video.frames[frame], (video.height, video.width))
    except ValueError as error:
        raise InputError(
            video.id,
            str(error),
            "masks of this video's size",
            "label the frames that `export` wrote, at their size",
        ) from error


def _unmeasured(video: VideoRef, expression: str, frame: int) -> FrameQuality:
    """A row without figures."""
    no = math.nan
    name = video.frames[frame]
    return FrameQuality(video.id, expression, frame, name, no, no, no, no, no, no, 0.0, 0, "")
