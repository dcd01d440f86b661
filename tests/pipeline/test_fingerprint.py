from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FuseConfig
from pipeline.fingerprint import canonical_json, digest, file_digest
from pipeline.types import Status

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda x: abs(x) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, int], random: object) -> None:
    items = list(value.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert digest(dict(items)) == digest(value)


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[float, ...]


def test_values_of_the_project_have_a_plain_form() -> None:
    value = {"a": Point(1, (0.5,)), "b": Status.ABSENT, "c": PurePosixPath("x/y"), "d": {3, 1, 2}}
    assert canonical_json(value) == '{"a":{"x":1,"y":[0.5]},"b":2,"c":"x/y","d":[1,2,3]}'
    assert canonical_json(np.float32(0.5)) == "0.5"
    assert canonical_json(FuseConfig()) == canonical_json(FuseConfig().model_dump())


def test_a_golden_digest_guards_the_form() -> None:
    value = {"stage": "fuse", "threshold": 0.4, "videos": ["b", "a"], "é": None, "n": 1 << 60}
    assert digest(value) == "0f2f0c2c566401e1080a6518a572348f904017ad3c4b168acfdda15b4b3a0cbd"


def test_a_change_of_type_changes_the_digest() -> None:
    assert len({digest(1), digest(1.0), digest("1"), digest(True), digest([1])}) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": -float("inf")}])
def test_a_float_that_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, object(), b"bytes"])
def test_a_value_without_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_file_digest_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(path) == expected == file_digest(str(path))
