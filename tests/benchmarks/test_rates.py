"""Rates of the demo models, and what is made of seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from torch import nn

from benchmarks import rates
from benchmarks.rates import ENCODER, Work, flop_of_frame, main, measure, rows_of, twin_of
from stages.common.compilation import compile_in_place

CPU = torch.device("cpu")


@pytest.mark.slow
def test_every_part_of_the_demo_models_has_a_rate() -> None:
    about, rows = measure(CPU, frames=1, repeats=1)
    found = {row.what: row for row in rows}
    assert [(row.what, row.unit) for row in rows[1:]] == [
        ("segment, embed", "images/s"),
        (ENCODER, "images/s"),
        ("segment, decode", "prompts/s"),
        ("ground, embed", "images/s"),
        ("ground, transformer, joint=1", "pairs/s"),
        ("ground, transformer, joint=8", "pairs/s"),
    ]
    for row in rows:
        assert 0 < row.slowest <= row.rate <= row.fastest
        assert not row.compiled and row.gain is None and row.peak is None
    assert rows[0].share == 1
    for name in ("segment, embed", ENCODER):
        share, tflops = found[name].share, found[name].tflops
        assert share is not None and 0 < share < 1.5
        assert tflops == pytest.approx(found[name].rate * about["tflop_of_a_frame"])
    assert found["segment, decode"].share is None


def test_flop_of_the_demo_encoder_are_those_of_its_layers() -> None:
    cells, width, channels, window = 32 * 32, 96, 64, 8 * 8
    embedding = cells * 16 * 16 * 3 * width
    neck = cells * (width * channels + 9 * channels * channels)
    layers = cells * width * (3 * width + width + 2 * 4 * width)
    scores_and_sums = 2 * cells * window * width
    relative_positions = 2 * cells * 8 * width
    block = layers + scores_and_sums + relative_positions
    assert flop_of_frame("demo") == pytest.approx(2 * (embedding + neck + 4 * block), rel=1e-6)


def test_a_vit_h_takes_as_many_flop_as_its_size_says() -> None:
    """Products with weights alone, 32 blocks of 4096 cells; attention and padding come on top."""
    weights = 2 * 32 * 4096 * 12 * 1280**2
    assert weights < flop_of_frame("vit_h") < 1.25 * weights


def test_shares_are_of_the_best_product_and_gains_of_the_medians(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([2.0, 8.0, 4.0, 1.0, 10.0, 4.0, 4.0, 16.0, 5.0])

    class Preset:
        def __init__(self, device: torch.device) -> None: ...

        def __call__(self, work: Callable[[], Any]) -> tuple[float, Any]:
            return next(seconds), work()

    monkeypatch.setattr(rates, "Clock", Preset)
    calls: list[str] = []
    works = [
        Work("product", "products/s", 1, lambda: calls.append("product"), 10**12),
        Work("encoder", "images/s", 2, lambda: calls.append("plain"), 10**12),
        Work("encoder", "images/s", 2, lambda: calls.append("compiled"), 10**12, compiled=True),
    ]
    product, plain, compiled = rows_of(works, CPU, 3)
    assert calls == ["product", "plain", "compiled"] * 4
    assert (product.rate, product.fastest, product.share) == (0.5, 1, 0.5)
    assert (plain.rate, plain.tflops, plain.share, plain.gain) == (0.2, 0.2, 0.2, None)
    assert (plain.slowest, plain.fastest) == (0.125, 0.25)
    assert (compiled.rate, compiled.gain) == (0.5, 2.5)
    lines = rates.table_of([product, plain, compiled]).splitlines()
    assert {line.count("|") for line in lines} == {8}
    assert lines[3].startswith("| encoder | 0.2 images/s | 0.125 to 0.25 | 0.2 | 20% |  | ")
    assert lines[4].startswith(
        "| encoder, compiled | 0.5 images/s | 0.4 to 0.5 | 0.5 | 50% | 2.50 |"
    )


def test_a_twin_is_compiled_alone_and_has_the_same_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = twin_of(model)
    compile_in_place(twin[0])
    assert twin[0].weight is model[0].weight and twin[1].running_mean is model[1].running_mean
    assert twin[0] is not model[0] and model[0]._compiled_call_impl is None


def test_a_device_that_is_not_there_ends_with_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as end:
        main(device="cuda:99")
    assert end.value.exit_code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: device 'cuda:99': not on this machine")
    assert said.count("\n") == 1


def test_an_encoder_below_its_share_ends_with_1_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(device: str, model: rates.Model, *shares: float) -> bool:
        rows = [
            rates.Row(ENCODER, False, "images/s", 1, 1, 1, 1, share, None, 1, None)
            for share in shares
        ]
        monkeypatch.setattr(rates, "resolve_device", torch.device)
        monkeypatch.setattr(rates, "measure", lambda *_: ({}, rows))
        try:
            main(model, device=device)
        except typer.Exit as end:
            return end.exit_code == 1
        return False

    assert ends("cuda:0", "vit_h", 0.49)
    assert not ends("cuda:0", "vit_h", 0.49, 0.5)
    assert not ends("cuda:0", "demo", 0.1)
    assert not ends("cpu", "vit_h", 0.1)
