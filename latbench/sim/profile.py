"""The time of day of the simulated endpoint, and by how much it slows answers then.

Pure: whoever asks hands over the monotonic time. All times of day are UTC.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_MINUTES = 24 * 60
_WINDOW = re.compile(r"\s*(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)\s*=\s*(\d{1,6}(?:\.\d{1,6})?)\s*")
_NS = 1_000_000_000
_FASTEST = 1_000_000
_LATEST = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that can be written


def factors(text: str | None) -> tuple[float, ...]:
    """The factor of each minute of a day, from `09:00-18:00=1.8,22:00-06:00=0.7`; 1 where nothing is said.

    A window ends before its second time, and may go over midnight. Raises ValueError where it is written wrongly or two
    windows overlap.
    """
    found: list[float | None] = [None] * _MINUTES
    for part in text.split(",") if text is not None else ():
        match = _WINDOW.fullmatch(part)
        if match is None:
            raise ValueError(f"{part[:40]!r} is not of the form 09:00-18:00=1.8")
        first, last = _minute(match[1], match[2]), _minute(match[3], match[4])
        if first % _MINUTES == last % _MINUTES and (first, last) != (0, _MINUTES):
            raise ValueError(f"{part[:40]!r} begins when it ends; a whole day is 00:00-24:00")
        for minute in range(first, last if last > first else last + _MINUTES):
            if found[minute % _MINUTES] is not None:
                raise ValueError(f"{part[:40]!r} overlaps another window")
            found[minute % _MINUTES] = float(match[5])
    return tuple(1.0 if factor is None else factor for factor in found)


def _minute(hours: str, minutes: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _MINUTES:
        raise ValueError(f"{hours}:{minutes} is no time of day")
    return minute


def moment(text: str) -> float:
    """`2026-01-05T08:59:30Z` in seconds since 1970. Raises ValueError for anything else, a missing zone included."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{text[:40]!r} is not a time with its zone, as in 2026-01-05T08:59:30Z")
    return found.timestamp()


def shown(seconds: float) -> str:
    """The same the other way round."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def setting(body: bytes) -> tuple[float | None, float | None]:
    """The time and the rate that `{"now": ..., "rate": ...}` sets, null for what stays. Raises ValueError."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(fields, dict) or not fields or not fields.keys() <= {"now", "rate"}:
        raise ValueError('the body has to be an object with "now", "rate" or both')
    now, rate = fields.get("now"), fields.get("rate")
    if rate is not None:
        good = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not good or not 0 <= rate <= _FASTEST or math.isnan(rate):
            raise ValueError(f'"rate" has to be a number from 0 to {_FASTEST}')
    if now is not None and not isinstance(now, str):
        raise ValueError('"now" has to be a time, as in 2026-01-05T08:59:30Z')
    return None if now is None else moment(now), None if rate is None else float(rate)


@dataclass(slots=True)
class Clock:
    """A time that began at `start_s` (seconds since 1970) when the monotonic clock showed `since_ns`.

    `rate` of its seconds pass in a second. It stops at the end of the year 9999.
    """

    start_s: float
    since_ns: int
    rate: float = 1.0

    def now_s(self, monotonic_ns: int) -> float:
        """Seconds since 1970."""
        return min(self.start_s + (monotonic_ns - self.since_ns) / _NS * self.rate, _LATEST)

    def set(self, monotonic_ns: int, now_s: float | None, rate: float | None) -> None:
        """From now on another time, another rate, or both."""
        self.start_s = self.now_s(monotonic_ns) if now_s is None else now_s
        self.since_ns = monotonic_ns
        self.rate = self.rate if rate is None else rate


@dataclass(frozen=True, slots=True)
class Profile:
    """How slow the endpoint is by the time of day."""

    minutes: tuple[float, ...]
    clock: Clock

    def factor(self, monotonic_ns: int) -> float:
        """What all times are multiplied with now."""
        return self.minutes[int(self.clock.now_s(monotonic_ns) // 60) % _MINUTES]
