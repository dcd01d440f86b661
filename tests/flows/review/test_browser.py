"""The review page in a real browser: keys, reload, filters, and what the next run makes of it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.context import RunContext
from flows.labelling.executor import InProcess, execute
from flows.labelling.opened_run import opened_run
from flows.review.guarantee import true_j
from flows.review.session import Session
from pipeline.config import load_config
from pipeline.types import FrameIndex
from storage.decisions import read_decisions
from tests.fakes.stages import fake_parts
from tests.flows.conftest import HOSTILE, Site, finish
from tests.flows.review.browser import chromium, opened, served
from tests.flows.review.test_reviewed_run import WRONG, j_and_f, of_the_other_square

AXE = "axe_playwright_python"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def address(session: Session) -> Iterator[str]:
    with served(session) as found:
        yield found


def test_decisions_in_a_browser_raise_j_and_f(browser: Any, ran: Site) -> None:
    from playwright.sync_api import expect

    best = j_and_f(ran.folder)
    finish(ran, "fuse", fuse=of_the_other_square)
    assert j_and_f(ran.folder) < best - 5
    session = Session(RunContext(ran.config(), fake_parts(ran.weights)), "anna")
    with served(session) as address, opened(browser, address) as page:
        rows, verdict = page.locator("#rows li"), page.locator("#verdict")
        expect(rows).to_have_count(8)
        page.get_by_label("Words of the expression").fill("<script> SQUARE")
        expect(rows).to_have_count(4)
        page.get_by_label("Video", exact=True).fill(WRONG["video"])
        expect(rows).to_have_count(1)
        rows.get_by_role("button").click()
        expect(page.locator("#text")).to_have_text(HOSTILE)
        # Keys are for the page now, not for the field.
        page.keyboard.press("r")
        expect(verdict).to_have_text("Decided: rejected")
        page.keyboard.press("u")
        expect(verdict).to_have_text("")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#frame-name")).to_have_text("1 of 4")
        page.keyboard.press("x")
        expect(verdict).to_have_text("Decided: absent in frames 1 to 1")
        page.get_by_role("button", name="Undo").click()
        expect(verdict).to_have_text("")
        page.keyboard.press("2")
        expect(verdict).to_have_text(re.compile(r"Decided: track \d in frames 0 to the end"))
        page.reload()
        expect(verdict).to_have_text(re.compile(r"Decided: track \d in frames 0 to the end"))
        expect(rows).to_have_count(1)
        assert "token" not in page.url and "video=clip02" in page.url
        page.locator("select[name=decision]").select_option("undecided")
        expect(page.locator("#total")).to_have_text("0 of 8 samples")
    said = read_decisions(ran.folder / "review.jsonl").decisions
    assert [item.action for item in said] == ["reject", "undo", "absent", "undo", "choose"]
    ran.loaded.names.clear()
    plan, _ = finish(ran)
    assert [job.shard.name for job in plan.pending("rank")] == ["00001"]
    assert not plan.pending("fuse") and not ran.loaded.names
    assert j_and_f(ran.folder) == best


def click(page: Any, x: float, y: float, **options: Any) -> None:
    """Clicks on the frame, at shares of its width and height."""
    view = page.locator("#view")
    box, frame = view.bounding_box(), view.evaluate("item => [item.width, item.height]")
    scale = min(box["width"] / frame[0], box["height"] / frame[1])
    left, top = (box["width"] - frame[0] * scale) / 2, (box["height"] - frame[1] * scale) / 2
    place = {"x": left + x * frame[0] * scale, "y": top + y * frame[1] * scale}
    view.click(position=place, **options)


def test_a_frame_is_corrected_by_clicks_a_box_and_keys(
    browser: Any, address: str, ran: Site
) -> None:
    from playwright.sync_api import expect

    with opened(browser, address, viewport={"width": 900, "height": 500}) as page:
        drawn, verdict = page.locator("#drawn"), page.locator("#verdict")
        page.locator("#view:not(.waits)").wait_for()
        click(page, 0.5, 0.5)
        expect(drawn).to_contain_text("A new mask")
        click(page, 0.52, 0.5, modifiers=["Shift"])
        page.get_by_label("Clicks are outside").check()
        click(page, 0.48, 0.5)
        expect(drawn).to_contain_text("A new mask")
        page.keyboard.press("Enter")
        expect(verdict).to_have_text("Decided: a mask drawn in frame 0")
        expect(drawn).to_have_text("")
        # Another frame drops what was not taken; arrows still step after a click.
        page.get_by_label("Clicks are outside").uncheck()
        click(page, 0.5, 0.5)
        page.keyboard.press("Escape")
        page.locator("#view").scroll_into_view_if_needed()
        box = page.locator("#view").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 40, y + 30, steps=3)
        page.mouse.up()
        expect(drawn).to_contain_text("A new mask")
        page.keyboard.press("ArrowRight")
        expect(drawn).to_have_text("")
        # Without a pointer.
        page.keyboard.press("c")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("i")
        expect(drawn).to_contain_text("A new mask")
        page.keyboard.press("o")
        page.keyboard.press("u")
        expect(drawn).to_contain_text("A new mask")
        page.keyboard.press("Enter")
        expect(verdict).to_contain_text("a mask drawn in frame 1")
    first, second = read_decisions(ran.folder / "review.jsonl").decisions
    # A square of 12 x 12 pixels, without the two outside.
    assert int(first.drawn[0].mask.sum()) == 142
    rows, columns = np.nonzero(second.drawn[0].mask)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((20.8, 32), abs=1)


@pytest.mark.slow
def test_ids_with_markup_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    site, name = Site(tmp_path), "<img src=x onerror=alert(1)>"
    for path in sorted(site.data.rglob("clip00")):
        path.rename(path.with_name(name))
    for path in site.data.rglob("*.json"):
        path.write_text(path.read_text().replace("clip00", name).replace("the red", "<b>the red"))
    finish(site)
    session = Session(RunContext(site.config(), fake_parts(site.weights)), "<i>anna</i>")
    # A page that runs it shows a dialog, and a page that loads it writes an error.
    with served(session) as address, opened(browser, address) as page:
        page.get_by_label("Video", exact=True).fill(name)
        expect(page.locator("#rows li")).to_have_count(2)
        page.locator("#rows button").first.click()
        expect(page.locator("#facts")).to_contain_text(name)
        page.keyboard.press("x")
        expect(page.locator("#verdict")).to_contain_text("absent")
        page.locator("#why summary").click()
        expect(page.locator("#why-text")).to_contain_text(name)
        page.locator("details summary").last.click()
        expect(page.locator("#history")).to_contain_text("<i>anna</i>")
        assert page.locator("main img, main b, main i").count() == 0


def label_one_video(out: Path) -> RunContext:
    """Labels a video of `shapes` with the demo models, or does what is left of that. Movements are
    left out of account, so that the run is wrong about two sentences."""
    words = ["dataset.only_videos=['train00004']", "shapes.seed=77", "shapes.train_videos=5"]
    words += ["shapes.valid_videos=1", "student.enabled=false", f'out="{out}"']
    words += ["fuse.motion_weight=0"]
    with opened_run(load_config(None, words), lambda line: None) as context:
        execute(context, InProcess(context))
        return context


def middle_of_target(context: RunContext, video: str, expression: str) -> tuple[float, float]:
    """A point of the target in the first frame, where a person sees it."""
    found = {item.key.expression: item for item in context.reader().expressions(video)}
    truth = context.reader().truth(context.reader().video(video), found[expression], FrameIndex(0))
    assert truth is not None
    rows, columns = np.nonzero(truth)
    at = len(rows) // 2
    return (columns[at] + 0.5) / truth.shape[1], (rows[at] + 0.5) / truth.shape[0]


@pytest.mark.slow
def test_a_real_run_follows_what_was_decided_in_a_browser(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    context = label_one_video(tmp_path)
    before = j_and_f(context.paths.folder)
    # The run took the wrong object for these sentences; a person sees that the second is right.
    wrong = [sample for sample, j in true_j(context) if j < 0.1]
    assert wrong
    with served(Session(context, "anna")) as address, opened(browser, address) as page:
        for video, expression in wrong:
            page.goto(f"{page.url.partition('?')[0]}?at={video}&of={expression}")
            expect(page.locator("#facts")).to_contain_text(f"{video} {expression}")
            page.locator("#view:not(.waits)").wait_for()
            if expression == wrong[0][1]:
                page.keyboard.press("2")
                expect(page.locator("#verdict")).to_contain_text("in frames 0 to the end")
            else:
                click(page, *middle_of_target(context, video, expression))
                expect(page.locator("#drawn")).to_contain_text("A new mask")
                page.keyboard.press("Enter")
                expect(page.locator("#verdict")).to_contain_text("a mask drawn in frame 0")
    after = label_one_video(tmp_path)
    stages = [job.stage for job in after.the_plan.pending()]
    assert stages == ["rank", "merge", "evaluate", "report"]
    assert j_and_f(context.paths.folder) > before + 5


SIZES = {"wide": (1400, 900), "tablet": (768, 1024), "phone": (390, 844)}


def axe_problems(page: Any) -> list[str]:
    """What axe-core calls serious or worse."""
    pytest.importorskip(AXE, reason="no axe-core; install the extra `browser`")
    found = importlib.import_module(f"{AXE}.sync_playwright").Axe().run(page)
    return [
        f"{item['id']}: {node['html'][:160]}"
        for item in found.response["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, theme: str) -> None:
    for width, height in SIZES.values():
        size = {"width": width, "height": height}
        options = {"viewport": size, "color_scheme": theme, "bypass_csp": True}
        with opened(browser, address, **options) as page:
            page.keyboard.press("x")
            page.locator("#verdict", has_text="Decided").wait_for()
            for item in page.locator("details summary").all():
                item.click()
            page.locator("#why-text", has_text="frame 0").wait_for()
            assert axe_problems(page) == [], (theme, width)


NAME = """item => [item.tagName, item.id, item.name ?? "", item.textContent.trim()].join(" ")"""
CONTROLS = f"""() => {{
  const fields = "select, input:not([type=radio]), [name=show]:checked";
  const found = document.querySelectorAll(`a[href], button:enabled, summary, ${{fields}}`);
  return [...found].map({NAME});
}}"""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_nothing_overlaps_and_every_control_is_reached_by_tab(
    browser: Any, address: str, size: str
) -> None:
    width, height = SIZES[size]
    with opened(browser, address, viewport={"width": width, "height": height}) as page:
        page.locator("#view:not(.waits)").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wanted = page.evaluate(CONTROLS)
        assert len(wanted) > 20
        reached = set()
        for _ in range(200):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(f"({NAME})(document.activeElement ?? document.body)"))
        assert set(wanted) <= reached, set(wanted) - reached
