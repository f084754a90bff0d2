"""How hard to push: the steps of a load, as they cross process borders.

A step is one shape and its limits. In a closed loop the next turn begins when the last one has ended; in an open loop
arrivals have times of their own, computed from the seed before the start (`plan/arrivals.py`). Requests, concurrency
and rates are for each endpoint. Rates are per second.
"""

from typing import ClassVar

import msgspec


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """`concurrency` requests at a time, a pause of `think_ns` after each answer."""

    concurrency: int
    think_ns: int = 0


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """Arrivals at equal distances."""

    rate: float


class Poisson(msgspec.Struct, frozen=True, tag="poisson"):
    """Independent arrivals: exponential gaps."""

    rate: float


class Gamma(msgspec.Struct, frozen=True, tag="gamma"):
    """Gaps of a gamma distribution with coefficient of variation `cv`: above 1 burstier than poisson."""

    rate: float
    cv: float


class Ramp(msgspec.Struct, frozen=True, tag="ramp"):
    """Poisson arrivals whose rate goes linearly from `start` to `end` over the duration. A warm-up runs at `start`."""

    start: float
    end: float


class Burst(msgspec.Struct, frozen=True, tag="burst"):
    """`size` arrivals at once, at the start and then every `every_ns`."""

    size: int
    every_ns: int


class Trace(msgspec.Struct, frozen=True, tag="trace"):
    """Arrivals read from a file: rising offsets from the start of the step.

    All three are arrays in bytes, little-endian, one entry an arrival: `offsets_ns` int64; `prompt` int32, an index
    into `prompt_ids` or -1 for one that the seed draws; `max_tokens` int32, 0 for the scenario's.
    """

    path: str
    offsets_ns: bytes
    prompt: bytes
    max_tokens: bytes
    prompt_ids: tuple[str, ...] = ()


class Sessions(msgspec.Struct, frozen=True, tag="sessions"):
    """Conversations that arrive as `Poisson` does, each of `turns` requests that carry the earlier ones.

    A turn begins `think_ns` after the answer before it. Session s has the sequence numbers s * turns + turn.
    """

    rate: float
    turns: int
    think_ns: int = 0


class ToolLoop(msgspec.Struct, frozen=True, tag="tool_loop"):
    """Conversations that arrive as `Poisson` does, in which the model may call tools until it answers with text.

    The tools are mocks that take their set time (`model/request.py`, `Tool`), the calls of one turn at the same time or
    one after the other. A loop is at most `max_rounds` requests; loop l has the sequence numbers from l * max_rounds
    on, one for each request that it really took.
    """

    rate: float
    max_rounds: int = 8
    parallel: bool = True

    @property
    def execution(self) -> str:
        """How the calls of one turn are executed, as the scenario writes it."""
        return "parallel" if self.parallel else "sequential"


Shape = Closed | Constant | Poisson | Gamma | Ramp | Burst | Trace | Sessions | ToolLoop


class Step(msgspec.Struct, frozen=True):
    """One step of the load. Whichever of `requests` and `duration_ns` comes first ends it.

    In `Sessions` and `ToolLoop`, `requests` counts conversations.

    `warmup_ns` precedes `duration_ns` and is not part of it. With `max_in_flight`, an arrival that finds so many
    requests of its endpoint unanswered is dropped. With `slice_ns`, endpoints take turns: each is loaded for a slice
    while the others rest, and all times above are times in which the endpoint was loaded.
    """

    UNLIMITED: ClassVar[int] = 2**62

    shape: Shape
    requests: int | None = None
    duration_ns: int | None = None
    warmup_ns: int = 0
    max_in_flight: int | None = None
    slice_ns: int | None = None

    @property
    def name(self) -> str:
        """The shape's name, as the scenario writes it."""
        return str(self.shape.__struct_config__.tag)

    @property
    def words(self) -> str:
        """How hard the step pushes, as progress and reports say it: `poisson 4/s`."""
        shape = self.shape
        match shape:
            case Closed(concurrency=concurrency, think_ns=think_ns):
                return f"closed {concurrency}{_think(think_ns)}"
            case Constant(rate=rate) | Poisson(rate=rate):
                return f"{self.name} {_per_time(rate)}"
            case Gamma(rate=rate, cv=cv):
                return f"gamma {_per_time(rate)} cv {cv:g}"
            case Ramp(start=start, end=end):
                return f"ramp {_per_time(start)} to {_per_time(end)}"
            case Burst(size=size, every_ns=every_ns):
                return f"burst {size} every {every_ns / 1e9:g}s"
            case Sessions(rate=rate, turns=turns, think_ns=think_ns):
                return f"sessions {_per_time(rate)} of {turns} turns{_think(think_ns)}"
            case ToolLoop(rate=rate):
                return f"tool_loop {_per_time(rate)} {shape.execution}"
        return f"trace {shape.path}"

    @property
    def open(self) -> bool:
        """Whether arrivals have times of their own."""
        return not isinstance(self.shape, Closed)

    @property
    def most_turns(self) -> int | None:
        """The most requests that a conversation takes, and the sequence numbers it has; None for single requests."""
        match self.shape:
            case Sessions(turns=turns) | ToolLoop(max_rounds=turns):
                return turns
        return None

    @property
    def arrive(self) -> str:
        """What arrives, and is counted by `requests`."""
        return {"sessions": "sessions", "tool_loop": "tool loops"}.get(self.name, "requests")

    @property
    def concurrency(self) -> int | None:
        """Requests at a time in a closed loop."""
        return self.shape.concurrency if isinstance(self.shape, Closed) else None

    @property
    def rate(self) -> float | None:
        """Arrivals (of conversations, too) a second, where one number says it; of a ramp, the rate it ends with."""
        match self.shape:
            case Constant(rate=rate) | Poisson(rate=rate) | Gamma(rate=rate) | Ramp(end=rate):
                return rate
            case Sessions(rate=rate) | ToolLoop(rate=rate):
                return rate
            case Burst(size=size, every_ns=every_ns):
                return size * 1e9 / every_ns
        return None

    @property
    def elastic(self) -> bool:
        """A step without an end of its own: Locust's command spawns its users and ends it."""
        return not self.open and self.requests is None and self.duration_ns is None

    @property
    def end_ns(self) -> int:
        """When arrivals end, from the step's start, in time that the endpoint is loaded."""
        return self.UNLIMITED if self.duration_ns is None else self.warmup_ns + self.duration_ns


def _think(think_ns: int) -> str:
    return f" think {think_ns / 1e9:g}s" if think_ns else ""


def _per_time(rate: float) -> str:
    """A rate a second, in a unit that needs few leading zeros."""
    for per_s, unit in ((1, "s"), (60, "min")):
        if rate * per_s >= 0.1:
            return f"{rate * per_s:g}/{unit}"
    return f"{rate * 3600:g}/h"
