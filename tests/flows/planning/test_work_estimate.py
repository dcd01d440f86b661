"""What a run costs, from the data set, the settings and what was measured so far."""

from __future__ import annotations

from typing import Any

from flows.planning.plan import Job, Plan, Shard
from flows.planning.work_estimate import Price, work_lines
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.types import Receipt

VIDEOS = [f"v{number}" for number in range(12)]


class Video:
    height, width = 280, 560

    def __len__(self) -> int:
        return 11


class Reader:
    """Twelve videos of 11 frames and 3 expressions; one cannot be read."""

    def video(self, video_id: str) -> Video:
        if video_id == "v5":
            raise InputError(video_id, "broken", "a video", "fix it")
        return Video()

    def expressions(self, video_id: str) -> list[int]:
        return [1, 2, 3]


def told(
    stage: str,
    words: list[str],
    price: Price | None = None,
    before: dict[str, Any] | None = None,
    **counts: float,
) -> str:
    """The line of a stage, with one done shard of four videos if there are counts of it."""
    reader: Any = Reader()
    config = load_config(None, words)
    basis = {"config": {"source": "model", "joint": config.ground.joint}}
    jobs = []
    for number in range(3):
        shard = Shard(f"{number}", tuple(VIDEOS[4 * number : 4 * number + 4]))
        receipt = None
        if counts and number == 0:
            named = {name.replace("_", " "): value for name, value in counts.items()}
            receipt = Receipt(
                stage, shard.name, "", shard.videos, counts=named, basis=before or basis
            )
        state: Any = "done" if receipt else "due"
        jobs.append(Job(stage, shard, "", state, receipt=receipt, basis=basis))
    plan = Plan((), {stage: tuple(jobs)}, stages=(stage,))
    [line] = work_lines(config, plan, reader, price) or [""]
    return line


ENDPOINT = ["augment.source=endpoint", "augment.endpoint=http://x/v1", "augment.endpoint_model=m"]


def test_passes_are_counted_before_anything_ran() -> None:
    words = ["ground.joint=1", "augment.positives=6", "augment.negatives=48"]
    line = told("ground", words)
    assert line.startswith(
        "Work of ground: at most 21,384 transformer passes: at most 54 sentences"
    )
    assert "36 expressions, 132 frames, a sentence a pass" in line
    assert line.endswith("its rate was not measured: label a few videos first, with --only-videos")
    keyed = told("ground", [*words, "ground.every=5"])
    assert "at most 5,832 transformer passes" in keyed and "36 frames" in keyed
    assert told("ground", ["ground.source=annotation"]) == ""


def test_what_was_measured_is_used() -> None:
    words = ["ground.joint=8", "device=cuda"]
    line = told("ground", words, texts=48.0, passes=100.0, seconds_busy=50.0)
    # 8 videos of 11 frames; 12 sentences a video: one full pass and one half full.
    assert "about 170 transformer passes: about 4.0, as measured" in line
    assert line.endswith("1 min 25 s of GPU time at the 2 passes a second so far")


def test_tokens_and_money_are_said() -> None:
    line = told("augment", [*ENDPOINT, "augment.max_pixels=78400"], Price(1.0, 10.0))
    # 4 frames of 100 tokens, and the instructions, for 36 expressions.
    assert "36 requests; about 0.04 million tokens read and at most 0.04 written" in line
    assert "not measured; counted for Qwen2.5-VL" in line
    assert "at most 0.41 at the given price" in line
    tokens = {"tokens_read": 20_000.0, "tokens_written": 5_000.0}
    line = told("augment", ENDPOINT, Price(1.0, 10.0), None, expressions=10.0, **tokens)
    assert "24 requests; about 0.05 million tokens read and 0.01 written (as measured" in line
    assert told("augment", []) == "", "rules cost nothing"


def test_two_frames_of_a_video_share_their_tokens() -> None:
    words = ["augment.source=model", "augment.frames=4", "augment.max_video_pixels=313600"]
    # 100 tokens a frame, and the instructions.
    assert "about 0.04 million tokens read" in told("augment", words, None)
    video = [*words, "augment.input=video"]
    assert "about 0.03 million tokens read" in told("augment", video, None)


def test_questions_for_boxes_are_counted() -> None:
    words = ["ground.source=mllm", "ground.mllm.endpoint=http://x/v1", "ground.every=5"]
    words += ["ground.mllm.endpoint_model=m", "ground.mllm.coordinates=pixels"]
    line = told("ground", [*words, "augment.positives=2", "augment.negatives=0"], Price(1.0, 10.0))
    # 36 frames with 3 expressions of 2 sentences; 200 tokens a frame, and the question.
    assert "at most 216 requests: a sentence and one of 36 frames each" in line
    assert "0.07 million tokens read and 0.01 written" in line
    assert "0.18 at the given price" in line


def test_a_rate_of_another_model_is_none() -> None:
    found = {"frames": 44.0, "masks": 440.0, "seconds_busy": 11.0}
    line = told("segment", [], **found)
    assert "88 frames, about 880 boxes decoded; 22 s of time at the 4 frames a second" in line
    line = told("segment", [], before={"weights": "other"}, **found)
    assert line.endswith("88 frames; its rate was not measured: label a few videos first, with"
                         " --only-videos")  # fmt: skip


def test_questions_to_a_judge_are_bounded() -> None:
    words = ["judge.source=endpoint", "judge.endpoint=http://h/v1", "judge.endpoint_model=m"]
    line = told("judge", [*words, "judge.frames=2"], Price(1.0, 2.0))
    assert "at most 72 questions, two about each of 36 sentences" in line
    assert "not measured; counted for Qwen2.5-VL" in line and "at the given price" in line
    counts = {"questions": 6.0, "sentences": 12.0, "tokens_read": 6000.0, "seconds_busy": 3.0}
    line = told("judge", words, **counts)
    assert "at most 48 questions" in line and "(about 12 at the share asked so far)" in line
    assert "0.05 million tokens read" in line and "24 s of time at the 2 questions" in line
    assert told("judge", ["judge.source=stand_in"]) == ""
