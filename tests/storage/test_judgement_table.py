from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.judgements import JudgeAnswer, Judgement
from pipeline.types import Provenance, SampleKey
from storage.judgement_table import read_judgements, write_judgements


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = []
    for row in range(2):
        answers = (
            JudgeAnswer((4, 7), (2, 1), "1", (7,), 0.75),
            JudgeAnswer((4, 7), (1, 2), "I don't know", None, None),
            JudgeAnswer((4, 7), (1, 2), "0", (), None),
        )
        key = SampleKey("d", "s", "v", str(row))
        made.append(Judgement(key, 0.05, (4,), answers, Provenance("m", "r", "judge-1", 3)))
    path = tmp_path / "00000.parquet"
    write_judgements(path, made)
    assert read_judgements(path) == {("v", "0"): made[0], ("v", "1"): made[1]}
    write_judgements(path, [])
    assert read_judgements(path) == {}


def test_a_damaged_table_names_its_stage(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match="run judge again"):
        read_judgements(path)
    with pytest.raises(ValueError, match="expected one data set"):
        keys = [SampleKey(name, "s", "v", "0") for name in ("a", "b")]
        who = Provenance("", "", "", 0)
        write_judgements(path, [Judgement(key, 0.0, (), (), who) for key in keys])
