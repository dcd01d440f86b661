from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import CheckpointError
from stages.common.tokenizers import load_tokenizer
from stages.demo.tokenizer import build_tokenizer

load = partial(load_tokenizer, expected="a tokenizer", remedy="take another")


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    content["model"]["vocab"] = special
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"reads plain words .*as unknown"):
        load(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*no tokenizer"):
        load(tmp_path)


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*no tokenizer"):
        load(tmp_path)


def test_the_demo_tokenizer_knows_its_words(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    ids = load(tmp_path)("the red circle", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
