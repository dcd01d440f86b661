from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import ObjectStoreError
from storage.remote import objects as objects_module
from storage.remote.objects import ConflictError, Objects

NAMES = ["a b/c", "x/%id%/d", "é/ü", "w/[1]*?.txt", "h/#1", "p/a+b", "q/a&b=c", "s/a%20b"]


def test_objects_read_back_whatever_their_names(store_url: str) -> None:
    objects = Objects(store_url)
    for name in NAMES:
        objects.put(name, name.encode())
    assert {entry.name for entry in objects.walk()} == set(NAMES)
    assert [objects.get(name)[0].decode() for name in NAMES] == NAMES
    assert [b"".join(objects.chunks(name)).decode() for name in NAMES] == NAMES
    there, folders = objects.level()
    assert (there, folders) == ([], {name.partition("/")[0] for name in NAMES})
    assert [entry.name for entry in objects.level("a b")[0]] == ["a b/c"]
    objects.delete([*NAMES, "not/there"])
    assert list(objects.walk()) == []
    with pytest.raises(FileNotFoundError, match="a b/c"):
        objects.get("a b/c")


def test_a_large_file_goes_in_parts(store_url: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000
    path = tmp_path / "large"
    path.write_bytes(content)
    objects = Objects(store_url)
    objects.put("large", path)
    assert objects.look("large").size == len(content)
    assert b"".join(objects.chunks("large")) == content


def test_one_of_two_creates_and_an_update_needs_the_last_version(store_url: str) -> None:
    objects = Objects(store_url)
    first = objects.create("lock", b"1")
    with pytest.raises(ConflictError):
        objects.create("lock", b"2")
    second = objects.update("lock", b"3", first)
    for late in (first, first):
        with pytest.raises(ConflictError):
            objects.update("lock", b"4", late)
    assert objects.get("lock") == (b"3", second)
    objects.delete(["lock"])
    with pytest.raises(ConflictError):
        objects.update("lock", b"5", second)


def test_a_forked_process_is_told_instead_of_left_to_hang(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects(store_url)
    monkeypatch.setattr(objects_module, "_USER", [os.getpid() + 1])
    with pytest.raises(ObjectStoreError, match=r"x: asked for by a forked process.*spawn"):
        objects.get("x")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "refuses access.*SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "refuses access"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "does not answer"),
    ],
)
def test_what_a_store_refuses_is_said_in_a_line(
    store_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(objects_module, "RETRIES", {"max_retries": 1})
    objects_module._open.cache_clear()
    try:
        with pytest.raises(ObjectStoreError, match=f"{store_url}/x: .*{said}") as caught:
            Objects(store_url).put("x", b"1")
        with pytest.raises(ObjectStoreError, match=f"{store_url}: .*{said}"):
            list(Objects(store_url).walk())
    finally:
        objects_module._open.cache_clear()
    assert "\n" not in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
