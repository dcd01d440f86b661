import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.planning.plan import Plan, WeightDigests, make_plan, still_holds
from flows.planning.products import joined
from flows.planning.reasons import what_changed
from flows.planning.run_paths import RunPaths
from flows.planning.stages import RUN_STAGES, STAGE, STAGES
from pipeline.config import RunConfig, load_config
from pipeline.errors import CheckpointError, InputError
from pipeline.types import Expression, Failure, Receipt, SampleKey


class Reader:
    name, split = "fake", "train"

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def video_ids(self) -> list[str]:
        return sorted(self.texts)

    def expressions(self, video: str) -> list[Expression]:
        if not self.texts[video]:
            raise InputError("f.json", "an empty sentence", "a sentence", "fix it")
        return [Expression(SampleKey("fake", "train", video, "0"), self.texts[video])]


class Book:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Receipt] = {}
        self.failed: dict[tuple[str, str], Failure] = {}

    def receipt(self, stage: str, shard: str) -> Receipt | None:
        return self.held.get((stage, shard))

    def failure(self, stage: str, shard: str) -> Failure | None:
        return self.failed.get((stage, shard))


def plan(
    tmp_path: Path,
    *overrides: str,
    texts: dict[str, str] | None = None,
    weights: str = "w",
    book: Book | None = None,
    retry: bool = False,
    **more: Any,
) -> Plan:
    config: RunConfig = load_config(
        None, [f'out="{tmp_path}"', "shard_videos=2", "augment.source=lexicon", *overrides]
    )
    reader = Reader(texts or {"a": "one", "b": "two", "c": "three"})
    return make_plan(config, reader, book or Book(), lambda name: weights, retry, **more)  # type: ignore[arg-type]


def prints(made: Plan) -> dict[str, list[str]]:
    return {stage: [job.fingerprint for job in jobs] for stage, jobs in made.jobs.items()}


def changed(first: Plan, second: Plan) -> set[str]:
    a, b = prints(first), prints(second)
    return {stage for stage in a if a[stage] != b.get(stage)}


AFTER_FUSE = {"fuse", "rank", "merge", "student", "evaluate", "report"}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("ground.batch_frames=1", set()),
        ("device=cpu", set()),
        ("ground.runner_ups=1", {"ground", "segment", "track"} | AFTER_FUSE),
        ("track.gap=3", {"track"} | AFTER_FUSE),
        ("fuse.absent_below=0.2", AFTER_FUSE),
        ("rank.threshold=0.6", AFTER_FUSE - {"fuse"}),
        ("rank.epsilon=0.2", AFTER_FUSE - {"fuse"}),
        ("student.steps=7", {"student", "evaluate", "report"}),
        ("report.samples=1", {"report"}),
        ("seed=7", {"augment", "ground", "segment", "track"} | AFTER_FUSE),
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
            stage,
            job.shard.name,
            job.fingerprint,
            job.shard.videos,
            mine,
            counts,
            basis=json.loads(json.dumps(job.basis)),
        )
        product = STAGE[stage].product(RunPaths(tmp_path / "shapes-train"), job.shard.name)[0]
        product.parent.mkdir(parents=True, exist_ok=True)
        product.touch()


def finish(book: Book, tmp_path: Path, *overrides: str, **more: Any) -> Plan:
    """All of a run done; every product has a digest, and every receipt those it was made from."""
    made = plan(tmp_path, *overrides, book=book, **more)
    for stage in made.jobs:
        commit(book, made, stage, tmp_path)
    for key, receipt in book.held.items():
        book.held[key] = replace(receipt, product=f"{key}")
    for (stage, shard), receipt in list(book.held.items()):
        reads = {
            name: f"{(name, shard)}"
            if shard != "all" or name in RUN_STAGES
            else joined({job.shard.name: f"{(name, job.shard.name)}" for job in made.jobs[name]})
            for name in STAGE[stage].reads
            if made.jobs[name]
        }
        book.held[stage, shard] = replace(receipt, made_from=reads)
    again = plan(tmp_path, *overrides, book=book, **more)
    assert again.jobs
    assert all(job.done for jobs in again.jobs.values() for job in jobs)
    return again


def states(made: Plan, *, of: str) -> dict[str, set[str]]:
    """Stage -> shards in a state."""
    found = {
        stage: {job.shard.name for job in jobs if job.state == of}
        for stage, jobs in made.jobs.items()
    }
    return {stage: names for stage, names in found.items() if names}


def why(made: Plan, stage: str) -> set[str]:
    return {job.reason for job in made.jobs[stage]}


@pytest.mark.parametrize(
    ("override", "stage", "reason"),
    [
        ("fuse.absent_below=0.2", "fuse", "absent_below 0.25 → 0.2"),
        ("fuse.absent_below=0.2", "rank", "follows fuse"),
        ("fuse.absent_below=0.2", "merge", "follows rank"),
        ("seed=7", "augment", "seed 0 → 7"),
        ("rank.swap=true", "rank", "swap false → true"),
        ("augment.negatives=3", "ground", "follows augment"),
    ],
)
def test_a_reason_names_the_values(tmp_path: Path, override: str, stage: str, reason: str) -> None:
    book = Book()
    finish(book, tmp_path)
    assert why(plan(tmp_path, override, book=book), stage) == {reason}


