"""What goes wrong with an answer, drawn from the seed and the request's number: at most one fault each."""

from dataclasses import dataclass
from enum import StrEnum

from latbench.sim import draws
from latbench.sim.options import Options

_FAULT, _PLACE = 48, 49


class Fault(StrEnum):
    """The kinds of faults, by the names that `/sim/stats` counts them under."""

    RESET = "reset"
    CUT = "cut"
    STALL = "stall"
    GARBAGE = "garbage"
    ERROR_EVENT = "error_event"
    STATUS_500 = "500"
    STATUS_503 = "503"
    STATUS_529 = "529"

    @property
    def status(self) -> int | None:
        """Of a fault that is an HTTP status instead of an answer."""
        return int(self) if self.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Fate:
    """The fault of one request. It strikes after `after` tokens of its answer."""

    fault: Fault
    number: int
    seed: int

    def after(self, tokens: int) -> int:
        """Of an answer of so many tokens: at least 1, if it has any, and not all if it has more."""
        if tokens < 2:
            return tokens
        return 1 + draws.integer(draws.stream_key(self.seed, self.number, _PLACE), 0) % (tokens - 1)


def shares(options: Options) -> dict[Fault, float]:
    """How likely each fault is. Raises ValueError where they are more than certain together."""
    found = {fault: float(getattr(options, f"p_{fault}")) for fault in Fault}
    if sum(found.values()) > 1 + 1e-9:
        raise ValueError(f"the shares of the faults add up to {sum(found.values()):g}: no more than 1 can be")
    return found


def drawn(options: Options, number: int) -> Fate | None:
    """The fault of request `number`, if it gets one. Raises ValueError as `shares` does."""
    left = draws.uniform(draws.stream_key(options.seed, number, _FAULT), 0)
    for fault, share in shares(options).items():
        left -= share
        if left < 0:
            return Fate(fault, number, options.seed)
    return None
