"""Says in a few words why a job is due: how its receipt differs from what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.types import Failure, Receipt

NO_RECEIPT = "no receipt"
PRODUCT_MISSING = "product missing"
SKIPPED = "skipped videos are tried again"
VIDEO_BACK = "a video is no longer skipped"
RELEASED = {
    "segment": 'candidates were released (keep="masks")',
    "track": 'candidates of tracks were released (keep="masks")',
    "fuse": 'hypotheses were released (keep="masks")',
}
"""Stage whose product is removed when the masks are finished -> why it is made again."""
SOURCES = {"frames": "frames changed", "truth": "ground truth changed"}
"""What a stage reads of the data set -> the reason if it has changed."""

_LONGEST = 100
_FILES = {
    "file": "augmentation file",
    "adapter": "the grounder's adapter",
    "text_encoder": "the grounder's tokenizer",
    "models": "the grounder or segmenter of the student",
    "reading": "how answers are read",
    "phrases": "how noun phrases are found",
    "decisions": "decisions of reviewers",
    "promised": "what is promised of the masks",
    "guarantee": "what is promised of the masks",
}
"""Key of a basis -> its name in a reason."""


def asked_for(stage: str) -> str:
    """Why a finished stage is done again with ``--from-stage``."""
    return f"asked for with --from-stage {stage}"


def follows(stage: str) -> str:
    """Why a stage is done again when an earlier one is."""
    return f"follows {stage}"


def came_out_different(stage: str) -> str:
    """Why a stage is done again when something that it reads has changed."""
    if stage in SOURCES:
        return SOURCES[stage]
    return f"follows {stage}, which came out different"


def failed(failure: Failure) -> str:
    """Returns a failure on one line."""
    text = " ".join(failure.error.split())
    return f"failed before: {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}"


def what_changed(
    receipt: Receipt, basis: Mapping[str, Any], videos: Sequence[str], checkpoint: str | None
) -> str:
    """Returns what has changed in the basis of a fingerprint since the receipt was written.

    Args:
        receipt: with another fingerprint.
        basis: of the fingerprint asked for.
        videos: of the shard now.
        checkpoint: name of the stage's weights.
    """
    before = receipt.basis
    changes: list[str] = []
    if before.get("version") != basis.get("version"):
        changes.append(f"stage version {before.get('version')} → {basis.get('version')}")
    changes += _values(before.get("config") or {}, basis.get("config") or {})
    changes += _values(
        {name: before.get(name) for name in ("seed", "predict_split")},
        {name: basis.get(name) for name in ("seed", "predict_split")},
    )
    changes += _values(before.get("dataset") or {}, basis.get("dataset") or {})
    if before.get("weights") != basis.get("weights"):
        changes.append(f"weights of {checkpoint or 'the model'} changed")
    for name, words in _FILES.items():
        if before.get(name) != basis.get(name):
            changes.append(f"{words} changed")
    changes += _videos(receipt.videos, videos)
    if before.get("texts") != basis.get("texts") and receipt.videos == tuple(videos):
        changes.append("sentences or their objects changed")
    if not changes:
        old, new = before.get("inputs") or {}, basis.get("inputs") or {}
        changes += [follows(name) for name in new if old.get(name) != new[name]][:1]
    return ", ".join(changes) or "fingerprint changed"


def _values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {_word(before.get(name))} → {_word(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _videos(before: Sequence[str], now: Sequence[str]) -> list[str]:
    gone, new = len(set(before) - set(now)), len(set(now) - set(before))
    words = [f"{gone} {_plural('video', gone)} gone"] if gone else []
    return words + ([f"{new} {_plural('video', new)} more"] if new else [])


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
