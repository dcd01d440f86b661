"""Estimates the work of a run before it starts: passes of models, tokens, hours and money.

Counts come from the data set and the configuration. Rates come from the run's receipts: where a
stage has none, its rate was not measured, and no time is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.planning.plan import Job, Plan
from flows.planning.time_estimate import in_words
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.store_urls import url_of
from pipeline.types import Receipt

SAMPLE = 100
"""Videos that are looked at; more are estimated from these."""

SAMPLE_OF_STORE = 8
"""The same of a data set in an object store: these are downloaded."""

PROMPT_TOKENS = 700
"""About what the instructions of a captioner take, frames aside."""

BOX_PROMPT_TOKENS, BOX_ANSWER_TOKENS = 120, 50
"""About what a question for boxes takes, its frame aside, and its answer."""

JUDGE_PROMPT_TOKENS = 200
"""About what a question to a judge takes, its frames aside."""

PIXELS_OF_TOKEN = 28 * 28
"""Of Qwen2.5-VL; other models cut frames otherwise."""

RATE_SETTINGS = (
    "source", "endpoint", "endpoint_model", "positives", "negatives", "frames", "input",
    "max_pixels", "max_video_pixels", "max_new_tokens", "backbone", "dtype", "joint", "short_side",
    "long_side", "model",
)  # fmt: skip
"""Settings of a stage on which its rate depends, or how much there is to do."""

BUSY = "seconds busy"
"""The name of a receipt's count (``flows/timing.py``)."""


@dataclass(frozen=True)
class Size:
    """What is to be labelled.

    Attributes:
        videos: number of videos.
        frames, expressions: of all videos together.
        keys: frames that the grounder sees.
        pairs: sum over the videos of key frames times expressions.
        pixels: of a frame, mean over the videos.
    """

    videos: int = 0
    frames: float = 0.0
    expressions: float = 0.0
    keys: float = 0.0
    pairs: float = 0.0
    pixels: float = 0.0


@dataclass(frozen=True)
class Price:
    """What a million tokens cost."""

    read: float
    written: float


def work_lines(
    config: RunConfig, plan: Plan, reader: DatasetReader, price: Price | None = None
) -> list[str]:
    """Returns a line for each stage that has a model and something to do."""
    lines = []
    told = (("augment", _augment), ("ground", _ground), ("segment", _segment), ("judge", _judge))
    for stage, tell in told:
        jobs = plan.jobs.get(stage, ())
        left = [video for job in jobs if not job.done for video in job.shard.videos]
        if stage not in plan.stages or not left:
            continue
        receipts = [job.receipt for job in jobs if job.receipt and _alike(job)]
        words = tell(config, _size(reader, left, config), receipts, price)
        if words:
            lines.append(f"Work of {stage}: {words}")
    return lines


def _alike(job: Job) -> bool:
    """Returns whether a job's receipt is of the model and the settings that its work has now."""
    assert job.receipt is not None
    before, now = job.receipt.basis, job.basis
    settings = [basis.get("config", {}) for basis in (before, now)]
    return before.get("weights") == now.get("weights") and all(
        settings[0].get(name) == settings[1].get(name) for name in RATE_SETTINGS
    )


def _augment(
    config: RunConfig, size: Size, receipts: Sequence[Receipt], price: Price | None
) -> str:
    section = config.augment
    if section.source not in ("model", "endpoint"):
        return ""
    read, written, measured = _tokens_of_request(config, size, receipts)
    total = read * size.expressions, written * size.expressions
    most = "" if measured else "at most "
    words = (
        f"{size.expressions:,.0f} requests; about {total[0] / 1e6:,.2f} million tokens read and"
        f" {most}{total[1] / 1e6:,.2f} written"
    )
    words += " (as measured so far)" if measured else " (not measured; counted for Qwen2.5-VL)"
    if price is not None:
        cost = (total[0] * price.read + total[1] * price.written) / 1e6
        words += f"; {most}{cost:,.2f} at the given price"
    return f"{words}; {_time(config, receipts, 'expressions', size.expressions)}"


