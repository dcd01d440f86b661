from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from storage.files.atomic import fresh_folder, partial_beside, replace_file, sweep
from tests.fakes.disk import Disk


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


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, disk: Disk) -> None:
    with replace_file(tmp_path / "deep" / "file") as file:
        file.write(b"x" * 100)
    (partial,) = {path for step, path in disk.steps if step == "rename"}
    assert disk.steps == [
        ("fsync 100 bytes", partial),
        ("rename", partial),
        ("fsync", tmp_path / "deep"),
    ]
    assert disk.renamed[partial] == tmp_path / "deep" / "file"


@pytest.mark.parametrize("flush", [False, True])
def test_a_folder_that_is_to_be_vouched_for_is_on_the_disk_first(
    tmp_path: Path, disk: Disk, flush: bool
) -> None:
    with fresh_folder(tmp_path / "store", flush=flush) as folder:
        (folder / "video").mkdir()
        (folder / "video" / "masks").write_text("x")
        (folder / "zarr.json").write_text("xy")
    *before, swapped, last = disk.steps
    places = {folder, folder / "video", folder / "video" / "masks", folder / "zarr.json"}
    assert {path for _, path in before} == (places if flush else set())
    assert swapped == ("rename", folder)
    assert last == ("fsync", tmp_path)


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


@pytest.mark.parametrize("leads", ["to a folder", "to a file", "nowhere", "in a circle"])
def test_a_link_is_replaced_and_never_written_through(tmp_path: Path, leads: str) -> None:
    target = tmp_path / "elsewhere"
    if leads == "to a folder":
        target.mkdir()
        (target / "kept").write_text("kept")
    elif leads == "to a file":
        target.write_text("kept")
    for number, writer in enumerate((replace_file, fresh_folder)):
        path = tmp_path / f"out{number}"
        path.symlink_to(path if leads == "in a circle" else target)
        with writer(path) as place:
            if isinstance(place, Path):
                (place / "x").write_text("new")
            else:
                place.write(b"new")
        assert not path.is_symlink()
        assert path.is_dir() if number else path.read_bytes() == b"new"
    if leads == "to a folder":
        assert [(item.name, item.read_text()) for item in target.iterdir()] == [("kept", "kept")]
    elif leads == "to a file":
        assert target.read_text() == "kept"
    assert not list(tmp_path.glob("*.partial"))
    assert {item.name for item in tmp_path.iterdir()} <= {"out0", "out1", "elsewhere"}


def test_sweep_removes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("x")
    partial_beside(tmp_path / "a").symlink_to(tmp_path / "kept")
    partial_beside(tmp_path / "b").symlink_to(tmp_path / "none")
    assert sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "x").exists()


def test_sweep_looks_as_deep_as_it_is_told(tmp_path: Path) -> None:
    for depth in range(1, 6):
        place = tmp_path.joinpath(*"abcde"[: depth - 1]) / "file"
        place.parent.mkdir(exist_ok=True)
        partial_beside(place).write_text("half")
    assert sweep(tmp_path) == 3
    assert sweep(tmp_path, depth=4) == 1
    assert sweep(tmp_path, depth=1) == 0


def test_parent_folders_are_made(tmp_path: Path) -> None:
    for number, writer in enumerate((replace_file, fresh_folder)):
        for _ in range(2):
            with writer(tmp_path / "a" / str(number) / "x"):
                pass
        assert (tmp_path / "a" / str(number) / "x").exists()
