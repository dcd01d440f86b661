"""A judge of transformers: an image-text-to-text model in a folder."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config import JudgeConfig
from pipeline.judgements import JudgeReply, JudgeRequest
from pipeline.types import Provenance
from stages.common.chat_folder import FolderChat, Written, load_chat_folder
from stages.common.checkpoints import check_digest, resolve_checkpoint, weights_digest
from stages.common.fitting_batches import FittingBatches
from stages.judge.answers import probability_of, read_answer
from stages.judge.prompt import PROMPT_VERSION, question


class FolderJudge:
    """A :class:`pipeline.ports.Judge` over a model that answers questions about images."""

    needs_frames = True

    def __init__(self, chat: FolderChat, provenance: Provenance) -> None:
        self._chat, self.provenance = chat, provenance

    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Returns one reply per request, in their order."""
        written = self._chat.ask([(item.images, question(item)) for item in requests])
        return [_reply(*pair) for pair in zip(requests, written, strict=True)]


def _reply(request: JudgeRequest, written: Written) -> JudgeReply:
    reading = read_answer(written.text, request.numbers)
    tokens = written.read, len(written.pieces)
    if reading is None:
        return JudgeReply(written.text, None, None, tokens)
    likely = probability_of(reading, request.numbers, written.at, written.likelihood)
    return JudgeReply(written.text, reading.chosen, likely, tokens)


def load_folder_judge(config: JudgeConfig, device: torch.device, seed: int) -> FolderJudge:
    """Returns the judge in ``judge.checkpoint``.

    Raises:
        CheckpointError: the folder is missing, incomplete, or not the one asked for.
    """
    assert config.checkpoint is not None, "the configuration is checked"
    folder = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    model, processor = load_chat_folder(folder, config.dtype, "judge.checkpoint")
    remedy = "lower judge.frames or judge.max_pixels, or take a smaller model"
    fitting = FittingBatches(
        config.batch_texts, "question with its frames", "judge.batch_texts", remedy
    )
    chat = FolderChat(model.to(device), processor, config.max_new_tokens, fitting)
    revision = weights_digest(config.checkpoint)[:12]
    return FolderJudge(chat, Provenance(config.checkpoint, revision, PROMPT_VERSION, seed))
