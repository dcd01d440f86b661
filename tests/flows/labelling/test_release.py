"""``keep = "masks"``: candidates and hypotheses go when their masks are finished."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.commands.dry_run import explain
from flows.commands.status import show_status
from flows.context import RunContext
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.repair import repair
from flows.integrity.verify import verify
from flows.labelling import release
from flows.labelling.opened_run import do_stage_again
from flows.planning.plan import Plan
from flows.planning.run_paths import RunPaths
from flows.planning.stage_selection import Scope
from flows.progress import Reporter, Silent
from flows.review.diff import compare
from flows.review.explain import explain_frame
from flows.review.guarantee import make_guarantee
from flows.review.session import Session
from pipeline.config import RunConfig
from pipeline.decisions import Decision, now
from pipeline.errors import StoreError
from storage.decisions import append_decisions
from storage.run.ledger import Ledger
from storage.run.lock import RunLock
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site

MASKS = 'keep="masks"'
BACK = "--from-stage segment --to-stage rank keep=all"


@pytest.fixture(autouse=True)
def _fakes(ran: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands make a context of their own, with the stand-ins."""
    real = RunContext.__init__

    def faked(context: RunContext, config: RunConfig, *more: Any, **named: Any) -> None:
        real(context, config, *(more or (fake_parts(ran.weights, ran.loaded),)), **named)

    monkeypatch.setattr(RunContext, "__init__", faked)


def again(site: Site, stage: str, progress: Reporter | None = None) -> None:
    parts = fake_parts(site.weights, site.loaded)
    do_stage_again(site.config(MASKS), stage, progress or Silent(), parts)


def stored(folder: Path) -> set[str]:
    """Which candidates and hypotheses are there."""
    return {
        place.parent.relative_to(folder).as_posix()
        for stage in ("segment", "fuse", "track")
        for place in (folder / stage).glob("*.zarr/zarr.json")
        if "baseline" not in place.parent.name
    }


