from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.types import Augmentation, Negative, Positive, Provenance, SampleKey
from storage.augmentation_file import (
    read_augmentation_file,
    sample_ids,
    write_augmentation_file,
)

ITEM = Augmentation(
    key=SampleKey("refytvos", "train", "0062f687f1", "0"),
    positives=(Positive("a dog", 1.0), Positive("the h\u00fcndchen", 0.8)),
    negatives=(Negative("a cat", "category"), Negative("a red dog", None)),
    provenance=Provenance("model", "r", "1", 3),
)


def test_augmentations_read_back(tmp_path: Path) -> None:
    path = tmp_path / "augmentations.json"
    other = replace(ITEM, key=replace(ITEM.key, expression="1"), negatives=())
    assert write_augmentation_file(path, [other, ITEM]) == 2
    got = read_augmentation_file(path, "refytvos", "train")
    assert set(got) == {ITEM.key, other.key}
    read = got[ITEM.key]
    assert (read.positives, read.negatives) == (ITEM.positives, ITEM.negatives)
    assert read.provenance.model == "file"
    assert len(read.provenance.revision) == 16


def test_the_file_is_what_wsrvos_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_augmentation_file(path, [ITEM])
    entry = json.loads(path.read_text(encoding="utf-8"))["ytvos:0062f687f1:0"]
    assert entry["positive_texts"] == ["a dog", "the h\u00fcndchen"]
    assert entry["positive_confidences"] == [1.0, 0.8]
    assert entry["negative_texts"] == ["a cat", "a red dog"]


def test_a_file_with_the_three_keys_alone_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    entry = {"positive_texts": ["a"], "positive_confidences": [1], "negative_texts": ["b"]}
    path.write_text(json.dumps({"ytvos:v:0": entry, "a2d:v:1:0": entry, "remark": 3}))
    got = read_augmentation_file(path, "shapes", "valid")
    assert list(got) == [SampleKey("shapes", "valid", "v", "0")]
    assert got[SampleKey("shapes", "valid", "v", "0")].negatives == (Negative("b", None),)


@pytest.mark.parametrize(
    ("dataset", "expression", "expected"),
    [
        ("a2d", "2", ["a2d:v:1:2", "a2d:v:11:2"]),
        ("jhmdb", "0", ["jhmdb:v:1", "jhmdb:v:11"]),
        ("mevis", "2", ["ytvos:v:2"]),
    ],
)
def test_sample_ids(tmp_path: Path, dataset: str, expression: str, expected: list[str]) -> None:
    item = replace(ITEM, key=SampleKey(dataset, "train", "v", expression))
    assert sample_ids(item.key, [1, 11]) == expected
    write_augmentation_file(tmp_path / "a.json", [item], {item.key: [1, 11]})
    assert list(read_augmentation_file(tmp_path / "a.json", dataset, "train")) == [item.key]


def test_a_sample_of_frames_needs_its_frames() -> None:
    with pytest.raises(ValueError, match="annotated frames"):
        sample_ids(SampleKey("a2d", "train", "v", "0"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positive_texts": []}, "0 positives"),
        ({"positive_confidences": [1.0]}, "2 positives with 1 confidences"),
        ({"positive_confidences": [1.0, 1.5]}, r"numbers in 0\.\.1"),
        ({"positive_confidences": [1.0, "high"]}, r"numbers in 0\.\.1"),
        ({"negative_texts": ["a", ""]}, "negative_texts of ytvos:0062f687f1:0"),
        ({"negative_texts": None}, "is missing"),
        ({"negative_kinds": ["colour", None]}, "'colour'"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "a.json"
    write_augmentation_file(path, [ITEM])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["ytvos:0062f687f1:0"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        read_augmentation_file(path, "refytvos", "train")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_augmentation_file(tmp_path / "none.json", "refytvos", "train")
