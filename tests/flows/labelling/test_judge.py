"""Stage ``judge``: what it is asked, what it changes, and what a restart makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.context import RunContext, _fuse, _rank, _track
from flows.integrity.content_digest import content_digest
from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.labelling.executor import InProcess, RunFailedError, execute
from flows.planning.commit import commit_plan
from flows.planning.stage_selection import Scope
from flows.planning.stages import STAGE, STAGES
from flows.report import write_report
from flows.review.explain import explain_frame
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from pipeline.judgements import (
    INCONSISTENT,
    KEPT,
    MADE_ABSENT,
    NO_ANSWER,
    TURNED_OVER,
    JudgeReply,
    JudgeRequest,
)
from pipeline.marks import colour_of
from pipeline.types import Boxes, Provenance, Status
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import iter_quality
from tests.fakes.dataset import COLOURS, write_dataset
from tests.fakes.stages import FakeGrounder, box_of, fake_parts


class Undecided(FakeGrounder):
    """Each sentence has a box of its own colour, and a slightly worse one of every other."""

    def _frame(self, image: Any, texts: Sequence[str]) -> Boxes:
        rows = []
        for text, said in enumerate(texts):
            found = [(name, box_of(image, name)) for name in COLOURS]
            known = [(name, box) for name, box in found if box is not None]
            known.sort(key=lambda item: item[0] not in said)
            rows += [(box, text, rank, 0.5 - 0.02 * rank) for rank, (_, box) in enumerate(known)]
        return Boxes(
            np.array([box for box, *_ in rows], np.float32).reshape(-1, 4),
            np.array([score for *_, score in rows], np.float32),
            np.array([text for _, text, *_ in rows], np.int32),
            np.array([rank for _, _, rank, _ in rows], np.int32),
        )


class FakeJudge:
    """Takes the object whose pixels are of a colour, by its mark; or answers what it is told."""

    provenance = Provenance("fake", "1", "test-1", 0)
    needs_frames = True

    def __init__(self, colour: str = "", answers: Sequence[JudgeReply] = ()) -> None:
        self._colour, self._answers = colour, list(answers)
        self.requests: list[JudgeRequest] = []

    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        self.requests += requests
        return [self._one(request) for request in requests]

    def _one(self, request: JudgeRequest) -> JudgeReply:
        if self._answers:
            return self._answers[len(self.requests) % len(self._answers)]
        number = self._seen(request)
        return JudgeReply(str(number), (number,) if number else (), 0.8, (100, 1))

    def _seen(self, request: JudgeRequest) -> int:
        for image in request.images:
            box = box_of(image, self._colour)
            if box is None:
                continue
            x0, y0, x1, y1 = (round(value) for value in box)
            near = image[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2]
            for number in request.numbers:
                if (near == np.array(colour_of(number))).all(-1).sum() > 8:
                    return number
        return 0


ON = ("judge.source=endpoint", "judge.endpoint=http://h/v1", "judge.endpoint_model=m")


class Site:
    def __init__(self, folder: Path, videos: int = 2) -> None:
        self.folder, self.data = folder, write_dataset(folder / "data", videos)
        (folder / "weights").write_bytes(b"w")

    def config(self, *settings: str, out: str = "runs") -> RunConfig:
        words = ["dataset.name=refytvos", f'dataset.root="{self.data}"', "student.enabled=false"]
        words += [f'out="{self.folder / out}"', "augment.source=none", "shard_videos=1"]
        # Movements would tell the squares apart, and leave no doubt.
        words += ["fuse.motion_weight=0"]
        return load_config(None, [*words, "report.samples=4", "report.frames=1", *settings])

    def context(self, config: RunConfig, judge: Any = None) -> RunContext:
        parts = fake_parts(
            self.folder / "weights",
            grounder=lambda config, device: Undecided(),
            track=_track,
            fuse=_fuse,
            rank=_rank,
            judge=lambda config, device: judge,
        )
        context = RunContext(config, parts)
        context.plan = context.make_plan(scope=Scope(STAGES[: STAGES.index("merge") + 1]))
        commit_plan(context.config, context.plan, ())
        return context

    def run(self, config: RunConfig, judge: Any = None) -> RunContext:
        context = self.context(config, judge)
        assert not execute(context, InProcess(context)).failed
        return context


def outcomes(context: RunContext) -> list[str]:
    shards = [shard.name for shard in context.the_plan.shards]
    return [item.outcome for name in shards for item in context.judgements(name).values()]


def present(context: RunContext) -> list[int]:
    store = MaskStore(context.paths.masks)
    return [int((store.quality(*key)[1] == Status.PRESENT).sum()) for key in store.samples()]


def test_it_turns_a_choice_over_where_both_answers_agree(tmp_path: Path) -> None:
    site, judge = Site(tmp_path), FakeJudge("blue")
    context = site.run(site.config(*ON), judge)
    assert set(outcomes(context)) == {KEPT, TURNED_OVER}
    assert len(judge.requests) == 2 * len(outcomes(context))
    first, second = judge.requests[:2]
    assert first.text == second.text and first.key == second.key
    assert all(a != b for a, b in zip(first.numbers, second.numbers, strict=True))
    assert len(first.images) == 5 and len(first.scores) == len(first.numbers) == 2
    # Every sentence now has the blue object's masks, whatever its own colour is.
    store = MaskStore(context.paths.masks)
    for video in store.videos():
        masks = [store.read(video, expression)[0] for expression in store.expressions(video)]
        assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])
    assert not list(verify(context.config.run_folder, Contents()))


def test_what_it_said_is_shown(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    unclear = JudgeReply("I am not sure.", None, None)
    context = site.run(site.config(*ON), FakeJudge(answers=[unclear]))
    assert set(outcomes(context)) == {NO_ANSWER}
    told = explain_frame(context, "00000", ("clip00", "0"), None).lines()
    assert any("The judge (fake, prompt test-1)" in line and NO_ANSWER in line for line in told)
    assert any("it answered 'I am not sure.'" in line for line in told)
    write_report(context)
    page = context.paths.report.read_text()
    assert "answers that cannot be read" in page and "Judge, fake" in page
    counts = Ledger(context.paths.folder).receipt("judge", "00000").counts  # type: ignore[union-attr]
    assert counts["answers that cannot be read"] == counts["questions"] == 2 * counts["asked"]
    turned = site.run(site.config(*ON, out="blue"), FakeJudge("blue"))
    lines = explain_frame(turned, "00000", ("clip00", "0"), 0).lines()
    assert any(TURNED_OVER in line for line in lines)
    assert any(line.startswith("The judge's choice makes the frame present") for line in lines)
    receipt = Ledger(turned.paths.folder).receipt("judge", "00000")
    assert (
        receipt is not None and receipt.counts["tokens read"] == 100 * receipt.counts["questions"]
    )


def test_disagreement_changes_no_choice_and_lowers_weights(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    plain = site.run(site.config(out="plain"))
    numbers = [JudgeReply("1", (1,), 0.9), JudgeReply("1", (1,), 0.9)]
    context = site.run(site.config(*ON), FakeJudge(answers=numbers))
    assert set(outcomes(context)) == {INCONSISTENT}
    assert present(context) == present(plain)
    rows = zip(
        *(iter_quality(item.paths.part("rank", "00000")) for item in (plain, context)), strict=True
    )
    assert all(after.weight == pytest.approx(before.weight / 2) for before, after in rows)


def test_none_makes_a_sentence_absent(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    context = site.run(site.config(*ON), FakeJudge(answers=[JudgeReply("0", (), 0.9)]))
    assert set(outcomes(context)) == {MADE_ABSENT}
    assert set(present(context)) == {0}
    rows = list(iter_quality(context.paths.part("rank", "00000")))
    assert {row.reason for row in rows} == {"the judge sees it nowhere"}
    assert min(row.weight for row in rows) > 0.5


def test_sure_sentences_are_not_asked_about(tmp_path: Path) -> None:
    site, judge = Site(tmp_path, 1), FakeJudge("blue")
    plain = site.run(site.config(out="plain"))
    context = site.run(site.config(*ON, "judge.below=0.01"), judge)
    assert not judge.requests and outcomes(context) == []
    assert content_digest(context.paths.folder) == content_digest(plain.paths.folder)
    told = explain_frame(context, "00000", ("clip00", "0"), None).lines()
    assert any(line.startswith("The judge was not asked") for line in told)


def test_a_run_without_a_judge_knows_nothing_of_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    context = site.run(site.config())
    assert not (context.paths.folder / "judge").exists()
    receipt = Ledger(context.paths.folder).receipt("rank", "00000")
    assert receipt is not None
    assert "judge" not in receipt.basis["inputs"] and "judge" not in receipt.made_from
    expected = content_digest(context.paths.folder)
    # With a judge, what is behind it is made again; without it once more, all is as before.
    judged = site.run(site.config(*ON), FakeJudge("blue"))
    assert content_digest(judged.paths.folder) != expected
    again = site.run(site.config())
    assert content_digest(again.paths.folder) == expected
    after = Ledger(again.paths.folder).receipt("rank", "00000")
    assert after is not None and after.fingerprint == receipt.fingerprint
    assert "judge" in STAGE["rank"].reads
    with pytest.raises(ConfigError, match=r"judge\.source 'endpoint' with fuse\.level 'frame'"):
        site.config(*ON, "fuse.level=frame")


def test_masks_are_the_same_in_any_shards_and_after_a_crash(tmp_path: Path) -> None:
    site = Site(tmp_path, 3)
    expected = content_digest(site.run(site.config(*ON), FakeJudge("blue")).paths.folder)
    other = site.config(*ON, "shard_videos=2", "judge.concurrency=2", out="other")
    assert content_digest(site.run(other, FakeJudge("blue")).paths.folder) == expected

    class Broken(FakeJudge):
        def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
            if requests[0].key.video == "clip01":
                raise OSError("the device is lost")
            return super().ask(requests)

    config = site.config(*ON, "shard_videos=2", out="again")
    context = site.context(config, Broken("blue"))
    with pytest.raises(RunFailedError, match="the device is lost"):
        execute(context, InProcess(context))
    assert not (context.paths.folder / "judge" / "00000.zarr").exists()
    judge = FakeJudge("blue")
    assert content_digest(site.run(config, judge).paths.folder) == expected
    assert {request.key.video for request in judge.requests} == {"clip00", "clip01"}
