"""Durations and points in time as endpoints write them in headers and messages.

There is no clock here. A point in time becomes a wait by the response's own `date` header, which is the endpoint's
"now"; where that is missing, the wait is not known. Hostile text gives None, never an exception.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

MAX_WAIT_S = 10**9
"""About 31 years: more is nonsense, and must not overflow 64 bits of nanoseconds."""

# ASCII throughout: an exotic digit or letter in hostile text would match here and fail further on.
UNIT_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "µs": 1_000}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,18})?)(h|ms|m|s|us|µs)", re.ASCII)
DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,18})?", re.ASCII)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Read by hand: `strptime` would follow the locale.
_HTTP_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, (\d\d) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)  # fmt: skip
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNIX = re.compile(r"\d{10,14}(?:\.\d{1,9})?", re.ASCII)
_LEAST_UNIX_MS = 10**11  # in seconds it would be the year 5138, in milliseconds it is 1973
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ns(text: str) -> int | None:
    """Nanoseconds of a duration in Go's grammar (`120ms`, `1.146s`, `1m30s`, `114h18m0s`); None for anything else."""
    if not DURATION.fullmatch(text):
        return None
    return bounded(sum(float(number) * UNIT_NS[unit] for number, unit in _PART.findall(text)))


def number_ns(text: str, unit: str) -> int | None:
    """Nanoseconds of a plain number of a unit; None for anything else."""
    return bounded(float(text) * UNIT_NS[unit]) if NUMBER.fullmatch(text) else None


def bounded(nanoseconds: float) -> int | None:
    """The same as an integer; None for more than `MAX_WAIT_S`."""
    return round(nanoseconds) if nanoseconds <= MAX_WAIT_S * 1e9 else None


def moment_ns(text: str) -> int | None:
    """Nanoseconds since 1970 of an HTTP date, an RFC 3339 timestamp, or Unix seconds or milliseconds."""
    if _UNIX.fullmatch(text):
        number = Decimal(text)  # a float of this size is off by hundreds of nanoseconds
        return int(number * (10**6 if number >= _LEAST_UNIX_MS else 10**9))
    try:
        if found := _HTTP_DATE.fullmatch(text):
            day, month, *others = found.groups()
            year, hour, minute, second = map(int, others)
            at = datetime(year, _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
        elif _RFC3339.fullmatch(text):
            at = datetime.fromisoformat(text.upper())
        else:
            return None
        return (at - _EPOCH) // timedelta(microseconds=1) * 1000
    except ValueError:  # the 31st of February, 25 o'clock
        return None


def until_ns(text: str, headers: Mapping[str, str]) -> int | None:
    """How far a point in time is from the response's own `date`: 0 where it is past, None where either is not known."""
    at, now = moment_ns(text), moment_ns(headers.get("date", "").strip())
    return None if at is None or now is None else bounded(max(0, at - now))
