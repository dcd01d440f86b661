"""Text encoders of ``transformers`` for a student: RoBERTa, or any that ``AutoModel`` loads.

From a folder of the user's, frozen; nothing is downloaded and nothing in it is executed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.errors import CheckpointError
from stages.common.text_cache import KnownTexts
from stages.common.tokenizers import load_tokenizer

logger = logging.getLogger(__name__)

_EXPECTED = "a folder with config.json, model.safetensors and the tokenizer's files"
_REMEDY = "set student.encoders.text_encoder to a text encoder's folder, or to 'demo'"
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
_NOT_NEEDED = ("pooler.",)
"""Parameters that sentence encoders are published with and without; no words go through them."""
_DAMAGE = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError)
_CACHED_TEXTS = 4096


class FrozenText:
    """A ``TextEncoder`` of ``simrvos/model.py`` over a frozen model; a sentence is encoded once and
    kept, up to 4096 of them."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, device: torch.device) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._model.to(device)
        self._tokenizer, self._device = tokenizer, device
        self.channels: int = self._model.config.hidden_size
        self._known: KnownTexts[tuple[Tensor, Tensor | None]] = KnownTexts(_CACHED_TEXTS)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Words [N, L, channels] and which of them are words, bool [N, L]: no special token and no
        padding. A sentence longer than the model takes is cut, and a warning says so."""
        rows = [row for row, _ in self._known.of(texts, self._encode)]
        words = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        counts = torch.tensor([len(row) for row in rows], device=words.device)
        return words, torch.arange(words.shape[1], device=words.device) < counts[:, None]

    @torch.no_grad()
    def pooled(self, texts: Sequence[str]) -> Tensor | None:
        """Returns the model's pooled output [N, channels]; None if it was trained without one."""
        rows = [row for _, row in self._known.of(texts, self._encode) if row is not None]
        return torch.stack(rows) if rows else None

    def _encode(self, text: str) -> tuple[Tensor, Tensor | None]:
        """Returns the words [L, channels] of a sentence, of one with no word its special tokens;
        and the pooled output [channels] if there is one."""
        longest = _longest(self._model, self._tokenizer)
        length = len(self._tokenizer(text, verbose=False)["input_ids"])
        if length > longest:
            logger.warning(
                "the student's text encoder reads %d of the %d tokens of %r; what is behind them"
                " does not count; shorten the sentence",
                longest,
                length,
                text[:80],
            )
        tokens = self._tokenizer(
            [text],
            truncation=True,
            max_length=longest,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        special = tokens.pop("special_tokens_mask")[0].bool()
        words = torch.ones_like(special) if special.all() else ~special
        inputs = {name: value.to(self._device) for name, value in tokens.items()}
        found = self._model(**inputs)
        hidden: Tensor = found.last_hidden_state[0]
        pooled = found.get("pooler_output")
        return (
            hidden[words.nonzero()[:, 0].to(self._device)],
            None if pooled is None else pooled[0],
        )


def load_text_encoder(folder: Path) -> tuple[PreTrainedModel, Any]:
    """Model and tokenizer of a folder; weights from safetensors alone.

    Raises:
        CheckpointError: a file is missing or damaged, the weights do not fit ``config.json``, or
            the tokenizer takes plain words for unknown.
    """
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder", _EXPECTED, _REMEDY)
    if not (folder / "config.json").is_file():
        raise CheckpointError(folder / "config.json", "no such file", _EXPECTED, _REMEDY)
    if not list(folder.glob("*.safetensors")):
        raise CheckpointError(folder, "no *.safetensors in it", _EXPECTED, _REMEDY)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        found = f"no tokenizer in it (none of {', '.join(_TOKENIZERS)})"
        raise CheckpointError(folder, found, _EXPECTED, _REMEDY)
    return _load_model(folder), load_tokenizer(folder, _EXPECTED, _REMEDY)


def _load_model(folder: Path) -> PreTrainedModel:
    loader: Any = AutoModel
    shown = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what it would report is looked at below
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model, report = loader.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(folder, f"it does not load ({reason})", _EXPECTED, _REMEDY) from error
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()
    # What is there beside the encoder is a head of the task it was trained on.
    odd = sorted(name for name in report["missing_keys"] if not name.startswith(_NOT_NEEDED))
    odd += [str(item) for item in report["mismatched_keys"]]
    if odd:
        found = f"{len(odd)} parameters missing or of another shape, such as {odd[0]}"
        raise CheckpointError(folder, found, "weights of the model in its config.json", _REMEDY)
    if any(name.startswith(_NOT_NEEDED) for name in report["missing_keys"]):
        model.pooler = None  # its weights would be random
    if not hasattr(model.config, "hidden_size"):
        found = f"a {type(model).__name__}"
        raise CheckpointError(folder, found, "a text encoder, such as RoBERTa or BERT", _REMEDY)
    return model  # type: ignore[no-any-return]


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that both take: RoBERTa's table of positions has two rows that no token is at."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= model.config.pad_token_id + 1
    return int(min(positions, tokenizer.model_max_length))
