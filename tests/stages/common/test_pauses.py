from datetime import UTC, datetime

import pytest

from stages.common.pauses import retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 29 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
    ],
)
def test_a_server_says_when_to_come_again(value: str, seconds: float | None) -> None:
    assert retry_after(value, datetime(2026, 11, 29, 12, tzinfo=UTC)) == seconds