def dry_run(config: RunConfig) -> str:
    console = Console(record=True, width=300, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    explain(config, console, Scope(), retry_skipped=False)
    console.file.close()
    return console.export_text()


def problems(folder: Path) -> list[str]:
    return [f"{item.path.relative_to(folder)}: {item.what}" for item in verify(folder, Contents())]


def labels(plan: Plan) -> set[str]:
    return {job.stage for job in plan.pending()}


def test_a_finished_run_releases_and_has_the_masks_and_metrics_of_one_that_keeps(ran: Site) -> None:
    before, metrics = content_digest(ran.folder), (ran.folder / "metrics.json").read_bytes()
    assert stored(ran.folder)
    plan = ran.run(MASKS)
    assert not plan.pending(), "switching makes nothing again"
    assert "Released" in ran.shown
    assert not stored(ran.folder)
    assert problems(ran.folder) == []
    assert content_digest(ran.folder) == before
    assert not ran.run(MASKS).pending()
    assert not ran.run().pending(), "keep = all makes nothing again either"
    again(ran, "evaluate")
    assert (ran.folder / "metrics.json").read_bytes() == metrics, "the baseline's masks are kept"
    again(ran, "report")
    other = RunContext(ran.config(MASKS))
    assert compare(other, other).same > 0


def test_what_a_changed_threshold_makes_again_is_said_and_done(ran: Site) -> None:
    ran.run(MASKS)
    said = dry_run(ran.config(MASKS, "rank.threshold=0.6"))
    assert 'segment: 2 of 2 shards, candidates were released (keep="masks")' in said
    assert 'fuse: 2 of 2 shards, hypotheses were released (keep="masks")' in said
    assert "rank: 2 of 2 shards, threshold" in said
    assert "ground" not in said.split("Disk space")[0]
    ran.loaded.names.clear()
    ran.run(MASKS, "rank.threshold=0.6")
    assert "segment" in ran.loaded.names
    assert not stored(ran.folder)
    assert problems(ran.folder) == []
    # With "all" the same is made again, and stays.
    ran.run("rank.threshold=0.7")
    assert len(stored(ran.folder)) == 4
    assert not list((ran.folder / "segment").glob("*.baseline.zarr"))
    assert problems(ran.folder) == []
    assert not ran.run("rank.threshold=0.7").pending()


def test_the_command_in_the_messages_makes_it_again(ran: Site) -> None:
    before = content_digest(ran.folder)
    ran.run(MASKS)
    ran.run("keep=all", from_stage="segment", to_stage="rank")
    assert len(stored(ran.folder)) == 4
    assert content_digest(ran.folder) == before
    assert not ran.run().pending(), "it came out as it was"


def decide(site: Site) -> None:
    sample = next(iter(RunContext(site.config()).reader().expressions("clip00"))).key
    made = Decision("me", now(), "clip00", sample.expression, "absent", 0, None, None, "", ())
    append_decisions(RunPaths(site.folder).decisions, [made])


def refusals(site: Site) -> dict[str, Callable[[], object]]:
    context = RunContext(site.config(MASKS))
    sample = "clip00", next(iter(context.reader().expressions("clip00"))).key.expression
    return {
        "explain": lambda: explain_frame(context, "00000", sample, 0),
        "review": lambda: Session(context, "me"),
        "guarantee": lambda: make_guarantee(site.config(MASKS), "truth"),
    }


def test_what_needs_candidates_says_in_one_message_how_to_get_them(ran: Site) -> None:
    ran.run(MASKS)
    make_guarantee(ran.config(MASKS), "truth")
    decide(ran)
    for name, call in refusals(ran).items():
        with pytest.raises(StoreError) as error:
            call()
        assert "removed when the masks were finished" in str(error.value), name
        assert BACK in str(error.value), name
        assert str(error.value).count("\n") == 0, name
    said = dry_run(ran.config(MASKS))
    assert 'segment: 1 of 2 shards, candidates were released (keep="masks")' in said


def test_status_and_the_dry_run_say_gigabytes(ran: Site) -> None:
    kept = dry_run(ran.config("report.samples=1"))
    assert 'with keep="all"' in kept
    assert 'with keep="masks"' in kept
    ran.run(MASKS)
    line = next(line for line in kept.splitlines() if "Disk space of finished" in line)
    after = dry_run(ran.config(MASKS, "report.samples=1"))
    # The baseline's masks are there in addition.
    assert (
        line.split(" with ")[0]
        == next(item for item in after.splitlines() if "Disk space of finished" in item).split(
            " with "
        )[0]
    )
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    plan = RunContext(ran.config(MASKS)).make_plan(remember=False)
    show_status(console, plan, ran.folder)
    console.file.close()
    assert "Candidates and hypotheses of 2 shards were released" in console.export_text()


def test_nothing_goes_before_metrics_and_report_cover_the_masks(ran: Site) -> None:
    ledger = Ledger(ran.folder)
    with RunLock(ran.folder):
        ledger.withdraw("report", "all")
    ran.run(MASKS, to_stage="evaluate")
    assert len(stored(ran.folder)) == 4
    assert "stay until" in ran.shown
    ran.run(MASKS)
    assert not stored(ran.folder)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_an_end_at_any_moment_of_a_release_leaves_nothing_wrong(
    ran: Site, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before, metrics = content_digest(ran.folder), (ran.folder / "metrics.json").read_bytes()
    left = [step]

    def ends(work: Callable[..., None]) -> Callable[..., None]:
        def ended(*args: object) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            work(*args)

        return ended

    with monkeypatch.context() as patch:
        patch.setattr(release, "remove_whole", ends(release.remove_whole))
        patch.setattr(release.Ledger, "commit", ends(Ledger.commit))
        patch.setattr(release, "_keep_baseline", ends(release._keep_baseline))
        with pytest.raises(KeyboardInterrupt):
            ran.run(MASKS)
    assert problems(ran.folder) == []
    assert not RunContext(ran.config(MASKS)).make_plan(remember=False).pending()
    assert content_digest(ran.folder) == before
    assert not ran.run(MASKS).pending()
    assert not stored(ran.folder)
    assert problems(ran.folder) == []
    again(ran, "evaluate")
    assert (ran.folder / "metrics.json").read_bytes() == metrics


def test_damage_to_what_is_kept_is_repaired_by_making_it_again(ran: Site) -> None:
    metrics = (ran.folder / "metrics.json").read_bytes()
    ran.run(MASKS)
    mask = next((ran.folder / "segment").glob("*.baseline.zarr/*/masks/c/**/0"))
    mask = next(path for path in mask.parent.rglob("*") if path.is_file())
    mask.write_bytes(b"damaged")
    assert any("baseline" in line for line in problems(ran.folder))
    with RunLock(ran.folder):
        repair(ran.folder, Contents())
    assert labels(RunContext(ran.config(MASKS)).make_plan(remember=False)) == {"segment", "fuse"}
    ran.run(MASKS)
    assert problems(ran.folder) == []
    assert not stored(ran.folder)
    assert (ran.folder / "metrics.json").read_bytes() == metrics


def test_a_baseline_that_was_never_measured_is_said_to_be_missing(ran: Site) -> None:
    path = ran.folder / "metrics.json"
    metrics = json.loads(path.read_text())
    assert metrics["baseline"] is not None
    path.write_text(json.dumps({**metrics, "baseline": None}))
    ran.run(MASKS)
    said: list[str] = []

    class Says(Silent):
        def say(self, text: str, style: str = "") -> None:
            said.append(text)

    again(ran, "evaluate", Says())
    assert json.loads(path.read_text())["baseline"] is None
    assert json.loads(path.read_text())["pseudo_masks"] == metrics["pseudo_masks"]
    assert [line for line in said if BACK in line]
