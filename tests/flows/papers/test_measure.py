"""What tables take for the same student, and for masks that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.context import RunContext
from flows.papers import other_masks
from flows.papers.measure import Bench
from flows.papers.other_masks import FirstVideos, masks_of
from flows.papers.rows import Row
from flows.papers.tables import BOXES, SIMRVOS, WEAK
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from pipeline.packed_masks import PackedMasks
from pipeline.types import PseudoMask, Receipt
from storage.run.ledger import Ledger
from tests.fakes.dataset import write_dataset


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    root = write_dataset(tmp_path / "data", 2)
    words = ["dataset.name=refytvos", f'dataset.root="{root}"', f'out="{tmp_path / "run"}"']
    made = load_config(None, [*words, "student.model=simrvos"])
    for stage in ("augment", "ground", "segment", "rank"):
        Ledger(made.run_folder).commit(Receipt(stage, "00000", "f", ("clip00",), product="p"))
    return made


@pytest.fixture
def bench(config: RunConfig, tmp_path: Path) -> Bench:
    return Bench(lambda model: config, RunContext(config).reader(), tmp_path / "papers")


def redone(config: RunConfig, stage: str) -> None:
    receipt = Ledger(config.run_folder).receipt(stage, "00000")
    assert receipt is not None
    Ledger(config.run_folder).commit(replace(receipt, product="another"))


ROWS = {
    "run": Row(SIMRVOS),
    "boxes": Row(BOXES),
    "as it starts": Row(SIMRVOS, trained=False),
    "few": Row(SIMRVOS, "few"),
    "two steps": Row(SIMRVOS, "student", teacher=WEAK),
    "two steps of boxes": Row(SIMRVOS, "student", teacher=BOXES),
    "baseline": Row(SIMRVOS, "baseline"),
    "unranked": Row(SIMRVOS, "unranked"),
    "before": Row(SIMRVOS, before=BOXES),
    "other before": Row(SIMRVOS, before=WEAK),
}


def test_a_row_is_known_by_its_fields_its_seed_and_the_runs_products(
    config: RunConfig, bench: Bench
) -> None:
    keys = {(name, seed): bench.key(ROWS[name], seed) for name in ROWS for seed in (0, 1)}
    assert len(set(keys.values())) == len(keys)
    assert bench.key(Row(dict(BOXES)), 1) == keys["boxes", 1]
    redone(config, "segment")
    assert bench.key(ROWS["run"], 0) == keys["run", 0]
    assert bench.key(ROWS["unranked"], 0) != keys["unranked", 0]
    redone(config, "rank")
    assert not {bench.key(row, 0) for row in ROWS.values()} & set(keys.values())


def test_rows_that_need_the_runs_masks_say_so_before_anything_is_trained(
    config: RunConfig, bench: Bench, tmp_path: Path
) -> None:
    bench.check({name: ROWS[name] for name in ("boxes", "as it starts", "two steps")})
    for name in ("run", "few", "baseline"):
        with pytest.raises(ConfigError, match=f"no masks, which the row '{name}' learns from"):
            bench.check({"boxes": ROWS["boxes"], name: ROWS[name]})
    text = Row({"model": "wsrvos", "supervision": "text"})
    bare = config.model_copy(update={"out": tmp_path / "bare"})
    bench = Bench(lambda model: bare, bench.valid, bench.folder)
    with pytest.raises(ConfigError, match="no sentences"):
        bench.check({"text alone": text})


def test_masks_that_were_cut_off_are_not_there(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(other_masks, "other_masks", masks)
    folder = tmp_path / "papers"
    cut = True
    with pytest.raises(CutOffError):
        masks_of(config, "baseline", folder)
    cut = False
    for _ in range(2):
        assert masks_of(config, "baseline", folder).videos() == ["clip00", "clip01"]
    assert asked == [True, False], "made once"
    redone(config, "ground")
    masks_of(config, "baseline", folder)
    assert len(asked) == 3, "of boxes that are others"
    made = next(folder.glob("baseline-*.zarr"))
    assert FirstVideos(made, 1).videos() == ["clip00"]
