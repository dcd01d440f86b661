import json
import re
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from flows.context import RunContext
from flows.report import MOST_BYTES, MOST_BYTES_OF_STUDENT, _limited, write_report
from flows.report.charts import BINS, Histogram, histogram_bars, shares
from flows.report.draw import jpeg_url, overlay, predicted_frame
from flows.report.gather import Card, FrameView, read_quality
from flows.report.sample_rows import _json, sample_rows
from flows.report.samples import markdown_page
from flows.review.guarantee import make_guarantee
from pipeline.decisions import Decision, now
from pipeline.types import Status
from storage.decisions import append_decisions
from storage.sample_table import SampleTable, Texts
from tests.fakes.stages import fake_parts
from tests.flows.conftest import HOSTILE, Site, finish


def test_histogram_counts_every_number_once() -> None:
    chart = Histogram("x", "X", "", low=-1.0)
    for value in (-2.0, -1.0, 0.0, 1.0, 2.0, float("nan")):
        chart.add(value, Status.PRESENT if value > 0 else Status.UNKNOWN)
    assert sum(chart.kept) == 2
    assert sum(chart.dropped) == 3
    assert sum(chart.absent) == 0
    assert chart.mean == 0
    assert chart.dropped[0] == 2
    assert chart.kept[BINS - 1] == 2


def test_bars_stand_on_the_axis_and_stay_inside() -> None:
    chart = Histogram("x", "X", "")
    for value in np.linspace(0, 1, 50):
        chart.add(float(value), int(value * 2.99))
        chart.add(float(value), Status.ABSENT)
    bars = histogram_bars(chart, 240, 80)
    assert {bar.series for bar in bars} == {"kept", "absent", "dropped"}
    for bar in bars:
        assert 0 <= bar.x <= bar.x + bar.width <= 240
        assert -1e-9 <= bar.y <= bar.y + bar.height <= 80 + 1e-9
    assert histogram_bars(Histogram("x", "X", ""), 240, 80) == []
    assert Histogram("x", "X", "").mean is None
    assert shares([1, 4, 0]) == [25, 100, 0]
    assert shares([0]) == [0]


def test_overlay_keeps_the_mask_bright_and_the_rest_back() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    drawn = overlay(image, mask, (0, 0, 255), 120)
    assert drawn.shape == (80, 120, 3)
    assert drawn[40, 60].max() > 170
    assert drawn[2, 2].max() < 160
    unknown = predicted_frame(image, mask, Status.UNKNOWN, 60)
    absent = predicted_frame(image, mask, Status.ABSENT, 60)
    assert np.array_equal(absent, image)
    assert len(np.unique(unknown)) > 1
    assert jpeg_url(drawn).startswith("data:image/jpeg;base64,")


@pytest.fixture
def hostile(site: Site) -> Site:
    """A data set whose sentences are markup."""
    path = site.data / "meta_expressions" / "train" / "meta_expressions.json"
    text = path.read_text()
    path.write_text(text.replace("the red square", 'the red <script>alert(1)</script> \\"square'))
    return site


def test_the_page_is_whole_safe_and_needs_nothing_else(hostile: Site) -> None:
    hostile.run("report.samples=5")
    page = (hostile.folder / "report" / "index.html").read_text()
    assert page.count('<article class="card"') == 5
    assert 'data-total="8"' in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<script") == 2 and page.count("<script>") == 1
    assert '<html lang="en">' in page
    assert not re.search(r"<img(?![^>]* alt=)", page)
    context = RunContext(hostile.config(), fake_parts(hostile.weights))
    context.plan = context.make_plan()
    markdown = markdown_page(context)
    assert r"\<script\>" in markdown
    assert "data:image/jpeg" in markdown


def test_an_empty_run_still_has_a_page(site: Site) -> None:
    for frame in (site.data / "train" / "JPEGImages").rglob("*.jpg"):
        frame.write_bytes(b"broken")
    site.run()
    page = (site.folder / "report" / "index.html").read_text()
    assert "No masks yet" in page
    assert page.count("not readable as an image") == 4
    assert "no ground truth" in site.shown


def test_figures_are_of_what_rank_has_finished(site: Site) -> None:
    site.run()
    context = RunContext(site.config(), fake_parts(site.weights))
    whole = read_quality(context, [("clip00", "0")])
    assert whole.frames == 4 * 2 * 5
    assert list(whole.weights) == [("clip00", "0")]
    # The merged table is as old as the last run that came to its end.
    context.paths.quality.unlink()
    (site.folder / "ledger" / "rank" / "00001.json").unlink()
    assert read_quality(context, []).frames == whole.frames / 2


