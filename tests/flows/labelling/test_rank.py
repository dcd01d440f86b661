"""Decisions of people are an input of ``rank``: they run it again, and it alone of the shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.context import RunContext
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.labelling.rank import run
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from pipeline.decisions import Decision, now
from pipeline.errors import StoreError
from storage.arrays.masks import MaskStore
from storage.decisions import append_decisions
from storage.run.ledger import Ledger
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site, finish


def decide(ran: Site, action: str, video: str = "clip00", **more: object) -> None:
    made = Decision("anna", now(), video, "0", action, **more)  # type: ignore[arg-type]
    append_decisions(ran.folder / "review.jsonl", [made])


def test_a_decision_runs_rank_alone_and_undo_restores_every_byte(ran: Site) -> None:
    before = content_digest(ran.folder)
    receipts = {item.shard: item for item in Ledger(ran.folder).receipts("rank")}
    assert all("decisions" not in item.basis for item in receipts.values())
    decide(ran, "reject")
    plan, _ = finish(ran)
    assert not ran.loaded.names
    assert [job.reason for job in plan.pending("rank")] == ["decisions of reviewers changed"]
    assert not any(plan.pending(name) for name in ("augment", "ground", "segment", "track", "fuse"))
    _, weight, status = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")
    assert not weight.any() and not status.any()
    assert not list(verify(ran.folder, Contents()))
    decide(ran, "undo")
    finish(ran)
    assert content_digest(ran.folder) == before
    after = {item.shard: item for item in Ledger(ran.folder).receipts("rank")}
    assert {name: item.fingerprint for name, item in after.items()} == {
        name: item.fingerprint for name, item in receipts.items()
    }


def test_a_chosen_track_is_the_mask_from_its_frame_on(ran: Site) -> None:
    store = MaskStore(ran.folder / "pseudomasks.zarr")
    red, blue = store.read("clip01", "0")[0], store.read("clip01", "1")[0]
    # The stand-in gives every box a track of its own: the blue square's is the last one.
    track = 1
    decide(ran, "choose", "clip01", first=2, track=track)
    decide(ran, "absent", "clip01", first=0, last=0)
    finish(ran)
    mask, weight, status = MaskStore(store.path).read("clip01", "0")
    assert status[:4].tolist() == [2, 1, 1, 1]
    assert not mask[0].any() and np.array_equal(mask[1], red[1])
    assert np.array_equal(mask[2], blue[2]) and weight[2] == 1


def test_a_torn_line_is_told(ran: Site) -> None:
    (ran.folder / "review.jsonl").write_text('{"who": "an')
    assert "line 1 is no decision" in finish(ran)[1]


def test_a_choice_among_tracks_that_are_gone_is_left_out_and_told(ran: Site) -> None:
    before = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")[0]
    decide(ran, "choose", first=0, track=1, masks="other tracks")
    assert "decide again" in finish(ran)[1]
    after = MaskStore(ran.folder / "pseudomasks.zarr").read("clip00", "0")[0]
    assert np.array_equal(before, after)


def test_a_worker_refuses_decisions_that_its_job_does_not_cover(ran: Site) -> None:
    context = RunContext(ran.config(), fake_parts(ran.weights))
    context.plan = context.make_plan()
    job: Job = context.plan.jobs["rank"][0]
    decide(ran, "reject", job.shard.videos[0])
    worker = RunContext(ran.config(), fake_parts(ran.weights))
    with pytest.raises(StoreError, match="while the run was going"):
        run(replace(job), worker, Outcome())
    # The process that made the plan keeps to it.
    run(job, context, Outcome())
