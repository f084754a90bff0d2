"""Rate limits of one API key: requests and tokens per minute, and requests at a time.

Pure: whoever asks hands over the time. A request that is refused takes nothing. A request that could never pass is
refused without a wait. Concurrency is looked at last, as it depends on how long answers take.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from latbench.sim.dialects import Hit, Room
from latbench.sim.options import Options

_MINUTE_S = 60.0
_MOST_KEYS = 10_000
_TINY = 1e-9  # of a unit: what floating point loses when a bucket fills up in many small steps
_BUSY_WAIT_S = 1.0  # nobody knows when an answer ends


class Bucket:
    """Fills up steadily by `per_minute`, holds `capacity`, and is full at first."""

    def __init__(self, per_minute: int, capacity: int) -> None:
        self.per_minute = per_minute
        self.capacity = capacity
        self._level = float(capacity)
        self._at_s = 0.0

    def _fill(self, now_s: float) -> float:
        gained = max(0.0, now_s - self._at_s) * self.per_minute / _MINUTE_S
        self._level = min(float(self.capacity), self._level + gained)
        self._at_s = now_s
        return self._level

    def left(self, now_s: float) -> int:
        """Whole units."""
        return math.floor(self._fill(now_s) + _TINY)

    def wait_s(self, amount: int, now_s: float) -> float:
        """Until there are `amount`; 0 if there are."""
        missing = amount - self._fill(now_s)
        return missing * _MINUTE_S / self.per_minute if missing > _TINY else 0.0

    def full_s(self, now_s: float) -> float:
        """Until nothing is missing."""
        return self.wait_s(self.capacity, now_s)

    def take(self, amount: int) -> None:
        """Of what is there."""
        self._level -= amount


class Window:
    """`per_minute` in each minute; the first begins with the first use."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = self.capacity = per_minute
        self._used = 0
        self._start_s: float | None = None

    def _turn(self, now_s: float) -> float:
        """When the window that is open now began."""
        if self._start_s is None:
            self._start_s = now_s
        over = (now_s - self._start_s) // _MINUTE_S
        if over > 0:
            self._start_s += over * _MINUTE_S
            self._used = 0
        return self._start_s

    def left(self, now_s: float) -> int:
        """Whole units."""
        self._turn(now_s)
        return self.capacity - self._used

    def wait_s(self, amount: int, now_s: float) -> float:
        """Until there are `amount`; 0 if there are."""
        if amount <= self.left(now_s):
            return 0.0
        return self._turn(now_s) + _MINUTE_S - now_s

    def full_s(self, now_s: float) -> float:
        """Until nothing is missing."""
        return self.wait_s(self.capacity, now_s)

    def take(self, amount: int) -> None:
        """Of what is there."""
        self._used += amount


@dataclass(slots=True)
class Quota:
    """The limits of one key, each null where there is none, and how many of its requests are open."""

    requests: Bucket | Window | None
    tokens: Bucket | Window | None
    max_concurrent: int | None
    open: int = 0

    def _rates(self) -> "Iterable[tuple[Literal['requests', 'tokens'], Bucket | Window]]":
        if self.requests is not None:
            yield "requests", self.requests
        if self.tokens is not None:
            yield "tokens", self.tokens

    def take(self, tokens: int, now_s: float) -> Hit | None:
        """Lets a request of so many tokens pass, or says what it hit. One that passed is given back by `done`."""
        amounts = {"requests": 1, "tokens": tokens}
        for kind, rate in self._rates():
            amount = amounts[kind]
            wait_s = rate.wait_s(amount, now_s)
            if wait_s > 0:
                used = rate.capacity - rate.left(now_s)
                return Hit(kind, rate.per_minute, used, amount, wait_s if amount <= rate.capacity else None)
        if self.max_concurrent is not None and self.open >= self.max_concurrent:
            return Hit("concurrency", self.max_concurrent, self.open, 1, _BUSY_WAIT_S)
        for kind, rate in self._rates():
            rate.take(amounts[kind])
        self.open += 1
        return None

    def done(self) -> None:
        """A request that had passed is over."""
        self.open -= 1

    def rooms(self, now_s: float) -> tuple[Room, ...]:
        """What the limits leave now."""
        return tuple(
            Room(kind, rate.per_minute, max(0, rate.left(now_s)), rate.full_s(now_s)) for kind, rate in self._rates()
        )


class Limits:
    """The quotas of all keys. The key that was used longest ago is forgotten when there are too many."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._quotas: OrderedDict[str, Quota] = OrderedDict()

    def of(self, key: str) -> Quota:
        """The quota of a key."""
        quota = self._quotas.get(key)
        if quota is None:
            options = self._options
            quota = Quota(self._rate(options.rpm, options.burst), self._rate(options.tpm, None), options.max_concurrent)
            self._quotas[key] = quota
            if len(self._quotas) > _MOST_KEYS:
                self._quotas.popitem(last=False)
        self._quotas.move_to_end(key)
        return quota

    def reset(self) -> None:
        """Everything is as at the start, but requests that are open still are."""
        for key, quota in list(self._quotas.items()):
            del self._quotas[key]
            if quota.open:
                self.of(key).open = quota.open

    def _rate(self, per_minute: int | None, burst: int | None) -> Bucket | Window | None:
        if per_minute is None:
            return None
        if self._options.limit_window == "fixed":
            return Window(per_minute)
        return Bucket(per_minute, per_minute if burst is None else burst)
