"""The prepared command runs through with the demo models, and keeps what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Figure, measure, table_of

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_run_and_a_student_are_measured() -> None:
    found = {figure.what: figure for figure in gpu.run_figures(CPU, True)}
    for stage in ("ground", "segment"):
        assert 0 < found[f"{stage}, share of its time in the model"].value <= 100
    assert found["a step of SimRVOS"].value > 0


@pytest.mark.slow
def test_every_part_gives_figures(tmp_path: Path) -> None:
    result = measure(CPU, True, 10, tmp_path / "gpu.json")
    assert {name: part.get("failed") for name, part in result["parts"].items()} == {
        "rates": None,
        "against the packages' predictors": None,
        "a run and a student": None,
    }
    assert json.loads((tmp_path / "gpu.json").read_text()) == result
    table = table_of(result)
    for what in (
        "segment, encoder alone, share of the matmul rate",
        "ground, transformer, joint=8",
        "segment, decode",
        "both stages, 1 positive, joint",
        "ground, share of its time in the model",
        "a step of SimRVOS",
    ):
        assert f"| {what} |" in table


def test_what_fails_or_has_no_time_is_said_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[Figure]:
        raise RuntimeError("out of memory")

    def parts(device: torch.device, small: bool) -> list[gpu.Part]:
        return [("bad", broken), ("good", lambda: [Figure("rate", 2.0, "images/s")])]

    monkeypatch.setattr(gpu, "parts_of", parts)
    result = measure(CPU, True, 10, tmp_path / "gpu.json")
    assert table_of(result).splitlines()[2:] == [
        "| bad | | not measured (RuntimeError: out of memory) |",
        "| good | rate | 2 images/s |",
    ]
    late = measure(CPU, True, 0, tmp_path / "late.json")
    assert "| good | | not measured (0 minutes were over) |" in table_of(late)


def test_a_device_that_is_not_there_ends_with_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(gpu.typer.Exit) as end:
        gpu.main(device="cuda:99")
    assert end.value.exit_code == 2
    assert capsys.readouterr().err.count("\n") == 1
