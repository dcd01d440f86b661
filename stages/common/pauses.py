"""How long to wait before a call to a server is repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from tenacity import RetryCallState, wait_random_exponential

LONGEST_PAUSE = 300.0
"""Seconds that a server may ask to wait for, in ``Retry-After``."""

_GROWING = wait_random_exponential(multiplier=1, max=60)


def pause(state: RetryCallState) -> float:
    """Returns the seconds before a call is repeated: what the server asks for, or growing ones."""
    growing = float(_GROWING(state))
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, httpx.HTTPStatusError):
        return growing
    asked = retry_after(error.response.headers.get("retry-after", ""), datetime.now(UTC))
    return growing if asked is None else min(max(asked, growing), LONGEST_PAUSE)


def retry_after(value: str, now: datetime) -> float | None:
    """Returns the seconds of a ``Retry-After`` header: a number, or a date; None if it is none."""
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
