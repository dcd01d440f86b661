"""Stage `ground` with a screening: which sentences are grounded in which frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.types import Boxes
from storage.run.ledger import Ledger
from storage.tables import read_augmentations, read_ground
from tests.fakes.stages import FakeGrounder
from tests.flows.conftest import Site, finish


class Watched(FakeGrounder):
    """Notes the mean brightness of a frame's corner and the sentences that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def ground(self, embedding: Any, texts: Sequence[str]) -> list[Boxes]:
        self.asked += [(len(self.asked), tuple(texts)) for _ in embedding]
        return super().ground(embedding, texts)


def labelled(folder: Path, *words: str) -> tuple[Site, Watched]:
    made, grounder = Site(folder), Watched()
    plain = made.config
    made.config = lambda *more: plain(*words, *more)  # type: ignore[method-assign]
    finish(made, grounder=lambda config, device: grounder)
    return made, grounder


@pytest.mark.parametrize("batch", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 8))])
def test_negatives_that_tell_nothing_are_left_out_after_the_screening(
    tmp_path: Path, batch: int
) -> None:
    words = ("augment.negatives=40", f"ground.batch_frames={batch}", "ground.joint=4")
    whole, every = labelled(tmp_path / "whole", *words)
    some, screened = labelled(tmp_path / "some", *words, "ground.screen=2")
    counts = [
        {
            name: sum(item.counts.get(name, 0) for item in Ledger(site.folder).receipts("ground"))
            for name in ("texts", "texts left out", "passes")
        }
        for site in (whole, some)
    ]
    assert counts[0]["texts"] == counts[1]["texts"]
    assert counts[0]["texts left out"] == 0
    assert counts[1]["texts left out"] > 0
    assert (
        counts[1]["passes"]
        < counts[0]["passes"]
        == sum(-(-len(texts) // 4) for _, texts in every.asked)
    )
    # Of five frames of each video, the two of the screening come first.
    lengths = [len(texts) for _, texts in screened.asked[:5]]
    assert lengths[0] == lengths[1] > lengths[2] == lengths[3] == lengths[4]
    for site in (whole, some):
        table = site.folder / "ground" / "00000.parquet"
        texts, boxes = read_ground(table, "clip00")
        assert len(boxes) == 5
        red = texts.index("the red square")
        places = [frame.xyxy[frame.text == red][0, 0] for frame in boxes]
        assert places == sorted(places), "frames are in the order of the video"
        positives = {
            item.text
            for each in read_augmentations(site.folder / "augment" / "00000.parquet")["clip00"]
            for item in each.positives
        }
        for frame in boxes[:4]:
            assert {texts[row] for row in frame.text} >= {p for p in positives if "red" in p}


def test_without_a_screening_fingerprints_are_as_before(tmp_path: Path) -> None:
    from flows.planning.fingerprints import ground_basis

    site = Site(tmp_path)
    basis = ground_basis(site.config(), lambda name: "w")
    assert "screen" not in basis["config"]
    assert ground_basis(site.config("ground.screen=2"), lambda name: "w") != basis
