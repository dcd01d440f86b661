import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents, Problem
from flows.integrity.leftovers import partials_of_run, partials_of_student
from flows.integrity.repair import repair
from flows.integrity.verify import check_idle, verify
from flows.planning.run_paths import SHARD_STAGES
from pipeline.errors import InputError, RunLockedError
from pipeline.types import Failure
from storage.arrays.masks import MaskStore
from storage.files.atomic import name_of_partial, partial_beside
from storage.files.checksums import mark_file, product_digest
from storage.run.layout import known_layout, read_layout
from storage.run.ledger import Ledger
from storage.run.lock import RunLock
from tests.flows.conftest import Site


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Site:
    """A finished run; tests work on copies."""
    site = Site(tmp_path_factory.mktemp("whole"))
    site.run()
    return site


@pytest.fixture
def run(whole: Site, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.folder, tmp_path / whole.folder.name))


def problems(folder: Path) -> list[Problem]:
    return list(verify(folder, Contents()))


def files_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]


def one_of_each_kind(folder: Path) -> list[Path]:
    """A file for every name in every place that differs by more than ids."""
    kinds = {(path.relative_to(folder).parts[:2], path.name): path for path in files_of(folder)}
    found = {
        (name if not name[0].isdigit() else "", parts): p for (parts, name), p in kinds.items()
    }
    return list(found.values())


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


def test_a_finished_run_is_as_it_was_written(run: Path) -> None:
    read: list[int] = []
    found = Contents()
    assert list(verify(run, found, read.append)) == []
    assert found.size == sum(read)
    # All that lies there is looked at.
    ledger = {path for path in files_of(run) if path.is_relative_to(run / "ledger")}
    assert found.files == len(files_of(run)) - len(ledger) - 1


@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
def test_one_flipped_bit_is_found_in_every_file(run: Path, place: float) -> None:
    paths = one_of_each_kind(run)
    assert len(paths) > 25
    for path in paths:
        before = path.read_bytes()
        flip(path, place)
        assert {problem.path for problem in problems(run)} == {path}, path
        path.write_bytes(before)
    assert problems(run) == []


def test_a_file_cut_short_or_gone_or_added_is_found(run: Path) -> None:
    for path in one_of_each_kind(run):
        before = path.read_bytes()
        path.write_bytes(before[:-1])
        assert path in {problem.path for problem in problems(run)}, path
        path.unlink()
        if path.parent.name not in ("ledger", "sources"):
            # Without its receipt, a product is what is wrong. Digests are taken anew.
            assert problems(run), path
        path.write_bytes(before)
    (run / "fuse" / "00000.zarr" / "more").write_text("x")
    [problem] = problems(run)
    assert problem.path.name == "more"
    assert (problem.stage, problem.shard) == ("fuse", "00000")


def leftovers(run: Path) -> None:
    (run / "ground" / "00007.parquet").write_text("x")
    shutil.copytree(run / "pseudomasks.zarr" / "clip00", run / "pseudomasks.zarr" / "other")
    (run / "fuse" / ".00000.zarr.abc.partial").mkdir()
    Ledger(run).withdraw("rank", "00001")


def test_what_has_no_receipt_is_found_and_removed(run: Path) -> None:
    leftovers(run)
    assert {problem.path.relative_to(run).as_posix() for problem in problems(run)} == {
        "ground/00007.parquet",
        "rank/00001.parquet",
        "pseudomasks.zarr/other",
        "pseudomasks.zarr/clip02",
        "pseudomasks.zarr/clip03",
        "fuse/.00000.zarr.abc.partial",
    }
    done = repair(run, Contents())
    assert done.undone == ()
    assert len(done.removed) == 6
    assert problems(run) == []
    assert MaskStore(run / "pseudomasks.zarr").videos() == ["clip00", "clip01"]


def test_a_receipt_that_is_not_of_its_place_or_of_no_shard_is_found(run: Path) -> None:
    folder = run / "ledger" / "fuse"
    shutil.copy(folder / "00000.json", folder / "00009.json")
    [problem] = problems(run)
    assert "lies at fuse/00009" in problem.what
    repair(run, Contents())
    receipt = Ledger(run).receipt("rank", "00000")
    assert receipt is not None
    Ledger(run).commit(replace(receipt, shard="00009"))
    [problem] = problems(run)
    assert "not laid out" in problem.what
    # Its masks are those of another shard by now: they stay.
    repair(run, Contents())
    assert problems(run) == []
    assert len(MaskStore(run / "pseudomasks.zarr").videos()) == 4


def test_a_layout_that_is_gone_is_found_and_made_anew(run: Path) -> None:
    before = read_layout(run)
    (run / "ledger" / "layout.json").unlink()
    [problem] = problems(run)
    assert (problem.path.name, problem.what.split(";")[0]) == ("layout.json", "missing")
    assert known_layout(run, SHARD_STAGES) == before
    repair(run, Contents())
    assert (problems(run), read_layout(run)) == ([], before)


@pytest.mark.parametrize("text", ["", "seed = 1\n"])
def test_a_configuration_without_its_checksum_is_found(run: Path, text: str) -> None:
    (run / "config.toml").write_text(text)
    [problem] = problems(run)
    assert "checksum is gone" in problem.what


