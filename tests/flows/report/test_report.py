import re

import numpy as np
import pytest

from flows.context import RunContext
from flows.report.charts import BINS, Histogram, histogram_bars, shares
from flows.report.draw import jpeg_url, overlay, predicted_frame
from flows.report.gather import read_quality
from flows.report.samples import markdown_page
from pipeline.types import Status
from tests.fakes.stages import fake_parts
from tests.flows.conftest import Site


def test_histogram_counts_every_number_once() -> None:
    chart = Histogram("x", "X", "", low=-1.0)
    for value in (-2.0, -1.0, 0.0, 1.0, 2.0, float("nan")):
        chart.add(value, is_kept=value > 0)
    assert sum(chart.kept) == 2
    assert sum(chart.dropped) == 3
    assert chart.mean == 0
    assert chart.dropped[0] == 2
    assert chart.kept[BINS - 1] == 2


def test_bars_stand_on_the_axis_and_stay_inside() -> None:
    chart = Histogram("x", "X", "")
    for value in np.linspace(0, 1, 50):
        chart.add(float(value), is_kept=value > 0.3)
    bars = histogram_bars(chart, 240, 80)
    assert bars
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
    assert page.count("<script>") == 1
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