def test_every_sample_is_a_row_worst_first_and_search_is_over_its_sentence(ran: Site) -> None:
    context = RunContext(ran.config("report.samples=1"), fake_parts(ran.weights))
    context.plan = context.make_plan()
    assert write_report(context)["samples"] == 1
    page = (ran.folder / "report" / "index.html").read_text()
    assert page.count('<article class="card"') == 1
    [text] = re.findall(r'<script type="application/json" id="all-data">(.*?)</script>', page)
    found = json.loads(text)
    assert "<" not in text and found["kinds"] == [""]
    assert len(found["rows"]) == 8
    sentences = {row[0] for row in found["rows"]}
    assert HOSTILE in sentences
    # The blue square is gone from the last of five frames.
    assert ["the blue square moving left", "clip00", "1", 0, 0.8, 4, 1, 0] in found["rows"]
    assert "card.dataset.text" in page and "textContent.toLowerCase" not in page


def test_images_take_up_a_limited_number_of_bytes() -> None:
    views = [FrameView("0", "x" * 60, "y" * 40, "present", "", None)]
    some = [Card("v", str(n), "", None, 0.5, 1, 0, None, views, None, []) for n in range(9)]
    shown: Counter[str] = Counter()
    assert len(list(_limited(iter(some), 350, shown, "samples"))) == shown["samples"] == 3
    assert len(list(_limited(iter(some), 10, Counter(), "samples"))) == 1


def test_a_page_of_many_samples_is_small() -> None:
    count = 12_913
    videos = [f"0a1b2c3d4{n // 4:04x}" for n in range(count)]
    table = SampleTable(
        Texts(videos),
        Texts([str(n % 4) for n in range(count)]),
        *(np.full(count, 30) for _ in range(3)),
        *(np.full(count, 0.123456) for _ in range(3)),
        reasons=(),
        reason_bits=np.zeros(count, np.uint64),
    )
    samples = list(zip(table.video, table.expression, strict=True))
    texts = dict.fromkeys(samples, "a person in a red shirt riding a horse to the left side")
    data = _json(table, list(range(count)), samples, texts, {})
    templates = sum(path.stat().st_size for path in Path("flows/report/templates").iterdir())
    assert len(data) + templates + MOST_BYTES + MOST_BYTES_OF_STUDENT < 5_000_000
    assert len(json.loads(data)["rows"]) == count


def test_a_guarantee_is_shown_while_it_is_of_these_masks(ran: Site) -> None:
    make_guarantee(ran.config(), "truth", 0.8, 0.5)
    context = RunContext(ran.config(), fake_parts(ran.weights))
    context.plan = context.make_plan()
    write_report(context)
    page = (ran.folder / "report" / "index.html").read_text()
    assert "8 labelled samples in 4 videos" in page
    made = Decision("anna", now(), "clip00", "0", "reject")
    append_decisions(ran.folder / "review.jsonl", [made])
    finish(ran)
    assert "labelled samples" not in (ran.folder / "report" / "index.html").read_text()


def test_a_damaged_guarantee_is_told_and_left_out(ran: Site) -> None:
    (ran.folder / "guarantee.parquet").write_bytes(b"damaged")
    context = RunContext(ran.config("report.samples=0"), fake_parts(ran.weights))
    context.plan = context.make_plan()
    context.progress = said = mock.Mock()
    write_report(context)
    assert "shows no guarantee" in said.say.call_args.args[0]
    assert "labelled samples" not in (ran.folder / "report" / "index.html").read_text()


def test_a_page_of_very_many_samples_lists_the_worst(
    ran: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RunContext(ran.config("report.samples=1"), fake_parts(ran.weights))
    context.plan = context.make_plan()
    whole = sample_rows(context)
    monkeypatch.setattr(sys.modules[sample_rows.__module__], "MOST_ROWS", 3)
    rows = sample_rows(context)
    assert rows.samples == whole.samples[:3]
    assert json.loads(rows.data)["rows"] == json.loads(whole.data)["rows"][:3]
    assert rows.total == whole.total == 8
    write_report(context)
    assert "The worst 3 of 8 samples" in (ran.folder / "report" / "index.html").read_text()
