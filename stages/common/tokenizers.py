"""Tokenizers that know the words that they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError

_DAMAGE = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError)
_PLAIN = "the red circle"


def load_tokenizer(folder: Path, expected: str, remedy: str) -> Any:
    """Loads the tokenizer of a folder; nothing is downloaded.

    Args:
        expected, remedy: for errors: what the folder should hold, and what to do.

    Raises:
        CheckpointError: no tokenizer loads, or it reads plain words as unknown.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        known = knows_plain_words(tokenizer)
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(folder, f"no tokenizer loads ({reason})", expected, remedy) from error
    if not known:
        found = f"its tokenizer reads plain words ({_PLAIN!r}) as unknown"
        raise CheckpointError(folder, found, expected, remedy)
    return tokenizer


def knows_plain_words(tokenizer: Any) -> bool:
    """Whether no word of a plain sentence is unknown.

    transformers 5 ignores a ``vocab.txt`` that it is handed by file name, and then reads every word
    as ``[UNK]``. A model that is fed so finds objects and never learns which is meant.
    """
    ids = tokenizer(_PLAIN, add_special_tokens=False)["input_ids"]
    return len(ids) >= 3 and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids)
