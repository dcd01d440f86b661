from benchmarks.weights import Frame, report


def test_both_weights_are_reported() -> None:
    found = [Frame(0.9, 0.8, 0.5), Frame(0.7, 0.6, 0.6), Frame(0.1, 0.3, 0.7)]
    lines = report(found)
    assert lines[0] == "3 present frames, 33.3% with J < 0.5"
    assert "weight of rank  Spearman 1.000  AUROC 1.000" in lines[1]
    assert "without rivals  Spearman -1.000  AUROC 0.000" in lines[2]
