"""Whole runs over stand-ins that score and answer as published models do, with the thresholds of a
preset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from flows.context import Parts, RunContext
from flows.labelling.executor import InProcess, execute
from flows.planning.presets import config_of_preset
from pipeline.config import load_config
from pipeline.types import Status
from stages.augment.endpoint import EndpointCaptioner
from storage.run.ledger import Ledger
from storage.tables import read_augmentations
from tests.fakes.dataset import write_dataset
from tests.fakes.published import PROFILES, ProfiledGrounder, SureSegmenter

FILLER = "that can be seen there while it is near what was before"
LENGTHS = (3, 6, 8, 16, 40)


def sentence(words: int, colour: str) -> str:
    return " ".join(["the", colour, "square", *(FILLER.split() * 4)][:words])


def run_over(folder: Path, words: list[str], **parts: Any) -> RunContext:
    """Runs over one video with sentences of every length, with the preset `small`."""
    data = write_dataset(folder / "data", 1)
    index = data / "meta_expressions" / "train" / "meta_expressions.json"
    values = json.loads(index.read_text())
    values["videos"]["clip00"]["expressions"] = {
        f"{colour}-{words:02d}": {"exp": sentence(words, colour), "obj_id": number}
        for number, colour in (("1", "red"), ("2", "blue"))
        for words in LENGTHS
    }
    index.write_text(json.dumps(values))
    (folder / "weights").write_bytes(b"w")
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{folder / "runs"}"', *words]
    words += ["device=cpu", "report.samples=1", "report.frames=1"]
    config = load_config(config_of_preset("small"), [*words, f'ground.text_encoder="{folder}"'])
    stand_ins = {
        "segmenter": lambda config, device: SureSegmenter(),
        "checkpoint_files": lambda checkpoint: [folder / "weights"],
        "device": lambda name: None,
    }
    context = RunContext(config, Parts(**stand_ins, **parts))
    context.plan = context.make_plan()
    assert not execute(context, InProcess(context)).failed
    return context


def grounder_of(profile: str) -> Callable[..., ProfiledGrounder]:
    return lambda config, device: ProfiledGrounder(config.ground, PROFILES[profile])


def columns(context: RunContext) -> dict[str, NDArray[Any]]:
    """The columns of the quality table."""
    table = pq.read_table(context.paths.quality)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


@pytest.mark.parametrize("level", ["track", "frame"])
@pytest.mark.parametrize("profile", list(PROFILES))
def test_no_sentence_is_absent_for_its_length_and_weights_tell_frames_apart(
    tmp_path: Path, profile: str, level: str
) -> None:
    words = [f"fuse.level={level}"]
    found = columns(run_over(tmp_path, words, grounder=grounder_of(profile)))
    seen = found["frame"] < 4  # in the last frame, the blue square is gone
    assert (found["status"][seen] == Status.PRESENT).all()
    present = found["status"] == Status.PRESENT
    assert (found["predicted_iou"][present] > 0.94).all(), "the segmenter is sure of everything"
    assert (found["weight"][seen] > 0.7).all(), "the chosen square leads in each of them"
    if profile != "flat":  # which tells the squares apart without doubt
        alone = found["weight"][(found["frame"] == 4) & (found["expression"] == "red-03")]
        doubtful = found["weight"][(found["frame"] == 0) & (found["expression"] == "red-03")]
        assert doubtful < alone - 0.04, "another square scores nearly as high"


def plain(items: dict[str, Any]) -> str:
    return json.dumps(items)


def with_an_odd_item(items: dict[str, Any]) -> str:
    odd = {"text": ["a", "list"], "confidence": "high", "kind": "mood"}
    return json.dumps({name: [odd, *each] for name, each in items.items()})


def in_other_words(items: dict[str, Any]) -> str:
    text = json.dumps(items).replace('"attribute"', '"color"').replace("0.9", '"90%"')
    return f"Here you are:\n```json\n{text.replace('}]', '},]')}\n```\nAnything else?"


FORMS: tuple[Callable[[dict[str, Any]], str | None], ...] = (
    plain,
    with_an_odd_item,
    in_other_words,
    lambda items: f'I could say {{"positives": ["a draft"]}}.\n</think>{json.dumps(items)}',
    lambda items: json.dumps(items)[:-4],  # cut off in the last negative
    lambda items: None,
    lambda items: "I cannot help with that.",
)
"""How captioners answer; after an answer without any item they are asked again."""


class Answers:
    """A server whose every answer has another form than the one before."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, call: httpx.Request) -> httpx.Response:
        asked = json.loads(call.content)["messages"][0]["content"][-1]["text"]
        colour, other = ("red", "blue") if '"the red' in asked.split("Expressions")[0] else (
            "blue", "red"
        )  # fmt: skip
        texts = [f"a {colour} square", f"one square that is {colour}"]
        said = {
            "positives": [{"text": text, "confidence": 0.9} for text in texts],
            "negatives": [
                {"text": f"the {other} square there", "kind": "attribute"},
                {"text": "a dog", "kind": "category"},
            ],
        }
        content = FORMS[self._calls % len(FORMS)](said)
        self._calls += 1
        usage = {"prompt_tokens": 900, "completion_tokens": 80}
        choice = {"message": {"content": content}}
        return httpx.Response(200, json={"choices": [choice], "usage": usage})


def test_no_expression_is_lost_for_how_a_captioner_answers(tmp_path: Path) -> None:
    transport = httpx.MockTransport(Answers())
    words = ["augment.source=endpoint", "augment.endpoint=http://host/v1", "augment.retries=3"]
    words += ["augment.endpoint_model=m", "augment.positives=3", "augment.concurrency=1"]
    context = run_over(
        tmp_path,
        words,
        captioner=lambda config, device, content: EndpointCaptioner(
            config.augment, 0, transport=transport, wait=lambda _: 0.0
        ),
        grounder=grounder_of("peaked"),
    )
    [mine] = read_augmentations(context.paths.part("augment", "00000")).values()
    assert [len(item.positives) for item in mine] == [3] * 10, "each has both paraphrases"
    kinds = Counter(negative.kind for item in mine for negative in item.negatives)
    cut_off = sum(len(item.negatives) == 1 for item in mine)
    assert kinds["attribute"] == 10 and kinds["category"] == 10 - cut_off > 7
    [receipt] = Ledger(context.paths.folder).receipts("augment")
    assert receipt.counts["left out: item cut off at the end of the answer"] == cut_off
    assert receipt.counts["left out: negative without a text"] > 0
    assert receipt.counts["tokens read"] > 10 * 900, "further attempts count"
    found = columns(context)
    seen = found["frame"] < 4
    assert (found["status"][seen] == Status.PRESENT).all()
    assert np.unique(found["weight"][found["status"] == Status.PRESENT]).size > 1
