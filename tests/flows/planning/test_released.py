from dataclasses import replace
from pathlib import Path

from flows.planning.released import in_bytes, kept_and_loose, released_line
from pipeline.types import Receipt
from tests.flows.planning.test_plan import Book, finish, plan, states


def release(book: Book, *stages: str) -> None:
    for stage in stages:
        for shard in ("00000", "00001"):
            book.held[stage, shard] = replace(book.held[stage, shard], released=1000)


def gone(book: Book, tmp_path: Path) -> None:
    """Candidates and hypotheses are released, and their files are gone."""
    finish(book, tmp_path)
    release(book, "segment", "fuse")
    for stage in ("segment", "fuse"):
        for place in (tmp_path / "shapes-train" / stage).iterdir():
            place.unlink()


def test_what_was_released_is_not_made_again_while_nothing_upstream_changes(tmp_path: Path) -> None:
    book = Book()
    gone(book, tmp_path)
    made = plan(tmp_path, book=book)
    assert all(job.done for jobs in made.jobs.values() for job in jobs)
    assert not plan(tmp_path, "student.steps=7", book=book).pending("segment")
    assert "2 shards" in released_line(made)
    assert in_bytes(4000) in released_line(made)


def test_a_later_stage_makes_it_due_with_its_own_reason(tmp_path: Path) -> None:
    book = Book()
    gone(book, tmp_path)
    made = plan(tmp_path, "rank.threshold=0.6", book=book)
    both = {"00000", "00001"}
    due = states(made, of="due")
    assert {name: due.get(name) for name in ("segment", "fuse", "rank")} == dict.fromkeys(
        ("segment", "fuse", "rank"), both
    )
    assert {job.reason for job in made.jobs["segment"]} == {
        'candidates were released (keep="masks")'
    }
    assert {job.reason for job in made.jobs["fuse"]} == {'hypotheses were released (keep="masks")'}
    # Tracks are there. They are made anew only if the candidates come out different.
    assert states(made, of="waits")["track"] == both
    assert not made.pending("ground")


def test_a_stage_that_may_be_done_counts_as_one_that_needs_it(tmp_path: Path) -> None:
    book = Book()
    gone(book, tmp_path)
    del book.held["augment", "00000"]
    made = plan(tmp_path, book=book)
    assert states(made, of="due")["segment"] == {"00000"}
    assert states(made, of="due")["fuse"] == {"00000"}


def test_the_files_of_a_product_are_told_apart() -> None:
    files = {"track/00000.parquet": "10 a", "track/00000.zarr/zarr.json": "20 b"}
    receipt = Receipt("track", "00000", "x", ("a",), files=files)
    kept, loose = kept_and_loose(receipt)
    assert (list(kept), list(loose)) == (["track/00000.parquet"], ["track/00000.zarr/zarr.json"])
    assert kept_and_loose(replace(receipt, stage="ground"))[1] == {}
