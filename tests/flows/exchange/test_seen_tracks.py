"""Tracks as a run's sentences judge them: figures of `explain`, numbers kept through the video."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from flows.context import RunContext
from flows.exchange.export import export_run
from flows.exchange.seen_tracks import SeenTracks, seen_tracks
from flows.report import write_report
from flows.review.explain import explain_frame
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site

SHARD = "00000"


def context_of(ran: Site, *overrides: str) -> RunContext:
    context = RunContext(ran.config(*overrides), fake_parts(ran.weights))
    context.plan = context.make_plan()
    return context


@pytest.fixture
def seen(ran: Site) -> SeenTracks:
    context = context_of(ran)
    video = context.reader().video("clip00")
    found = seen_tracks(context, SHARD, video.id, (video.height, video.width))
    assert found is not None
    return found


def test_scores_are_those_of_explain(ran: Site, seen: SeenTracks) -> None:
    for expression in ("0", "1"):
        told = explain_frame(seen.context, SHARD, ("clip00", expression), 0).found
        assert seen.judged(expression).tracks == told.tracks
        [chosen] = seen.chosen(expression)
        assert f"track {chosen} (" in seen.words(expression)
    assert seen.chosen("0") != seen.chosen("1"), "two objects"


def test_a_track_keeps_its_number_and_is_where_its_object_is(seen: SeenTracks) -> None:
    reader = seen.context.reader()
    video = reader.video("clip00")
    for expression in reader.expressions("clip00"):
        [track] = seen.chosen(expression.key.expression)
        for frame in range(len(video)):
            numbers, masks = seen.shown(frame, {track})
            truth = reader.truth(video, expression, frame)  # type: ignore[arg-type]
            assert truth is not None
            assert numbers == ([track] if truth.any() else [])
            for mask in masks:
                assert (mask & truth).sum() / (mask | truth).sum() > 0.5


def test_without_tracks_nothing_is_shown(ran: Site) -> None:
    size = (10, 10)
    assert seen_tracks(context_of(ran, "fuse.level=frame"), SHARD, "clip00", size) is None
    context = context_of(ran)
    context.paths.part("track", SHARD).unlink()
    assert seen_tracks(context, SHARD, "clip00", size) is None


def test_the_exported_video_shows_the_tracks(ran: Site, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    export_run(ran.config(), "video", out, Console(quiet=True), "masks", False)
    for name in ("overlay.mp4", "tracks.mp4"):
        with av.open(str(out / "clip00" / name)) as file:
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert len(frames) == 5, name
    # The legend is all that is alike in both frames.
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50


def test_a_card_shows_tracks_scores_and_votes(ran: Site) -> None:
    context = context_of(ran, "report.samples=8")
    write_report(context)
    page = (ran.folder / "report" / "index.html").read_text()
    cards = page.split('<article class="card"')[1:]
    assert len(cards) == 8
    for card in cards:
        assert re.search(r"<summary>\d+ tracks?: \d+ chosen</summary>", card)
        assert card.count("with its tracks") == 3
        assert "of the vote" in card
        assert re.search(r'class="chosen"><th scope="row"><span class="key"', card)
    assert "<script>alert" not in page


def test_a_damaged_store_leaves_the_card_without_tracks(ran: Site) -> None:
    context = context_of(ran, "report.samples=8")
    for place in (ran.folder / "segment").rglob("*.json"):
        if "clip00" in str(place):
            place.write_text("{")
    write_report(context)
    page = (ran.folder / "report" / "index.html").read_text()
    cards = page.split('<article class="card"')[1:]
    assert len(cards) == 8
    assert ["with its tracks" in card for card in cards] == [
        'data-video="clip00"' not in card for card in cards
    ]
