"""Whole runs in an object store, with stand-ins for the models."""

from __future__ import annotations

import json
import shutil
from copy import copy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.commands.main import app
from flows.context import RunContext
from flows.finished_results import own_masks
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.repair import repair
from flows.integrity.verify import verify
from flows.labelling.executor import InProcess, execute
from flows.labelling.opened_run import opened_run
from flows.orchestration.ray import worker
from flows.planning.mirrored import pull, pushed, refresh
from flows.planning.plan import Plan
from flows.planning.run_config import config_of_run, write_run_config
from flows.planning.stage_selection import scope_of
from pipeline.config import load_config
from pipeline.decisions import Decision
from pipeline.errors import InputError, ObjectStoreError
from pipeline.store_urls import local_place
from storage.decisions import append_decisions, read_decisions, share_decisions
from storage.remote.objects import Objects
from storage.run.ledger import Ledger
from storage.run.lock import TOKENS, RunLock, held_tokens
from tests.fakes.stages import Loaded, fake_parts
from tests.flows.conftest import Site, finish


class StoreSite(Site):
    """The data set of another site, and runs at an address.

    Attributes:
        url: of the run.
    """

    def __init__(self, of: Site, url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.data, self.weights, self.loaded, self.shown = of.data, of.weights, Loaded(), ""
        self.out, self.url = url, f"{url}/refytvos-train"  # type: ignore[assignment]
        self._monkeypatch, self._machines = monkeypatch, folder
        self.objects = Objects(self.url)

    @property
    def folder(self) -> Path:
        return local_place(self.url)

    def on_machine(self, name: str) -> StoreSite:
        """The same run from another machine, whose cache is empty the first time."""
        self._monkeypatch.setenv("PSEUDOLABELS_CACHE", str(self._machines / name))
        other = copy(self)
        other.loaded = Loaded()
        return other

    def do(self, *overrides: str, to_stage: str | None = None) -> Plan:
        """Does what is left of the run, up to a stage. Returns its plan."""
        config = self.config(*overrides)
        parts, scope = fake_parts(self.weights, self.loaded), scope_of(config, None, to_stage)
        with opened_run(config, lambda line: None, parts=parts, scope=scope) as context:
            execute(context, InProcess(context))
            return context.the_plan

    def names(self) -> set[str]:
        return {entry.name for entry in self.objects.walk()}

    def problems(self) -> list[str]:
        found = verify(self.folder, Contents())
        return [f"{item.path.relative_to(self.folder)}: {item.what}" for item in found]


@pytest.fixture
def site(
    finished: Site, store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> StoreSite:
    """A run that has not begun."""
    return StoreSite(finished, store_url, monkeypatch, tmp_path / "machines").on_machine("a")


@pytest.fixture
def done(site: StoreSite, finished: Site) -> StoreSite:
    """A finished run: what a run in a folder leaves is moved into the store."""
    shutil.copytree(finished.folder, site.folder)
    config = site.folder / "config.toml"
    write_run_config(config, load_config(config, [f'out="{site.out}"']))
    with pushed(site.folder):
        pass
    return site


def test_a_run_in_a_store_has_the_digest_of_one_in_a_folder_on_every_machine(
    site: StoreSite, finished: Site
) -> None:
    _, said = finish(site)
    assert f"The run is at {site.url}; its local copy is {site.folder}." in said
    assert content_digest(site.folder) == content_digest(finished.folder)
    files = {
        path.relative_to(finished.folder).as_posix()
        for path in finished.folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    own = {name for name in files if name.startswith(("ledger/sources/", "ledger/weights.json"))}
    assert site.names() == files - own
    other = site.on_machine("b")
    plan, _ = finish(other)
    assert (plan.pending(), other.loaded.names) == ((), [])
    # A plan alone fetches no product.
    assert not (other.folder / "segment").exists()
    assert other.problems() == []
    assert not (other.folder / "segment").exists()
    config = config_of_run(Path(site.url))
    assert len(own_masks(RunContext(config)).videos()) == 4
    assert content_digest(other.folder) == content_digest(finished.folder)


def test_an_upload_that_fails_is_resumed_on_another_machine(
    site: StoreSite, finished: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Objects.put

    def failing(self: Objects, name: str, content: bytes | Path) -> None:
        if name.startswith("segment/00001.zarr/clip03/"):
            raise ObjectStoreError(f"{self.url}/{name}: no network")
        real(self, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "put", failing)
        with pytest.raises(ObjectStoreError, match="no network"):
            site.do(to_stage="rank")
    names = site.names()
    assert {name for name in names if name.startswith(("ledger/segment/", ".lock"))} == {
        "ledger/segment/00000.json"
    }
    other = site.on_machine("b")
    plan = other.do(to_stage="rank")
    assert [job.done for stage in ("ground", "segment") for job in plan.jobs[stage]] == [
        *(True, True),
        *(True, False),
    ]
    assert "ground" not in other.loaded.names
    assert content_digest(other.folder) == content_digest(finished.folder)
    assert other.problems() == []


def test_damage_in_the_store_is_found_and_made_again(done: StoreSite, finished: Site) -> None:
    site = done
    names = sorted(site.names())
    logits = next(name for name in names if "segment/00000.zarr" in name and "/logits/c/" in name)
    site.objects.put(logits, b"x" * site.objects.look(logits).size)
    mask = next(
        name for name in names if name.startswith("pseudomasks.zarr") and "/masks/c" in name
    )
    site.objects.delete([mask])
    site.objects.put("track/00001.parquet", b"cut")
    site.objects.put("fuse/00007.zarr/zarr.json", b"{}")
    site.objects.put("fuse/00001.zarr/more", b"{}")
    site.objects.put("notes.txt", b"mine")
    site.objects.put(".lock.held.0123456789ab.partial", b"probe")
    receipt = site.objects.get("ledger/rank/00001.json")[0]
    site.objects.put("ledger/rank/00001.json", receipt.replace(b"clip", b"CLIP"))
    other = site.on_machine("b")
    assert sorted(other.problems()) == sorted(
        [
            f"{logits}: other bytes than were written",
            f"{mask}: missing",
            "track/00001.parquet: 3 bytes; expected " + str(_size(site, "track/00001.parquet")),
            "fuse/00007.zarr: a product without a receipt",
            "fuse/00001.zarr/more: a file that its receipt does not know",
            "notes.txt: not a part of a run; move it away",
            ".lock.held.0123456789ab.partial: left behind by a writer that was ended",
            "ledger/rank/00001.json: unreadable receipt (its checksum does not fit its text)",
        ]
    )
    with RunLock(other.folder):
        undone = repair(other.folder, Contents()).undone
    assert {stage for stage, _ in undone} == {"segment", "rank", "track", "fuse"}
    assert other.problems() == ["notes.txt: not a part of a run; move it away"]
    # What was damaged there is removed here too.
    finish(site.on_machine("a"))
    assert content_digest(site.folder) == content_digest(finished.folder)
    assert site.problems() == ["notes.txt: not a part of a run; move it away"]


def _size(site: StoreSite, name: str) -> int:
    stage, shard = name.removesuffix(".parquet").split("/")
    receipt = Ledger(site.folder).receipt(stage, shard)
    assert receipt is not None
    return int(receipt.files[name].split()[0])


def test_what_another_machine_made_again_replaces_the_copy(done: StoreSite) -> None:
    refresh(done.folder)
    before = content_digest(done.folder)
    done.on_machine("b").do("augment.negatives=1", to_stage="rank")
    now = content_digest(done.folder)
    assert now != before
    done.on_machine("a")
    refresh(done.folder)
    assert not (done.folder / "rank" / "00000.parquet").exists()
    assert content_digest(done.folder) == now


def test_a_reader_leaves_the_copy_of_a_run_at_work_alone(site: StoreSite) -> None:
    with RunLock(site.folder):
        note = site.folder / "ledger" / "ground" / "00000.json"
        note.parent.mkdir(parents=True)
        note.write_text("{}")
        refresh(site.folder)
        assert note.exists()
        refresh(site.folder, under_lock=True)
        assert not note.exists()


def test_released_candidates_go_from_the_store_too(done: StoreSite, finished: Site) -> None:
    other = done.on_machine("b")
    other.do('keep="masks"')
    left = {name.split("/")[1] for name in done.names() if name.startswith("segment/")}
    assert left == {"00000.baseline.zarr", "00001.baseline.zarr"}
    assert other.problems() == []
    assert content_digest(other.folder) == content_digest(finished.folder)


def test_a_worker_with_an_empty_copy_does_its_shard(
    site: StoreSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = site.do(to_stage="ground")
    jobs = [worker.job_as_sent(job) for job in plan.jobs["segment"]]
    parts = fake_parts(site.weights, Loaded())
    monkeypatch.setattr(worker, "RunContext", lambda config: RunContext(config, parts))
    with RunLock(site.folder):
        monkeypatch.setenv(TOKENS, held_tokens())
        copy_of_worker = site.on_machine("worker").folder
        worker._shop_of.cache_clear()
        worker.do_group(jobs, site.url)
    assert Ledger(copy_of_worker).receipt("segment", "00001") is not None
    assert {"ledger/segment/00000.json", "ledger/segment/00001.json"} <= site.names()
    first = site.on_machine("a")
    assert not first.do(to_stage="segment").pending()
    assert first.loaded.names == []


def test_decisions_of_two_machines_are_joined(site: StoreSite) -> None:
    def decide(who: str) -> None:
        path = site.folder / "review.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        append_decisions(path, [Decision(who, "2026-01-01T00:00:00+00:00", "v", "0", "accept")])
        share_decisions(path)

    def known() -> list[str]:
        log = read_decisions(site.folder / "review.jsonl")
        return [item.who for item in log.decisions]

    decide("ann")
    site.on_machine("b")
    decide("bob")
    assert known() == ["bob", "ann"]
    site.on_machine("a")
    refresh(site.folder)
    assert known() == ["ann", "bob"]
    lines = site.objects.get("review.jsonl")[0].splitlines()
    assert [json.loads(line)["who"] for line in lines] == ["ann", "bob"]


def test_a_student_is_stored_whole(site: StoreSite) -> None:
    student = site.folder / "students" / "mine"
    with pushed(student):
        student.mkdir(parents=True)
        (student / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(KeyError), pushed(student):
        (student / "model.safetensors").write_bytes(b"half")
        raise KeyError
    elsewhere = site.on_machine("b").folder / "students" / "mine"
    pull(elsewhere)
    assert (elsewhere / "model.safetensors").read_bytes() == b"weights"


def test_commands_take_an_address(done: StoreSite) -> None:
    site = done.on_machine("b")

    def shown(*words: str) -> str:
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, found.output
        return " ".join(found.output.split())

    assert "All files are as they were written." in shown("verify", site.url)
    assert shown("digest", site.url) == content_digest(site.folder)
    assert f"{site.url} " in shown("status", site.url)
    out = site.folder.parents[4] / "coco"
    shown("export", site.url, "--to", "coco", "--out", f"{out}.json")
    with pytest.raises(InputError, match=f"{site.url}x: no run there"):
        CliRunner().invoke(app, ["verify", f"{site.url}x"], catch_exceptions=False)
