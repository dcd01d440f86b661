import hashlib
from pathlib import Path

from storage.files.checksums import mark_file, mark_files, product_digest, walk_files


def test_a_mark_is_size_and_digest(tmp_path: Path) -> None:
    file = tmp_path / "a"
    content = bytes(range(256)) * 10_000
    file.write_bytes(content)
    seen: list[int] = []
    size, digest = mark_file(file, seen.append).split()
    assert int(size) == len(content) == sum(seen)
    assert digest == hashlib.blake2b(content, digest_size=16).hexdigest()
    assert max(seen) <= 1 << 20


def test_files_of_a_product_go_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "store" / "b").mkdir(parents=True)
    (tmp_path / "store" / "b" / "0").write_text("x")
    (tmp_path / "store" / "a").write_text("y")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "table").write_text("z")
    places = [tmp_path / name for name in ("store", "table", "missing")]
    marks = mark_files(tmp_path, places)
    assert list(marks) == ["store/a", "store/b/0", "table"]
    # A link is an entry of its own; what it leads to is not walked.
    assert list(walk_files(tmp_path / "link")) == [tmp_path / "link"]
    assert product_digest(marks) == product_digest(dict(reversed(marks.items())))
    assert product_digest(marks) != product_digest({**marks, "table": marks["store/a"]})
    assert product_digest({}) == ""
