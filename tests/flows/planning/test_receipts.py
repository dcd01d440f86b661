from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.planning.plan import Job
from flows.planning.receipts import Outcome, receipted
from flows.planning.run_paths import RunPaths
from flows.planning.shards import Shard
from flows.planning.stages import SHARD_STAGES
from pipeline.types import Receipt
from storage.run.ledger import Ledger


def test_a_receipt_is_withdrawn_before_its_product_is_touched_and_written_after(
    tmp_path: Path,
) -> None:
    paths, ledger = RunPaths(tmp_path), Ledger(tmp_path)
    ledger.commit(Receipt("augment", "00000", "old", ("clip",)))
    with pytest.raises(RuntimeError), _work(paths):
        assert ledger.receipt("augment", "00000") is None
        raise RuntimeError("killed")
    assert ledger.receipt("augment", "00000") is None
    with _work(paths) as work:
        product = paths.part("augment", "00000")
        product.parent.mkdir()
        product.write_text("new")
        work.counts["videos"] = 1
        assert ledger.receipt("augment", "00000") is None
    found = ledger.receipt("augment", "00000")
    assert found is not None
    assert list(found.files) == ["augment/00000.parquet"]


@contextmanager
def _work(paths: RunPaths) -> Iterator[Outcome]:
    outcome = Outcome()
    with receipted(paths, Job("augment", Shard("00000", ("clip",)), "new"), outcome, SHARD_STAGES):
        yield outcome
