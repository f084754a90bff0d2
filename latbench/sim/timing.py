"""When the tokens of an answer are due: pure, seeded, no clock.

Medians, with a = streams active at that moment:
    time to first token = (ttft + prompt_tokens / prefill_rate) * (1 + slowdown * (a - 1))
    gap                 = itl * (1 + slowdown * (a - 1))
`ttft` and `itl` are multiplied by lognormal noise of median 1 and sigma `jitter`; the prefill is not.
"""

import math
from dataclasses import dataclass, field

from latbench.sim import draws

_FIRST, _GAPS, _LENGTH = 0, 1, 2
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast the endpoint is. `prefill_rate` is in tokens per second."""

    seed: int
    ttft_ns: int
    itl_ns: int
    prefill_rate: float
    jitter: float
    slowdown: float

    def schedule(self, request: int) -> "Schedule":
        """The schedule of request number `request`, the same at every call."""
        return Schedule(self, request)

    def crowding(self, active: int) -> float:
        """By how much `active` streams (this one included) slow each other."""
        return 1.0 + self.slowdown * max(0, active - 1)


@dataclass(slots=True)
class Schedule:
    """The draws of one request. Gaps are drawn in order: each call of `itl_ns` is the next one."""

    timing: Timing
    request: int
    _gaps_key: int = field(init=False)
    _gaps_drawn: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._gaps_key = self._key(_GAPS)

    def _key(self, stream: int) -> int:
        return draws.stream_key(self.timing.seed, self.request, stream)

    def _noise(self, key: int, draw: int) -> float:
        jitter = self.timing.jitter
        return math.exp(jitter * draws.normal(key, draw)) if jitter else 1.0

    def ttft_ns(self, prompt_tokens: int, active: int) -> int:
        """From the moment a slot takes the request to its first token."""
        timing = self.timing
        base_ns = timing.ttft_ns * self._noise(self._key(_FIRST), 0)
        prefill_ns = prompt_tokens / timing.prefill_rate * _NS
        return round((base_ns + prefill_ns) * timing.crowding(active))

    def itl_ns(self, active: int) -> int:
        """The next gap between two tokens."""
        noise = self._noise(self._gaps_key, self._gaps_drawn)
        self._gaps_drawn += 1
        return round(self.timing.itl_ns * noise * self.timing.crowding(active))

    def answer_tokens(self, limit: int, early_stop: float) -> int:
        """How long the answer is: `limit`, less a uniform share of it up to `early_stop`, and at least 1."""
        cut = draws.uniform(self._key(_LENGTH), 0) * early_stop * limit
        return max(1, limit - int(cut))
