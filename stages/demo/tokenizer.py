"""The demo grounder's tokenizer: BERT's kind, over the words of ``shapes`` and single letters."""

from __future__ import annotations

from transformers import BertTokenizer

from pipeline.shapes.language import vocabulary

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_tokenizer() -> BertTokenizer:
    """Words first; any other word is spelt, so that none becomes ``[UNK]``."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    pieces = [*_SPECIAL, ".", ",", "?", "'", "-", *vocabulary(), *letters]
    pieces += [f"##{letter}" for letter in letters]
    vocab = {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocab, model_max_length=256)
