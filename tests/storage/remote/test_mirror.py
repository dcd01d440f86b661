from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ObjectStoreError
from pipeline.store_urls import local_place
from storage.files.checksums import mark_files
from storage.remote.mirror import Mirror, mirror_of


@pytest.fixture
def mirror(store_url: str) -> Mirror:
    found = mirror_of(local_place(f"{store_url}/run"))
    assert found is not None
    return found


def write(mirror: Mirror, **files: str) -> dict[str, str]:
    """Writes files of a folder ``p`` locally. Returns their marks."""
    for name, text in files.items():
        path = mirror.folder / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return mark_files(mirror.folder, [mirror.folder / "p"])


def names(mirror: Mirror) -> list[str]:
    return sorted(entry.name for entry in mirror.objects.walk())


def test_a_folder_that_is_no_copy_has_no_mirror(tmp_path: Path) -> None:
    assert mirror_of(tmp_path) is None


def test_a_product_is_published_without_what_lay_there_before(mirror: Mirror) -> None:
    for name in ("p/old", "p/a", "p2", "q/other"):
        mirror.objects.put(name, b"old")
    files = write(mirror, a="new", b="more")
    mirror.publish(files, files, [mirror.folder / "p", mirror.folder / "p2"])
    assert names(mirror) == ["p/a", "p/b", "q/other"]
    assert mirror.objects.get("p/a")[0] == b"new"
    mirror.clear([mirror.folder / "p"])
    assert names(mirror) == ["q/other"]


def test_what_is_missing_is_fetched_and_checked(mirror: Mirror) -> None:
    files = write(mirror, a="one", b="two")
    mirror.publish(files, files)
    assert mirror.fetch(files) == 0
    (mirror.folder / "p" / "a").unlink()
    assert mirror.fetch(files) == 1
    assert (mirror.folder / "p" / "a").read_text() == "one"
    (mirror.folder / "p" / "b").unlink()
    mirror.objects.put("p/b", b"2!!")
    assert mirror.problem("p/a", files["p/a"]) is None
    assert mirror.problem("p/b", files["p/b"]) == "other bytes than were written"
    assert mirror.problem("p/c", files["p/b"]) == "missing"
    with pytest.raises(ObjectStoreError, match="p/b: other bytes than its receipt says"):
        mirror.fetch(files)
    assert not (mirror.folder / "p" / "b").exists()
    mirror.objects.delete(["p/b"])
    with pytest.raises(ObjectStoreError, match="p/b: missing"):
        mirror.fetch(files)


def test_a_folder_without_receipts_is_pushed_and_pulled(mirror: Mirror) -> None:
    write(mirror, a="one", b="two")
    mirror.objects.put(".lock.held", b"{}")
    mirror.push()
    assert names(mirror) == [".lock.held", "p/a", "p/b"]
    (mirror.folder / "p" / "b").unlink()
    mirror.objects.put("p/a", b"ONE")
    mirror.pull()
    assert [(mirror.folder / "p" / name).read_text() for name in "ab"] == ["ONE", "two"]
    # What is here alone stays; what the store had and has no more goes.
    write(mirror, c="mine")
    mirror.objects.delete(["p/b"])
    mirror.pull()
    assert sorted(path.name for path in (mirror.folder / "p").iterdir()) == ["a", "c"]
