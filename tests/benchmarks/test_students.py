"""What the table of students takes for the same student, and for masks that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import students
from benchmarks.students import BOXES, WEAK, Row, key_of, masks_of
from flows.context import RunContext
from pipeline.config import RunConfig, load_config
from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, Receipt
from storage.run.ledger import Ledger
from tests.fakes.dataset import write_dataset


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    root = write_dataset(tmp_path / "data", 2)
    words = ["dataset.name=refytvos", f'dataset.root="{root}"', f'out="{tmp_path / "run"}"']
    made = load_config(None, words)
    for stage in ("augment", "ground", "segment", "rank"):
        Ledger(made.run_folder).commit(Receipt(stage, "00000", "f", ("clip00",), product="p"))
    return made


def redone(config: RunConfig, stage: str) -> None:
    receipt = Ledger(config.run_folder).receipt(stage, "00000")
    assert receipt is not None
    Ledger(config.run_folder).commit(replace(receipt, product="another"))


ROWS = {
    "run": Row({}),
    "boxes": Row(BOXES),
    "as it starts": Row({}, trained=False),
    "few": Row({}, "few"),
    "two steps": Row({}, "student"),
    "baseline": Row({}, "baseline"),
    "unranked": Row({}, "unranked"),
    "before": Row({}, before=BOXES),
    "other before": Row({}, before=WEAK),
}


def test_a_row_is_known_by_its_fields_its_seed_and_the_runs_products(config: RunConfig) -> None:
    keys = {(name, seed): key_of(config, ROWS[name], seed) for name in ROWS for seed in (0, 1)}
    assert len(set(keys.values())) == len(keys)
    assert key_of(config, Row(dict(BOXES)), 1) == keys["boxes", 1]
    redone(config, "segment")
    assert key_of(config, ROWS["run"], 0) == keys["run", 0]
    assert key_of(config, ROWS["unranked"], 0) != keys["unranked", 0]
    redone(config, "rank")
    assert not {key_of(config, row, 0) for row in ROWS.values()} & set(keys.values())


def test_masks_that_were_cut_off_are_not_there(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutOffError(Exception): ...

    asked: list[bool] = []

    def masks(_: RunConfig, kind: str) -> Iterator[tuple[str, list[str], list[PseudoMask]]]:
        reader = RunContext(config).reader()
        asked.append(cut)
        for number, video_id in enumerate(reader.video_ids()):
            if cut and number:
                raise CutOffError
            video = reader.video(video_id)
            found = reader.expressions(video_id)
            shape = len(video), video.height, video.width
            ones = np.ones(len(video), np.float32)
            yield (
                video_id,
                [item.text for item in found],
                [
                    PseudoMask(
                        item.key, PackedMasks.of(np.ones(shape)), ones, ones.astype(np.uint8), ""
                    )
                    for item in found
                ],
            )

    monkeypatch.setattr(students, "other_masks", masks)
    cut = True
    with pytest.raises(CutOffError):
        masks_of(config, "baseline", 0)
    cut = False
    for _ in range(2):
        assert masks_of(config, "baseline", 0).videos() == ["clip00", "clip01"]
    assert asked == [True, False], "made once"
    redone(config, "ground")
    masks_of(config, "baseline", 0)
    assert len(asked) == 3, "of boxes that are others"
