import re
from pathlib import Path

import pytest

import stages
from flows.shards import STAGE_VERSIONS, Plan, WeightDigests, make_plan, make_shards
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError, InputError
from pipeline.types import Expression, Receipt, SampleKey


class Reader:
    name, split = "fake", "train"

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def video_ids(self) -> list[str]:
        return sorted(self.texts)

    def expressions(self, video: str) -> list[Expression]:
        if not self.texts[video]:
            raise InputError("f.json", "an empty sentence", "a sentence", "mend it")
        return [Expression(SampleKey("fake", "train", video, "0"), self.texts[video])]


class Book:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Receipt] = {}

    def receipt(self, stage: str, shard: str) -> Receipt | None:
        return self.held.get((stage, shard))


def plan(
    tmp_path: Path,
    *overrides: str,
    texts: dict[str, str] | None = None,
    weights: str = "w",
    book: Book | None = None,
    retry: bool = False,
) -> Plan:
    config: RunConfig = load_config(
        None, [f'out="{tmp_path}"', "shard_videos=2", "augment.source=lexicon", *overrides]
    )
    reader = Reader(texts or {"a": "one", "b": "two", "c": "three"})
    return make_plan(config, reader, book or Book(), lambda name: weights, retry)  # type: ignore[arg-type]


def prints(made: Plan) -> dict[str, list[str]]:
    return {stage: [job.fingerprint for job in jobs] for stage, jobs in made.jobs.items()}


def changed(first: Plan, second: Plan) -> set[str]:
    a, b = prints(first), prints(second)
    return {stage for stage in a if a[stage] != b.get(stage)}


AFTER_FUSE = {"fuse", "rank", "merge", "student", "evaluate", "report"}


def test_shards_are_cut_in_sorted_order() -> None:
    shards = make_shards(["b", "a", "c"], (), 2)
    assert [(shard.name, shard.videos) for shard in shards] == [
        ("00000", ("a", "b")),
        ("00001", ("c",)),
    ]
    assert make_shards(["a", "b"], ("b",), 2)[0].videos == ("b",)
    assert make_shards([], (), 2) == ()
    with pytest.raises(ConfigError, match="'x'"):
        make_shards(["a"], ("x",), 2)


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("ground.batch_frames=1", set()),
        ("device=cpu", set()),
        ("ground.runner_ups=1", {"ground", "segment"} | AFTER_FUSE),
        ("fuse.threshold=0.5", AFTER_FUSE),
        ("rank.epsilon=0.2", AFTER_FUSE - {"fuse"}),
        ("student.steps=7", {"student", "evaluate", "report"}),
        ("report.samples=1", {"report"}),
        ("seed=7", {"augment", "ground", "segment"} | AFTER_FUSE),
    ],
)
def test_a_change_reaches_what_depends_on_it_alone(
    tmp_path: Path, override: str, stages: set[str]
) -> None:
    assert changed(plan(tmp_path), plan(tmp_path, override)) == stages


def test_weights_and_sentences_count_and_the_place_on_disk_does_not(tmp_path: Path) -> None:
    base = plan(tmp_path)
    assert changed(base, plan(tmp_path, weights="x")) >= {"ground", "segment"}
    assert changed(base, plan(tmp_path / "elsewhere")) == set()
    other = plan(tmp_path, texts={"a": "one", "b": "two", "c": "other"})
    assert base.jobs["rank"][0].fingerprint == other.jobs["rank"][0].fingerprint
    assert base.jobs["rank"][1].fingerprint != other.jobs["rank"][1].fingerprint


def test_sentences_that_cannot_be_read_do_not_stop_planning(tmp_path: Path) -> None:
    assert plan(tmp_path, texts={"a": "", "b": "two"}).videos == 2


def commit(book: Book, made: Plan, stage: str, tmp_path: Path, aside: tuple[str, ...] = ()) -> None:
    for job in made.jobs[stage]:
        mine = {video: "broken" for video in aside if video in job.shard.videos}
        counts = {"videos": float(len(job.shard.videos) - len(mine))}
        book.held[stage, job.shard.name] = Receipt(
            stage, job.shard.name, job.fingerprint, job.shard.videos, mine, counts
        )
        suffix = ".zarr" if stage in ("segment", "fuse") else ".parquet"
        product = tmp_path / "shapes-train" / stage / f"{job.shard.name}{suffix}"
        product.parent.mkdir(parents=True, exist_ok=True)
        product.touch()


def test_a_receipt_counts_with_its_fingerprint_and_its_product(tmp_path: Path) -> None:
    book = Book()
    made = plan(tmp_path, book=book)
    commit(book, made, "augment", tmp_path)
    assert not plan(tmp_path, book=book).pending("augment")
    assert plan(tmp_path, "seed=4", book=book).pending("augment")
    (tmp_path / "shapes-train" / "augment" / "00001.parquet").unlink()
    assert [job.shard.name for job in plan(tmp_path, book=book).pending("augment")] == ["00001"]


def test_a_video_that_is_back_goes_through_the_later_stages(tmp_path: Path) -> None:
    book = Book()
    made = plan(tmp_path, book=book)
    commit(book, made, "augment", tmp_path, aside=("a",))
    key = ("ground", "00000")
    commit(book, made, "ground", tmp_path)
    held = book.held[key]
    book.held[key] = Receipt(*key, held.fingerprint, held.videos, {}, {"videos": 1.0})
    assert not plan(tmp_path, book=book).pending("ground")
    again = plan(tmp_path, book=book, retry=True)
    assert [job.shard.name for job in again.pending("augment")] == ["00000"]
    assert [job.shard.name for job in again.pending("ground")] == ["00000"]
    # The video is no longer set aside, and ground has not seen it.
    commit(book, made, "augment", tmp_path)
    assert [job.shard.name for job in plan(tmp_path, book=book).pending("ground")] == ["00000"]


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"one")
    memory = tmp_path / "ledger" / "weights.json"
    first = WeightDigests(memory, lambda name: [file]).of_checkpoint("w")
    assert WeightDigests(memory, lambda name: [file]).of_checkpoint("w") == first
    file.write_bytes(b"another")
    assert WeightDigests(memory, lambda name: [file]).of_checkpoint("w") != first
    memory.write_text("broken")
    assert WeightDigests(memory, lambda name: [file]).of_file(file)


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("augment", "augment/__init__.py"),
        ("fuse", "fuse.py"),
        ("rank", "rank.py"),
        ("student", "student/__init__.py"),
    ],
)
def test_versions_are_those_of_the_stages(stage: str, module: str) -> None:
    # Read, not imported: planning must not need what the stages need.
    source = (Path(stages.__file__).parent / module).read_text()
    found = re.search(r"^VERSION = (\d+)$", source, re.MULTILINE)
    assert found is not None
    assert STAGE_VERSIONS[stage] == int(found.group(1))
