from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from storage.files.atomic import fresh_folder, partial_beside, replace_file, sweep


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with replace_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with replace_file(path, "w") as file:
        file.write("é")
    assert path.read_bytes() == "é".encode()
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_content_and_leaves_no_partial(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replace_file(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_to_be_vouched_for_is_on_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def noted(descriptor: int) -> None:
        where = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append("taken its place" if where == tmp_path else where.name)

    monkeypatch.setattr(os, "fsync", noted)
    with fresh_folder(tmp_path / "store", flush=True) as folder:
        (folder / "video").mkdir()
        (folder / "video" / "masks").write_text("x")
        (folder / "zarr.json").write_text("x")
    assert sorted(flushed[:-1]) == sorted([folder.name, "video", "masks", "zarr.json"])
    assert flushed[-1] == "taken its place"


def test_a_folder_is_swapped_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for name in ("first", "second"):
        with fresh_folder(path) as folder:
            (folder / name).write_text("x")
    assert [child.name for child in path.iterdir()] == ["second"]
    with pytest.raises(RuntimeError), fresh_folder(path) as folder:
        raise RuntimeError
    assert [child.name for child in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_sweep_clears_what_a_killed_writer_left(tmp_path: Path) -> None:
    kept = tmp_path / "a" / "kept"
    kept.parent.mkdir()
    kept.write_text("x")
    partial_beside(kept).write_text("half")
    folder = partial_beside(tmp_path / "store.zarr")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "chunk.partial").write_text("half")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert sweep(tmp_path) == 2
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == [kept.parent, kept]
    assert sweep(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "written to")]
)
def test_a_full_or_read_only_disk_is_explained(tmp_path: Path, number: int, words: str) -> None:
    for writer in (replace_file, fresh_folder):
        with pytest.raises(StoreError, match=words), writer(tmp_path / "x"):
            raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replace_file(tmp_path / "x"):
        (tmp_path / "none").read_text()
