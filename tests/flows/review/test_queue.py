"""The order of samples, and filters of them; a table of 100,000 is held in columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.evaluation.expected_gain import expected_gain
from flows.review.queue import Filters, Queue, decision_of
from pipeline.decisions import Span, Verdict
from storage.sample_table import SampleTable, Texts, read_samples, read_texts
from storage.tables import QUALITY_SCHEMA, WRITING, footer, write_quality
from tests.fakes.stages import FrameQuality

SAMPLES = 100_000


def row(video: str, expression: str, frame: int, weight: float, status: int = 1, **more: object):  # type: ignore[no-untyped-def]
    figures = {"agreement": 0.5, "reason": ""} | more
    return FrameQuality(
        video,
        expression,
        frame,
        str(frame),
        0.5,
        0.5,
        0.5,
        figures["agreement"],
        0.5,
        0.5,
        weight,
        status,
        figures["reason"],  # type: ignore[arg-type]
    )


def small(path: Path) -> Queue:
    rows = [
        row("a", "0", 0, 0.9),
        row("a", "0", 1, 0.7),
        row("a", "1", 0, 0.2),
        row("a", "1", 1, 0.0, 0, reason="broke"),
        row("b", "0", 0, 0.5, 2, reason="gone", agreement=float("nan")),
        row("b", "1", 0, 0.2),
        row("b", "1", 1, 0.4),
    ]
    write_quality(path, rows)
    texts = {("a", "0"): "the star", ("a", "1"): "A red STAR", ("b", "0"): "a dog", ("b", "1"): ""}
    return Queue.of(read_samples([path]), texts, {("a", "1"): "motion", ("b", "0"): None})


def names(queue: Queue, **filters: object) -> list[str]:
    rows, total = queue.page(Filters(**filters), 0, 10)  # type: ignore[arg-type]
    assert total == len(rows)
    return [item.video + item.expression for item in rows]


def test_gain_is_probability_wrong_times_frames_times_doubt(tmp_path: Path) -> None:
    queue = small(tmp_path / "quality.parquet")
    doubt = 1 - 2 / 3 * 0.5
    expected = [0.2 * 2 * doubt, 0.8 * 2 * doubt, 0.5 * 1 * 1, 0.7 * 2 * doubt]
    assert expected_gain(queue.table) == pytest.approx(expected)
    assert names(queue) == ["a1", "b1", "b0", "a0"]


def test_filters_are_of_the_expression_alone_and_add_up(tmp_path: Path) -> None:
    queue = small(tmp_path / "quality.parquet")
    assert names(queue, text="star") == ["a1", "a0"]
    assert names(queue, text="star RED") == ["a1"]
    assert names(queue, text="[") == []
    assert names(queue, kind="motion") == ["a1"]
    assert names(queue, video="b") == ["b1", "b0"]
    assert names(queue, low=0.25, high=0.5) == ["b1", "b0"]
    assert names(queue, reason="gone") == ["b0"]
    assert names(queue, reason="broke", video="b") == names(queue, reason="no such") == []
    assert queue.kinds_and_reasons() == (["motion"], ["broke", "gone"])


def test_decisions_are_counted_and_filtered(tmp_path: Path) -> None:
    queue = small(tmp_path / "quality.parquet")
    queue.decide({("a", "1"): Verdict("accept"), ("gone", "9"): Verdict("reject")})
    queue.decide_one(("b", "0"), Verdict(spans=(Span(0, None, 3),)))
    assert names(queue, decision="accept") == ["a1"]
    assert names(queue, decision="corrected") == ["b0"]
    assert names(queue, decision="undecided") == ["b1", "a0"]
    assert queue.counts() == {"undecided": 2, "accept": 1, "reject": 0, "corrected": 1}
    assert queue.find(("b", "0")).verdict == "track 3 in frames 0 to the end"
    queue.decide_one(("a", "1"), Verdict())
    assert decision_of(Verdict()) == queue.find(("a", "1")).decision == "undecided"


def test_proposals_are_undecided_and_spread_over_videos(tmp_path: Path) -> None:
    path = tmp_path / "quality.parquet"
    write_quality(
        path, [row("a", str(n), 0, 0.1 + n / 100) for n in range(9)] + [row("b", "0", 0, 0.2)]
    )
    queue = Queue.of(read_samples([path]), {}, {})
    assert names(queue)[:2] == ["a0", "a1"]
    proposed = [item.video + item.expression for item in queue.proposals(3)]
    assert proposed == ["a0", "b0", "a1"]
    queue.decide({("a", "0"): Verdict("accept")})
    assert "a0" not in [item.video + item.expression for item in queue.proposals(99)]


def test_proposals_are_spread_over_kinds(tmp_path: Path) -> None:
    path = tmp_path / "quality.parquet"
    write_quality(path, [row(f"v{n}", "0", 0, 0.1 + n / 1000) for n in range(4)])
    kinds = {(f"v{n}", "0"): "place" if n < 3 else "motion" for n in range(4)}
    queue = Queue.of(read_samples([path]), {}, kinds)
    assert [item.video for item in queue.proposals(4)] == ["v0", "v3", "v1", "v2"]


def test_a_sample_is_whole_where_it_spans_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sample_table._BATCH", 2)
    rows = [row("a", "0", n, 0.5, reason="x" if n == 4 else "") for n in range(5)]
    write_quality(tmp_path / "one.parquet", rows + [row("a", "1", n, 1.0) for n in range(3)])
    write_quality(tmp_path / "two.parquet", [row("b", "1", 0, 1.0)])
    table = read_samples([tmp_path / "one.parquet", tmp_path / "two.parquet"])
    assert list(zip(table.video, table.expression, table.frames.tolist(), strict=True)) == [
        ("a", "0", 5),
        ("a", "1", 3),
        ("b", "1", 1),
    ]
    assert table.weight.tolist() == [0.5, 1, 1]
    assert [bool(bits) for bits in table.reason_bits] == [True, False, False]
    assert len(read_samples([])) == 0


def big_table(path: Path, samples: int = SAMPLES, frames: int = 4) -> None:
    """Writes a quality table with plain columns, as fast as Arrow can."""
    rows = samples * frames
    number = np.repeat(np.arange(samples), frames)
    columns = {name: np.full(rows, 0.5) for name in QUALITY_SCHEMA.names[4:11]}
    columns["weight"] = np.random.default_rng(0).random(rows)
    video = pa.array([f"video{n // 10:05d}" for n in range(samples)]).take(pa.array(number))
    expression = pa.array([str(n % 10) for n in range(samples)]).take(pa.array(number))
    words = pa.array(["", "in doubt"]).take(pa.array((number % 2).astype(np.int64)))
    names = pa.array([f"{t:05d}" for t in range(frames)]).take(
        pa.array(np.tile(np.arange(frames), samples))
    )
    frame = np.tile(np.arange(frames, dtype=np.int32), samples)
    status = np.ones(rows, np.int8)
    table = pa.Table.from_arrays(
        [video, expression, frame, names, *columns.values(), status, words], schema=QUALITY_SCHEMA
    )
    pq.write_table(table.replace_schema_metadata(footer("quality", {})), path, **WRITING)


def test_a_hundred_thousand_samples_are_columns_and_a_page_reads_no_file(tmp_path: Path) -> None:
    path = tmp_path / "quality.parquet"
    big_table(path)
    table = read_samples([path])
    samples = zip(table.video, table.expression, strict=True)
    queue = Queue.of(table, {item: f"the thing {n}" for n, item in enumerate(samples)}, {})
    path.unlink()
    assert len(queue) == SAMPLES
    arrays = [value for value in vars(table).values() if isinstance(value, np.ndarray)]
    assert sum(item.nbytes for item in arrays) <= 80 * SAMPLES
    assert all(isinstance(x, Texts) for x in (table.video, table.expression, queue.texts))
    rows, total = queue.page(Filters(text="77777", reason="in doubt"), 0, 50)
    assert (total, rows[0].text) == (1, "the thing 77777")
    rows, total = queue.page(Filters(), 99_990, 50)
    assert (len(rows), total) == (10, SAMPLES)
    assert rows[-1].gain == pytest.approx(queue.gain.min(), abs=1e-4)


def test_an_empty_run_has_an_empty_queue() -> None:
    none = np.zeros(0)
    empty = SampleTable(
        Texts([]),
        Texts([]),
        *([none.astype(np.int64)] * 3),
        *([none] * 3),
        (),
        none.astype(np.uint64),  # type: ignore[arg-type]
    )
    queue = Queue.of(empty, {}, {})
    assert queue.page(Filters(text="x", decision="accept"), 0, 10) == ([], 0)
    assert queue.proposals(5) == []


def test_sentences_are_the_originals(ran) -> None:  # type: ignore[no-untyped-def]
    found = list(read_texts(sorted((ran.folder / "augment").glob("*.parquet"))))
    assert len(found) == 8
    assert found[1] == ("clip00", "1", "the blue square moving left")
