"""A judge of transformers, by tiny random models through the real processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import JudgeConfig
from pipeline.errors import CheckpointError
from pipeline.judgements import JudgeRequest
from pipeline.types import SampleKey
from stages.judge import load_judge
from stages.judge.folder import FolderJudge, _reply
from tests.fakes.captioner_models import write_captioner

CPU = torch.device("cpu")


def request(text: str) -> JudgeRequest:
    images = [np.full((45, 90, 3), 60 * row, np.uint8) for row in range(3)]
    return JudgeRequest(SampleKey("d", "s", "v", "0"), text, images, (1, 2), (0.1, 0.2))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_a_model_in_a_folder_is_asked(kind: str, tmp_path: Path) -> None:
    folder = write_captioner(kind, tmp_path)
    values = {"source": "model", "checkpoint": str(folder), "max_new_tokens": 4, "batch_texts": 2}
    judge = load_judge(JudgeConfig.model_validate(values), CPU, 3)
    assert isinstance(judge, FolderJudge) and judge.needs_frames
    assert judge.provenance.seed == 3 and len(judge.provenance.revision) == 12
    short, long = request("a dog"), request("the small dog that runs to the left of the tree")
    together = judge.ask([short, long, short])
    for asked, reply in zip((short, long, short), together, strict=True):
        [alone] = judge.ask([asked])
        assert (alone.text, alone.chosen, alone.tokens) == (reply.text, reply.chosen, reply.tokens)
        assert reply.tokens[0] > 100 and reply.tokens[1] <= 4
    [written] = judge._chat.ask([(short.images, "which?")])
    assert len(written.seen) == 3
    # The probabilities of what could stand in the place of a token hold the token's own.
    for row, piece in enumerate(written.pieces):
        logs = written.alternatives[row]
        assert len(logs) > 5 and max(logs.values()) <= 0
        if piece in logs:
            assert logs[piece] >= written.log_probability[row] - 1e-3
    said = type(written)(
        "2", [], 9, [1], np.log([0.6]), [{"2": np.log(0.6), "1": np.log(0.2)}], ["2"]
    )
    reply = _reply(short, said)
    assert (reply.chosen, reply.tokens) == ((2,), (9, 1))
    assert reply.probability == pytest.approx(0.75)


def test_a_folder_that_is_missing_names_its_setting(tmp_path: Path) -> None:
    values = {"source": "model", "checkpoint": str(tmp_path)}
    with pytest.raises(CheckpointError, match=r"check judge\.checkpoint"):
        load_judge(JudgeConfig.model_validate(values), CPU, 0)
