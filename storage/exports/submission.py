"""Export to what the servers of Ref-YouTube-VOS and MeViS take: a zip of binary PNGs.

``Annotations/<video>/<expression>/<frame>.png``, 8-bit grey, 0 or 255, every listed frame at its
original size; MeViS without the top folder. All samples of the split are in it: one without masks
goes in empty, with a note, as a server turns down what is incomplete.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from storage.atomic import replace_file
from storage.exports.source import ExportReport, ExportSource
from storage.images import png_of

WITHOUT_TOP_FOLDER = frozenset({"mevis"})


def export_submission(source: ExportSource, out: Path) -> ExportReport:
    """Writes the zip.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
        InputError: a video of the split cannot be read.
    """
    report, store, reader = ExportReport(), source.store, source.reader
    if not store.videos():
        raise StoreError(
            f"{store.path}: no masks; expected those of a run; make them with `pseudolabels run`"
        )
    top = "" if reader.name in WITHOUT_TOP_FOLDER else "Annotations/"
    with replace_file(out) as file, zipfile.ZipFile(file, "w") as archive:
        for video_id in reader.video_ids():
            video = reader.video(video_id)
            has = set(store.expressions(video_id)) if video_id in store else set()
            if has:
                source.check_frames(video)
            empty = png_of(np.zeros((video.height, video.width), np.bool_))
            for expression in reader.expressions(video_id):
                name = expression.key.expression
                if name not in has:
                    report.notes.append(f"{video_id} {name} has no masks; it goes in empty")
                for frame, frame_name in enumerate(video.frames):
                    mask = source.mask(video_id, name, frame)[0] if name in has else None
                    content = empty if mask is None or not mask.any() else png_of(mask)
                    # A fixed time: equal masks make equal files. PNGs are compressed already.
                    place = zipfile.ZipInfo(f"{top}{video_id}/{name}/{frame_name}.png")
                    archive.writestr(place, content)
                    report.add("frames")
                report.add("samples")
            report.add("videos")
    return report
