"""Runs on a data set in an object store, with stand-ins for the models."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.data.object_store import put_folder
from flows.api.clips import ClipDataset
from flows.commands import dry_run
from flows.commands.main import app
from flows.context import RunContext
from flows.integrity.content_digest import content_digest
from flows.orchestration.ray import worker
from flows.planning.stage_selection import Scope
from flows.training.build import joint_readers
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError, InputError
from pipeline.store_urls import local_place
from storage.remote.objects import Objects
from storage.run.lock import TOKENS, RunLock, held_tokens
from tests.fakes.stages import Loaded, fake_parts
from tests.flows.conftest import Site, finish
from tests.flows.test_object_store import StoreSite


class DataSite(StoreSite):
    """A data set and runs in a store.

    Attributes:
        data_url: of the data set.
    """

    def __init__(self, of: Site, url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(of, f"{url}/runs", monkeypatch, folder)
        self.original, self.data_url = of.data, f"{url}/data"
        put_folder(of.data, self.data_url)
        self.data = self.data_url  # type: ignore[assignment]

    @property
    def copy(self) -> Path:
        """The data set's local copy on the machine that works now."""
        return local_place(self.data_url)

    def fetched(self) -> set[str]:
        """The videos of which the machine that works now has frames."""
        return {path.parent.name for path in self.copy.rglob("*.jpg")}

    def dry_run(self) -> str:
        console = Console(record=True, width=400, file=(self._machines / "out").open("w"))
        dry_run.explain(self.config("device=cpu"), console, Scope(), False)
        console.file.close()
        return console.export_text()