def _tokens_of_request(
    config: RunConfig, size: Size, receipts: Sequence[Receipt]
) -> tuple[float, float, bool]:
    """Returns tokens read and written for an expression, and whether they were measured."""
    asked = _count(receipts, "expressions")
    if asked and (read := _count(receipts, "tokens read")):
        return read / asked, _count(receipts, "tokens written") / asked, True
    section = config.augment
    pixels = min(size.pixels, section.pixels_of_frame or size.pixels)
    # Two frames of a video share their tokens.
    frames = -(-section.frames // 2) if section.input == "video" else section.frames
    read = frames * pixels / PIXELS_OF_TOKEN + PROMPT_TOKENS
    return read, float(section.max_new_tokens), False


def _ground(config: RunConfig, size: Size, receipts: Sequence[Receipt], price: Price | None) -> str:
    if config.ground.source == "annotation":
        return ""
    each, measured = _sentences(config, size, receipts)
    if config.ground.source == "mllm":
        return _asked_for_boxes(config, size, receipts, price, each, measured)
    # The last pass of a frame is half full, on average.
    joint = config.ground.joint
    passes = max(size.keys, (size.pairs * each + size.keys * (joint - 1) / 2) / joint)
    shared = "a sentence" if joint == 1 else f"{joint} sentences"
    said = f"about {each:.1f}, as measured," if measured else f"at most {each:.0f}"
    most = "about" if measured and not config.ground.screen else "at most"
    return (
        f"{most} {passes:,.0f} transformer passes: {said} sentences for each of"
        f" {size.expressions:,.0f} expressions, {size.keys:,.0f} frames, {shared} a pass;"
        f" {_time(config, receipts, 'passes', passes)}"
    )


def _asked_for_boxes(
    config: RunConfig,
    size: Size,
    receipts: Sequence[Receipt],
    price: Price | None,
    each: float,
    measured: bool,
) -> str:
    """Returns what it costs to ask a multimodal language model for each sentence and key frame."""
    section, requests = config.ground.mllm, size.pairs * each
    read = min(size.pixels, section.max_pixels) / PIXELS_OF_TOKEN + BOX_PROMPT_TOKENS
    total = requests * read, requests * BOX_ANSWER_TOKENS
    most = "about" if measured and not config.ground.screen else "at most"
    words = (
        f"{most} {requests:,.0f} requests: a sentence and one of {size.keys:,.0f} frames each;"
        f" {total[0] / 1e6:,.2f} million tokens read and {total[1] / 1e6:,.2f} written (not"
        " measured; counted for Qwen2.5-VL)"
    )
    if price is not None:
        cost = (total[0] * price.read + total[1] * price.written) / 1e6
        words += f"; {cost:,.2f} at the given price"
    return f"{words}; {_time(config, receipts, 'passes', requests)}"


def _judge(config: RunConfig, size: Size, receipts: Sequence[Receipt], price: Price | None) -> str:
    """Returns the most that it can cost to ask a judge twice about each sentence."""
    section = config.judge
    if section.source == "stand_in":
        return ""
    asked, sentences = _count(receipts, "questions"), _count(receipts, "sentences")
    most = 2 * size.expressions
    read, written, measured = section.frames * min(size.pixels, section.max_pixels), 0.0, False
    read = read / PIXELS_OF_TOKEN + JUDGE_PROMPT_TOKENS
    written = float(section.max_new_tokens)
    if asked and (tokens := _count(receipts, "tokens read")):
        read, written, measured = tokens / asked, _count(receipts, "tokens written") / asked, True
    words = f"at most {most:,.0f} questions, two about each of {size.expressions:,.0f} sentences"
    if sentences:
        words += f" (about {asked / sentences * size.expressions:,.0f} at the share asked so far)"
    words += f"; at most {most * read / 1e6:,.2f} million tokens read and"
    words += f" {most * written / 1e6:,.2f} written"
    words += " (as measured so far)" if measured else " (not measured; counted for Qwen2.5-VL)"
    if price is not None:
        cost = most * (read * price.read + written * price.written) / 1e6
        words += f"; at most {cost:,.2f} at the given price"
    return f"{words}; {_time(config, receipts, 'questions', most)}"


def _segment(
    config: RunConfig, size: Size, receipts: Sequence[Receipt], price: Price | None
) -> str:
    frames = _count(receipts, "frames")
    words = f"{size.frames:,.0f} frames"
    if frames and (masks := _count(receipts, "masks")):
        words += f", about {masks / frames * size.frames:,.0f} boxes decoded"
    return f"{words}; {_time(config, receipts, 'frames', size.frames)}"


def _sentences(config: RunConfig, size: Size, receipts: Sequence[Receipt]) -> tuple[float, bool]:
    """Returns the different sentences of an expression, and whether they were measured."""
    videos = sum(len(item.videos) - len(item.skipped) for item in receipts)
    if videos and size.expressions and (texts := _count(receipts, "texts")):
        return texts / videos / (size.expressions / size.videos), True
    section = config.augment
    if section.source == "none":
        return 1.0, False
    return float(section.positives + section.negatives), False


def _time(config: RunConfig, receipts: Sequence[Receipt], unit: str, work: float) -> str:
    """Returns the time that some work takes at the rate of the receipts, in words."""
    done = [item for item in receipts if item.counts.get(unit) and item.counts.get(BUSY)]
    busy = _count(done, BUSY)
    if not busy:
        return "its rate was not measured: label a few videos first, with --only-videos"
    name = "GPU time" if config.device.startswith("cuda") else "time"
    rate = _count(done, unit) / busy
    return f"{in_words(work / rate)} of {name} at the {rate:,.3g} {unit} a second so far"


def _count(receipts: Sequence[Receipt], name: str) -> float:
    return sum(item.counts.get(name, 0.0) for item in receipts)


def _size(reader: DatasetReader, videos: Sequence[str], config: RunConfig) -> Size:
    """Returns the size of some videos. Those that cannot be read count as the others do."""
    root, every = config.dataset.root, config.ground.every
    sample = SAMPLE if root is None or url_of(root) is None else SAMPLE_OF_STORE
    looked = videos[:: max(1, -(-len(videos) // sample))]
    frames = expressions = keys = pairs = pixels = 0.0
    known = 0
    for video_id in looked:
        try:
            video, said = reader.video(video_id), len(reader.expressions(video_id))
        except InputError:
            continue
        seen = -(-(len(video) - 1) // every) + 1 if len(video) else 0
        known += 1
        frames += len(video)
        expressions += said
        keys += seen
        pairs += seen * said
        pixels += video.height * video.width
    if not known:
        return Size(len(videos))
    more = len(videos) / known
    return Size(
        len(videos), frames * more, expressions * more, keys * more, pairs * more, pixels / known
    )
