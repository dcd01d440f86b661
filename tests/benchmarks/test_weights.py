import pytest

from benchmarks.weights import Frame, report
from pipeline.errors import PseudoLabelError


def test_weights_are_reported_by_name() -> None:
    found = [
        Frame(overlap, {"weight of rank": now, "without rivals": before})
        for overlap, now, before in ((0.9, 0.8, 0.5), (0.7, 0.6, 0.6), (0.1, 0.3, 0.7))
    ]
    lines = report(found)
    assert lines[0] == "3 present frames, mean J 0.567, 33.3% with J < 0.5"
    assert "weight of rank   Spearman 1.000  AUROC 1.000" in lines[1]
    assert "without rivals   Spearman -1.000  AUROC 0.000" in lines[2]
    assert "AUROC undefined" in report(found[:2])[1]


def test_a_run_without_frames_to_measure_is_said() -> None:
    with pytest.raises(PseudoLabelError, match="no frame is present and has ground truth"):
        report([])
