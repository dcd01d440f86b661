"""Makes a page with a few overlays for the Prefect UI."""

from __future__ import annotations

from flows.context import RunContext
from flows.finished_results import FinishedMasks
from flows.report.gather import cards, pick_samples
from pipeline.text import markdown_escaped

SAMPLES = 6
FRAMES = 4


def markdown_page(context: RunContext) -> str:
    """Returns Markdown with overlays of some samples, evenly spread; empty without masks."""
    store = FinishedMasks(context.paths)
    picked, total = pick_samples(store, SAMPLES)
    parts = []
    for card in cards(context, context.reader(), store, picked, None, FRAMES):
        images = " ".join(f"![{markdown_escaped(view.name)}]({view.image})" for view in card.frames)
        found = f"mask in {card.present:.0%} of the frames, absent in {card.absent:.0%}"
        text, video = markdown_escaped(card.text), markdown_escaped(card.video)
        parts.append(f"### {text}\n\n{video}, {found}\n\n{images}")
    if not parts:
        return ""
    where = f"The whole report: {markdown_escaped(str(context.paths.report))}"
    return f"{len(parts)} of {total} samples. {where}\n\n" + "\n\n".join(parts)