def test_reasons_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book()
    assert why(plan(tmp_path, book=book), "fuse") == {"no receipt"}
    finish(book, tmp_path)
    other = plan(tmp_path, weights="x", book=book)
    assert why(other, "ground") == {"weights of demo:ground changed"}
    texts = {"a": "one", "b": "two", "c": "other"}
    assert why(plan(tmp_path, texts=texts, book=book), "augment") == {
        "",
        "sentences or their objects changed",
    }
    now = STAGE["rank"].version
    monkeypatch.setitem(STAGE, "rank", replace(STAGE["rank"], version=99))  # type: ignore[arg-type]
    assert why(plan(tmp_path, book=book), "rank") == {f"stage version {now} → 99"}
    monkeypatch.undo()
    book.failed["fuse", "00000"] = Failure("fuse", "00000", "x", "RuntimeError: out of luck")
    del book.held["fuse", "00000"]
    assert why(plan(tmp_path, book=book), "fuse") == {
        "",
        "failed before: RuntimeError: out of luck",
    }


def test_what_follows_a_product_made_again_waits_for_how_it_comes_out(tmp_path: Path) -> None:
    book = Book()
    finish(book, tmp_path)
    before = book.held.pop(("ground", "00001"))
    made = plan(tmp_path, book=book)
    assert states(made, of="due") == {"ground": {"00001"}}
    one = {"00001"}
    assert states(made, of="waits") == {
        **dict.fromkeys(("segment", "track", "fuse", "rank"), one)
    } | {stage: {"all"} for stage in ("merge", "student", "evaluate", "report")}
    job = made.job("segment", "00001")
    assert still_holds(job, {"ground": before.product})
    assert not still_holds(job, {"ground": "another"})
    # It came out the same: nothing else is to be done.
    book.held["ground", "00001"] = before
    assert not plan(tmp_path, book=book).pending()
    # It came out different: its readers are due, and theirs wait.
    book.held["ground", "00001"] = replace(before, product="another")
    made = plan(tmp_path, book=book)
    assert states(made, of="due") == {
        "segment": one,
        "track": one,
        "fuse": one,
        # The plain baseline reads the boxes.
        "evaluate": {"all"},
    }
    assert made.job("segment", "00001").reason == "follows ground, which came out different"
    assert states(made, of="waits").keys() == {"rank", "merge", "student", "report"}


def test_another_shard_size_redoes_nothing(tmp_path: Path) -> None:
    book = Book()
    made = finish(book, tmp_path)
    known = {shard.name: shard.videos for shard in made.layout}
    assert not plan(tmp_path, "shard_videos=1", book=book, known=known).pending()
    texts = {"a": "one", "b": "two", "c": "three", "d": "four", "e": "five"}
    more = plan(tmp_path, "shard_videos=1", book=book, known=known, texts=texts)
    assert {job.shard.name for job in more.pending("rank")} == {"00002", "00003"}
    assert why(more, "merge") == {"2 videos more"}


def test_stages_of_the_whole_run_cover_shards_that_are_not_selected(tmp_path: Path) -> None:
    book = Book()
    made = finish(book, tmp_path)
    known = {shard.name: shard.videos for shard in made.layout}
    some = plan(tmp_path, 'dataset.only_videos=["a"]', book=book, known=known)
    assert [shard.name for shard in some.shards] == ["00000"]
    assert some.along == 1
    assert [shard.name for shard in some.run_shards] == ["00000", "00001"]
    assert not some.pending()
    del book.held["rank", "00001"]
    some = plan(tmp_path, 'dataset.only_videos=["a"]', book=book, known=known)
    assert {job.stage for job in some.pending()} == {"merge", "student", "evaluate", "report"}


def test_stages_asked_for_again_are_due_and_those_past_the_last_are_not_pending(
    tmp_path: Path,
) -> None:
    book = Book()
    finish(book, tmp_path)
    made = plan(
        tmp_path, book=book, again=("fuse", "rank"), stages=STAGES[: STAGES.index("rank") + 1]
    )
    assert {job.stage for job in made.pending()} == {"fuse", "rank"}
    assert why(made, "rank") == {"asked for with --from-stage fuse"}


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
    # The video is no longer skipped, and ground has not seen it.
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


def test_another_tokenizer_is_another_grounder(tmp_path: Path) -> None:
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "tokenizer.json").write_text("one")

    def basis() -> str:
        option = f'ground.text_encoder="{bert}"'
        return plan(tmp_path, option).jobs["ground"][0].fingerprint

    first = basis()
    (bert / "README.md").write_text("nothing that a model reads")
    assert basis() == first
    (bert / "tokenizer.json").write_text("two")
    assert basis() != first


def test_what_changed_names_the_files_that_are_others(tmp_path: Path) -> None:
    made = plan(tmp_path)
    job = made.jobs["ground"][0]
    receipt = Receipt("ground", "00000", "other", job.shard.videos, {}, {}, basis=job.basis)
    now = {**job.basis, "adapter": "x"}
    assert what_changed(receipt, now, job.shard.videos, None) == "the grounder's adapter changed"


def test_a_text_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.*bert-base-uncased"):
        plan(tmp_path, f'ground.text_encoder="{tmp_path}/nowhere"')
