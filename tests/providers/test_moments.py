"""Points in time and waits until them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.providers.moments import moment_ns, number_ns, until_ns

S = 1_000_000_000
AT = 1_792_567_680
"""2026-10-21 07:28:00 UTC in Unix seconds."""
DATE = {"date": " Wed, 21 Oct 2026 07:28:00 GMT "}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", AT * S),
        ("2026-10-21T07:28:00Z", AT * S),
        ("2026-10-21t07:28:00.5z", AT * S + S // 2),
        ("2026-10-21T09:28:00+02:00", AT * S),
        (f"{AT}", AT * S),
        (f"{AT}000", AT * S),
        (f"{AT}.25", AT * S + S // 4),
        ("Wed, 21 Oct 2026 07:28:00 CET", None),
        ("Wednesday, 21-Oct-26 07:28:00 GMT", None),
        ("Fri, 31 Feb 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 0000 07:28:00 GMT", None),
        ("2026-10-21T25:28:00Z", None),
        ("2026-10-21T07:28:00", None),
        ("2026-10-21", None),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140 * S),
        ("٢٠٢٦-10-21T07:28:00Z", None),
        ("60", None),
        ("9" * 400, None),
        ("", None),
    ],
)
def test_moments(text: str, expected: int | None) -> None:
    assert moment_ns(text) == expected


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))
def test_moments_of_any_date(naive: datetime) -> None:
    at = naive.replace(tzinfo=UTC)
    expected = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert moment_ns(at.isoformat()) == expected
    assert moment_ns(at.strftime("%a, %d %b %Y %H:%M:%S GMT")) == expected // S * S


def test_waits_count_from_the_date_of_the_response() -> None:
    assert until_ns("Wed, 21 Oct 2026 07:28:30 GMT", DATE) == 30 * S
    assert until_ns("2026-10-21T07:27:00Z", DATE) == 0
    assert until_ns("2026-10-21T07:28:30Z", {}) is None
    assert until_ns("2026-10-21T07:28:30Z", {"date": "today"}) is None
    assert until_ns("soon", DATE) is None
    assert until_ns("9999-10-21T07:28:30Z", DATE) is None


def test_plain_numbers() -> None:
    assert number_ns("0.5", "s") == S // 2
    assert number_ns("-1", "s") is None
    assert number_ns("9" * 12, "s") is None


@given(st.text(), st.text())
def test_any_text_is_a_wait_or_none(text: str, date: str) -> None:
    found = until_ns(text, {"date": date})
    assert found is None or 0 <= found < 2**63