@pytest.fixture
def site(
    finished: Site, store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> DataSite:
    """A run that has not begun."""
    (tmp_path / "machines").mkdir()
    made = DataSite(finished, store_url, monkeypatch, tmp_path / "machines")
    made.on_machine("a")
    return made


def test_a_run_is_that_of_a_folder_and_another_machine_downloads_no_frame(
    site: DataSite, finished: Site
) -> None:
    _, said = finish(site)
    assert f"The data set is at {site.data_url}; its local copy is {site.copy}." in said
    assert content_digest(site.folder) == content_digest(finished.folder)
    assert site.fetched() == {"clip00", "clip01", "clip02", "clip03"}
    assert site.problems() == []
    other = site.on_machine("b")
    plan, _ = finish(other)
    assert (plan.pending(), other.loaded.names, site.fetched()) == ((), [], set())
    # Without the notes, the digests of the frames are the same.
    site.objects.delete([name for name in site.names() if name.startswith("ledger/objects/")])
    third = site.on_machine("c")
    plan, _ = finish(third)
    assert (plan.pending(), third.loaded.names, len(site.fetched())) == ((), [], 4)


def test_a_run_that_stopped_goes_on_elsewhere_with_the_frames_that_it_needs(
    site: DataSite, finished: Site
) -> None:
    site.do(to_stage="rank")
    site.objects.delete([n for n in site.names() if n.endswith("/00001.json")])
    other = site.on_machine("b")
    before = {name for name in site.names() if name.startswith(("ground/", "ledger/ground/"))}
    tags = {name: site.objects.look(name).version for name in before}
    other.do(to_stage="rank")
    assert tags == {name: site.objects.look(name).version for name in before}
    assert site.fetched() == {"clip02", "clip03"}
    assert content_digest(site.folder) == content_digest(finished.folder)


def test_work_is_done_again_for_frames_that_are_others_in_the_store(site: DataSite) -> None:
    site.do(to_stage="rank")
    objects = Objects(site.data_url)
    objects.put(next(e.name for e in objects.walk("train/JPEGImages/clip02")), b"another picture")
    plan = RunContext(site.config(), fake_parts(site.weights, Loaded())).make_plan()
    assert [job.shard.name for job in plan.jobs["ground"] if not job.done] == ["00001"]
    assert "frames" in plan.jobs["ground"][1].reason


def test_a_run_in_a_folder_reads_a_data_set_in_a_store(
    site: DataSite, finished: Site, tmp_path: Path
) -> None:
    site.out = tmp_path / "runs"
    site.url = str(site.out / "refytvos-train")
    finish(site)
    shutil.rmtree(site.copy)
    plan, _ = finish(site)
    assert (plan.pending(), site.fetched()) == ((), set())
    assert content_digest(site.folder) == content_digest(finished.folder)


def test_clips_need_no_store_once_they_are_made(
    site: DataSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(site)
    site.on_machine("b")
    clips = ClipDataset(site.url, frames=2)
    taught = {video for video, _, _ in clips._samples}
    assert site.fetched() == taught

    def refused(self: Objects, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(Objects, "chunks", refused)
    there = pickle.loads(pickle.dumps(clips))
    assert len(there) == len([there[index] for index in range(len(there))]) > 0


def test_a_worker_with_an_empty_copy_fetches_the_videos_of_its_shard(
    site: DataSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = site.do(to_stage="augment")
    jobs = [worker.job_as_sent(job) for job in plan.jobs["ground"][1:]]
    parts = fake_parts(site.weights, Loaded())
    monkeypatch.setattr(worker, "RunContext", lambda config: RunContext(config, parts))
    with RunLock(site.folder):
        monkeypatch.setenv(TOKENS, held_tokens())
        site.on_machine("worker")
        worker._shop_of.cache_clear()
        worker.do_group(jobs, site.url)
        worker._shop_of.cache_clear()
    assert site.fetched() == {"clip02", "clip03"}
    site.on_machine("a")
    assert len(site.do(to_stage="ground").jobs["ground"]) == 2
    assert {"ledger/ground/00000.json", "ledger/ground/00001.json"} <= site.names()


def test_a_dry_run_downloads_what_it_says(site: DataSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.do(to_stage="ground")
    site.objects.delete([name for name in site.names() if name.startswith("ledger/objects/")])
    site.on_machine("b")
    monkeypatch.setattr("flows.planning.work_estimate.SAMPLE_OF_STORE", 1)
    said = site.dry_run()
    assert f"The data set is at {site.data_url}; its local copy is {site.copy}; 0.0 MB" in said
    assert "4 videos were never compared on this machine; they are taken as unchanged" in said
    assert len(site.fetched()) == 1
    plan = RunContext(site.config(), fake_parts(site.weights, Loaded())).make_plan(remember=False)
    assert [job.state for job in plan.jobs["ground"]] == ["done", "done"]
    assert len(site.fetched()) == 1
    monkeypatch.setattr(dry_run, "MOST_BYTES", 0)
    site.on_machine("c")
    assert site.dry_run().strip().endswith("would be downloaded; then the run is planned")
    assert not list(site.copy.rglob("*.json"))


def test_commands_take_the_address_of_a_data_set(
    site: DataSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def shown(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, words)
        assert found.exit_code == code, found.output
        return " ".join(found.output.split())

    place = ("--root", site.data_url, "--split", "train")
    assert "Nothing is missing" in shown("dataset", "check", "--dataset", "refytvos", *place)
    masks = tmp_path / "masks"
    shutil.copytree(site.original / "train" / "Annotations", masks)
    here = shown("evaluate", "refytvos", str(masks), "--root", str(site.original), *place[2:])
    site.on_machine("b")
    assert shown("evaluate", "refytvos", str(masks), *place) == here
    wrong = ("--dataset", "refytvos", "--root", "http://host/x")
    assert "an address with http://" in shown("dataset", "check", *wrong, code=2)


def test_further_data_sets_of_a_student_are_read_from_a_store(site: DataSite) -> None:
    joint = f'student.joint=[{{name="refytvos", root="{site.data_url}"}}]'
    [reader] = joint_readers(load_config(None, [joint]).student)
    assert len(reader.video("clip01")) > 0
    assert site.fetched() == {"clip01"}


def test_a_run_among_the_files_of_a_data_set_is_refused(site: DataSite) -> None:
    site.out = f"{site.data_url}/runs"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"data/runs: lies in the data set s3://.*only read"):
        site.do()


def test_a_data_set_that_is_not_there_is_named(site: DataSite) -> None:
    def config(*words: str) -> RunConfig:
        return load_config(None, [*words, f'out="{site.out}"', f'dataset.root="{site.data_url}x"'])

    for name in ("refytvos", "shapes"):
        with pytest.raises(InputError, match=f"{site.data_url}x: nothing is there"):
            RunContext(config(f"dataset.name={name}")).make_plan()