def test_what_is_foreign_is_found_and_left(run: Path) -> None:
    places = ["notes.txt", ".DS_Store", "ledger/more.json", "ledger/fuse/notes.txt", "ledger/old"]
    for name in places[:-1]:
        (run / name).write_text("mine")
    (run / "ledger" / "old").mkdir()
    (run / ".masks.json.0123456789ab.partial").write_text("an export that goes on")
    found = problems(run)
    assert {p.path.relative_to(run).as_posix() for p in found} == {
        *places,
        ".masks.json.0123456789ab.partial",
    }
    done = repair(run, Contents())
    assert (done.undone, done.removed) == ((), ())
    assert all((run / name).exists() for name in places)


def test_folders_and_links_that_no_receipt_knows_are_found(run: Path, tmp_path: Path) -> None:
    (run / "fuse" / "00000.zarr" / "empty").mkdir()
    (run / "pseudomasks.zarr" / "clip02" / "elsewhere").symlink_to(tmp_path)
    table = run / "rank" / "00000.parquet"
    table.rename(tmp_path / "table")
    table.symlink_to(tmp_path / "table")
    found = {
        (p.path.relative_to(run).as_posix(), p.what): (p.stage, p.shard) for p in problems(run)
    }
    assert found == {
        ("fuse/00000.zarr/empty", "a folder that its receipt does not know"): ("fuse", "00000"),
        ("pseudomasks.zarr/clip02/elsewhere", "a link that its receipt does not know"): (
            "rank",
            "00001",
        ),
        ("rank/00000.parquet", "a symbolic link; expected a file"): ("rank", "00000"),
    }
    repair(run, Contents())
    assert (problems(run), (tmp_path / "table").is_file()) == ([], True)


def test_what_a_student_in_training_has_in_hand_is_left(run: Path) -> None:
    student = run / "students" / "busy"
    student.mkdir(parents=True)
    partial = partial_beside(student / "checkpoint.pt")
    partial.write_text("half")
    other = partial_beside(run / "students" / "done" / "checkpoint.pt")
    other.parent.mkdir()
    other.write_text("half")
    with RunLock(student):
        assert [p.path for p in problems(run)] == [other]
        assert repair(run, Contents()).removed == (other,)
        assert list(partials_of_run(run)) == []
    assert partial.exists()
    assert repair(run, Contents()).removed == (partial,)


def test_the_partials_of_a_run_are_those_of_its_own_products(run: Path) -> None:
    own = [
        partial_beside(run / name)
        for name in ("config.toml", "ledger/fuse/00000.json", "pseudomasks.zarr/clip00")
    ]
    own.append(partial_beside(run / "student" / "predictions.zarr" / "clip"))
    student = run / "students" / "a"
    others = [partial_beside(run / name) for name in ("masks.json", ".lock.held")]
    others += [partial_beside(student / name) for name in ("checkpoint.pt", "labels.zip")]
    for path in (*own, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert set(partials_of_run(run)) == set(own)
    assert [name_of_partial(path) for path in partials_of_student(student)] == ["checkpoint.pt"]


def test_only_the_folder_of_an_idle_run_is_verified(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of its runs: refytvos-train"):
        problems(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        problems(tmp_path / "missing")
    check_idle(run)
    with RunLock(run), pytest.raises(RunLockedError, match=r"process \d+ on "):
        check_idle(run)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        ({"augment/00000.parquet": cut}, {("augment", "00000")}),
        ({"ground/00001.parquet": lambda path: flip(path, 0.5)}, {("ground", "00001")}),
        ({"segment/00000.zarr/clip01/logits/zarr.json": Path.unlink}, {("segment", "00000")}),
        ({"pseudomasks.zarr/clip02/weight/zarr.json": cut}, {("rank", "00001")}),
        ({"rank/00000.parquet": cut}, {("rank", "00000")}),
        ({"quality.parquet": cut}, {("merge", "all")}),
        ({"pseudomasks.zarr/zarr.json": lambda path: flip(path, 0.5)}, {("merge", "all")}),
        ({"metrics.json": cut}, {("evaluate", "all")}),
        ({"report/index.html": cut}, {("report", "all")}),
        ({"ledger/fuse/00001.json": lambda path: flip(path, 0.5)}, {("fuse", "00001")}),
        ({"ledger/layout.json": cut}, set()),
        ({"config.toml": cut}, set()),
        ({"ledger/weights.json": cut}, set()),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_undone_and_just_that_is_done_again(
    whole: Site, damage: dict[str, Callable[[Path], None]], again: set[tuple[str, str]]
) -> None:
    before = content_digest(whole.folder)
    for name, work in damage.items():
        work(whole.folder / name)
    assert repair(whole.folder, Contents()).problems
    assert [p for p in problems(whole.folder) if p.path.name != "config.toml"] == []
    assert {(job.stage, job.shard.name) for job in whole.run().pending()} == again
    assert problems(whole.folder) == []
    assert content_digest(whole.folder) == before


def test_a_note_of_a_failure_is_no_damage_unless_it_cannot_be_read(run: Path) -> None:
    ledger = Ledger(run)
    ledger.fail(Failure("fuse", "00009", "abc", "RuntimeError: out of luck"))
    assert problems(run) == []
    flip(ledger.failure_path("fuse", "00009"), 0.4)
    [found] = problems(run)
    assert found.what.startswith("unreadable note of a failure")


def test_candidates_of_followed_tracks_belong_to_the_run(run: Path) -> None:
    ledger = Ledger(run)
    receipt = ledger.receipt("track", "00000")
    assert receipt is not None
    boxes = run / "track" / "00000.boxes.parquet"
    boxes.write_bytes(b"boxes")
    files = {**receipt.files, "track/00000.boxes.parquet": mark_file(boxes)}
    ledger.commit(replace(receipt, files=files, product=product_digest(files)))
    assert problems(run) == []
