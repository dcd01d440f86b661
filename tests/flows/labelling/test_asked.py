"""A whole run whose boxes come from a server that is asked for them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from flows.context import RunContext
from flows.labelling.executor import InProcess, execute
from pipeline.config import load_config
from pipeline.types import Status
from stages.ground.mllm import MllmGrounder
from stages.ground.mllm_server import ServedModel
from storage.run.ledger import Ledger
from storage.tables import read_ground
from tests.fakes.dataset import COLOURS, write_dataset
from tests.fakes.stages import box_of, fake_parts


def sees_colours(call: httpx.Request) -> httpx.Response:
    """A stand-in for a model: the box of the colour that the sentence names, in pixels it sees."""
    picture, text = json.loads(call.content)["messages"][0]["content"]
    encoded = picture["image_url"]["url"].partition(",")[2]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    colour = next((name for name in COLOURS if name in text["text"].splitlines()[1]), None)
    box = None if colour is None else box_of(image, colour)
    answer = "[]" if box is None else f'[{{"bbox_2d": {list(map(round, box))}, "label": "it"}}]'
    return httpx.Response(200, json={"choices": [{"message": {"content": answer}}]})


def test_boxes_of_key_frames_come_from_answers(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 1)
    (tmp_path / "weights").write_bytes(b"w")
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["ground.source=mllm", "ground.mllm.endpoint=http://host/v1", "ground.every=2"]
    words += ["ground.mllm.endpoint_model=m", "ground.mllm.coordinates=pixels"]
    words += ["augment.source=none", "student.enabled=false"]
    words += ["report.samples=1", "report.frames=1"]
    asked: list[int] = []

    def handler(call: httpx.Request) -> httpx.Response:
        asked.append(1)
        return sees_colours(call)

    def grounder(config: object, device: object) -> MllmGrounder:
        section = context.config.ground
        model = ServedModel(section.mllm, httpx.MockTransport(handler), {}, lambda _: 0.0)
        return MllmGrounder(model, "pixels", section)

    parts = fake_parts(tmp_path / "weights", grounder=grounder)
    context = RunContext(load_config(None, words), parts)
    context.plan = context.make_plan()
    assert not execute(context, InProcess(context)).failed
    assert len(asked) == 2 * 3, "two sentences in the key frames 0, 2 and 4"
    texts, boxes = read_ground(context.paths.part("ground", "00000"), "clip00")
    red = texts.index("the red square")
    for frame in (0, 1, 2):
        [box] = boxes[frame].xyxy[boxes[frame].text == red]
        np.testing.assert_allclose(box, [4 + 2 * frame, 8, 16 + 2 * frame, 20], atol=1.5)
    [receipt] = Ledger(context.paths.folder).receipts("ground")
    assert receipt.basis["config"]["mllm"]["endpoint_model"] == "m"
    assert "weights" not in receipt.basis
    table = pq.read_table(context.paths.quality).to_pylist()
    present = [row for row in table if row["status"] == Status.PRESENT]
    assert len(present) == 5 + 4, "the blue square is gone in the last frame"
