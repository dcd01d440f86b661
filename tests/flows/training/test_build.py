"""Which split a student predicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.context import RunContext
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.storage.datasets import trees


def shop_of(name: str, root: Path, split: str = "train") -> RunContext:
    words = [f"dataset.name={name}", f"dataset.root={str(root)!r}", f"dataset.split={split}"]
    return RunContext(load_config(None, words))


def test_the_valid_split_is_predicted_where_there_is_one(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path)
    assert shop_of("refytvos", root).prediction_split() == "train"
    trees.refytvos(tmp_path, "valid")
    assert shop_of("refytvos", root).prediction_split() == "valid"


@pytest.mark.parametrize(
    ("name", "tree", "split"),
    [
        ("jhmdb", trees.jhmdb, "test"),
        ("mevis", trees.mevis, "train"),
        ("visor", trees.visor, "val"),
    ],
)
def test_a_data_set_without_a_valid_split_predicts_the_labelled_one(
    tmp_path: Path, name: str, tree: Callable[[Path], Path], split: str
) -> None:
    assert shop_of(name, tree(tmp_path / name), split).prediction_split() == split


def test_the_test_split_of_a2d_is_predicted_after_training_on_the_other(tmp_path: Path) -> None:
    assert shop_of("a2d", trees.a2d(tmp_path / "a2d")).prediction_split() == "test"


def test_a_damaged_valid_split_is_no_reason_to_predict_what_was_trained_on(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path)
    trees.refytvos(tmp_path, "valid")
    index = root / "meta_expressions" / "valid" / "meta_expressions.json"
    index.write_text(index.read_text()[:-9])
    with pytest.raises(InputError, match=r"valid/meta_expressions\.json: malformed JSON"):
        shop_of("refytvos", root).prediction_split()
