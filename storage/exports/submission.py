"""Export to what the servers of Ref-YouTube-VOS and MeViS take: a zip of binary PNGs.

``Annotations/<video>/<expression>/<frame>.png``, 8-bit grey, 0 or 255, every listed frame at its
original size; MeViS without the top folder. All samples of the split are in it: one without masks
goes in empty, with a note, as a server rejects what is incomplete.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from storage.exports.source import ExportReport, ExportSource
from storage.exports.streamed import ZipSink
from storage.files.atomic import replace_file


def export_submission(source: ExportSource, out: Path) -> ExportReport:
    """Writes the zip.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
        InputError: a video of the split cannot be read, or a frame's name is no plain one.
    """
    report, store, reader = ExportReport(), source.store, source.reader
    if not store.videos():
        raise StoreError(
            f"{store.path}: no masks; expected those of a run; make them with `pseudolabels run`"
        )
    with replace_file(out) as file, zipfile.ZipFile(file, "w") as archive:
        sink = ZipSink(archive, reader.name)
        for video_id in reader.video_ids():
            video = reader.video(video_id)
            has = set(store.expressions(video_id)) if video_id in store else set()
            if has:
                source.check_frames(video)
            empty = np.zeros((video.height, video.width), np.bool_)
            with sink.video(video_id) as add:
                for expression in reader.expressions(video_id):
                    name = expression.key.expression
                    masked = name in has
                    if not masked:
                        report.notes.append(f"{video_id} {name} has no masks; it goes in empty")
                    for frame, frame_name in enumerate(video.frames):
                        mask = source.mask(video_id, name, frame)[0] if masked else empty
                        add(name, frame_name, mask)
                        report.add("frames")
                    report.add("samples")
            report.add("videos")
    return report
