from __future__ import annotations

import math

from flows.report.gather import Quality, _add_row, new_histograms
from pipeline.types import FrameQuality, Status


def test_an_absent_frame_does_not_count_as_kept() -> None:
    found = Quality(new_histograms())
    for frame, status in enumerate(Status):
        figures = (0.5, 0.5, 0.5, 0.5, math.nan, 0.0, 0.5)
        row = FrameQuality("dog", "0", frame, f"{frame:05d}", *figures, int(status), "")
        _add_row(found, row, False)
    weights = found.histograms[0]
    assert (sum(weights.kept), sum(weights.absent), sum(weights.dropped)) == (1, 1, 1)
