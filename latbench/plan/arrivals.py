"""When the requests of an open loop are due: computed from the seed before the start, the same on every machine.

Every engine computes all arrivals of a step and sends those of its own shards (`plan/partition.py`). The random shapes
are one process of mean rate 1 in integer quanta, stretched to the rate: sums of integers do not drift, and the plan for
a longer duration begins with that for a shorter one. Poisson gaps come from a counter-based generator and from a
logarithm made of the four basic operations, because those give the same bits everywhere and library logarithms do not.
What remains (numpy's gamma) is caught by comparing `digest` before a step starts.
"""

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from latbench.model.load import Burst, Closed, Constant, Gamma, Poisson, Ramp, Sessions, Step, ToolLoop

MAX_ARRIVALS = 20_000_000
_QUANTA = 2.0**24  # in a mean gap: fine enough for any rate, and coarse enough to swallow the last bits of a library
_BLOCK = 1 << 16
_TOGETHER = 512  # arrivals reckoned from one exact multiple: 512 times a numerator of 53 bits fits an int64
_SECOND_NS = 1_000_000_000
_LN_2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_LOG_TERMS = 13  # the square is at most 0.0295, and what follows the 13th term below a double's last bit
_TINY = 1e-200  # divides nothing but 0, or what is not used


def arrivals(step: Step, seed: int, index: int) -> np.ndarray:
    """All arrivals of `step`, number `index` of the run; of conversations, their starts.

    In int64 nanoseconds from the step's start, in time that the endpoint is loaded, warm-up included; never falling.
    Different steps of a run have independent streams; `requests` and the end only cut.
    ValueError for a closed loop, for a ramp without a duration, and for more than `MAX_ARRIVALS`.
    """
    match step.shape:
        case Closed():
            raise ValueError("a closed loop has no arrivals: its turns begin when the last ones have ended")
        case Constant(rate=rate):
            return _constant(step, rate)
        case Poisson(rate=rate) | Sessions(rate=rate) | ToolLoop(rate=rate):
            return _stretched(step, _process(seed, index, _exponential), _by_rate(rate))
        case Gamma(rate=rate, cv=cv):
            return _stretched(step, _process(seed, index, _gamma(cv)), _by_rate(rate))
        case Ramp() as ramp:
            return _stretched(step, _process(seed, index, _exponential), _by_ramp(step, ramp))
        case Burst(size=size, every_ns=every_ns):
            count = _checked(step, -(-step.end_ns // every_ns) * size)
            return np.repeat(np.arange(-(-count // size), dtype=np.int64) * every_ns, size)[:count]
        case trace:
            offsets = np.frombuffer(trace.offsets_ns, dtype="<i8").astype(np.int64)
            return offsets[: _checked(step, int(np.searchsorted(offsets, step.end_ns)))]


def digest(offsets: np.ndarray) -> str:
    """What master and engines compare before a step starts: SHA-256 of the offsets."""
    return hashlib.sha256(offsets.astype("<i8").tobytes()).hexdigest()


def sequence(step: Step) -> int:
    """How many sequence numbers an arrival has: the most turns of a conversation, else 1."""
    return step.most_turns or 1


def _checked(step: Step, count: int) -> int:
    """`count`, or `step.requests` if that is fewer. ValueError if that is more than anybody can mean."""
    if step.requests is not None:
        count = min(count, step.requests)
    if count > MAX_ARRIVALS:
        raise ValueError(f"a step of more than {MAX_ARRIVALS:,} arrivals: lower its rate, requests or duration")
    return count


def _constant(step: Step, rate: float) -> np.ndarray:
    """Arrival k at k / rate, rounded (halves up) from the exact fraction, however large k is."""
    period = _SECOND_NS / Fraction(rate)
    part, whole = period.numerator, period.denominator
    # k is due before the end where 2 * k * part + whole < 2 * whole * end
    count = _checked(step, -(-whole * (2 * step.end_ns - 1) // (2 * part)))
    if count <= 1:
        return np.zeros(count, dtype=np.int64)  # and a period that no int64 holds stays out of the sums below
    anchors = np.array([divmod(k * part, whole) for k in range(0, count, _TOGETHER)], dtype=np.int64).reshape(-1, 2, 1)
    period_ns, rest = divmod(part, whole)
    later = np.arange(_TOGETHER, dtype=np.int64)
    offsets = anchors[:, 0] + later * period_ns + (anchors[:, 1] + later * rest + whole // 2) // whole
    return offsets.reshape(-1)[:count]


def _stretched(step: Step, process: Iterator[np.ndarray], times: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The process under `times`, which maps its time to nanoseconds of the step, up to the end of the step."""
    limit = MAX_ARRIVALS + 1 if step.requests is None else min(step.requests, MAX_ARRIVALS + 1)
    blocks = [np.empty(0, dtype=np.int64)]
    count = 0
    while count < limit:
        offsets = np.rint(np.minimum(times(next(process)), Step.UNLIMITED)).astype(np.int64)
        before_end = int(np.searchsorted(offsets, step.end_ns))
        blocks.append(offsets[:before_end])
        count += before_end
        if before_end < len(offsets):
            break
    return np.concatenate(blocks)[: _checked(step, count)]


def _process(seed: int, index: int, gaps: Callable[[np.random.Generator], np.ndarray]) -> Iterator[np.ndarray]:
    """The arrival times of a process of rate 1, block by block, without end. `gaps` draws a block of gaps of mean 1."""
    key = hashlib.blake2b(f"{seed}:arrivals:{index}".encode(), digest_size=16, person=b"latbench-plan").digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    total = 0
    while True:
        block = total + np.cumsum(np.rint(gaps(generator) * _QUANTA).astype(np.int64))
        total = int(block[-1])
        yield block / _QUANTA


def _exponential(generator: np.random.Generator) -> np.ndarray:
    """Gaps of a poisson process."""
    return -_log(1.0 - generator.random(_BLOCK))


def _gamma(cv: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Gaps whose standard deviation is `cv` times their mean."""
    shape = cv**-2
    return lambda generator: generator.standard_gamma(shape, _BLOCK) / shape


def _log(values: np.ndarray) -> np.ndarray:
    """The natural logarithm of numbers in (0, 1], by 2 * atanh((m - 1) / (m + 1)) and basic operations alone."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa[low] *= 2.0
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = np.zeros_like(ratio)
    for term in reversed(range(_LOG_TERMS)):
        series = series * square + 1.0 / (2 * term + 1)
    logarithm: np.ndarray = 2.0 * ratio * series + (exponent - low) * _LN_2
    return logarithm


def _by_rate(rate: float) -> Callable[[np.ndarray], np.ndarray]:
    """Time of the unit process to nanoseconds at `rate` a second."""
    return lambda units: units * (_SECOND_NS / rate)


def _by_ramp(step: Step, ramp: Ramp) -> Callable[[np.ndarray], np.ndarray]:
    """Time of the unit process to nanoseconds: the inverse of the rate's integral. After the duration nothing comes.

    x arrivals into the ramp, t solves start * t + slope / 2 * t² = x. The root is written so that no difference of
    nearly equal numbers enters, and that a slope of 0 needs no case of its own.
    """
    if step.duration_ns is None:
        raise ValueError("a ramp needs a duration")
    warmup_s, ramp_s = step.warmup_ns / _SECOND_NS, step.duration_ns / _SECOND_NS
    slope = (ramp.end - ramp.start) / ramp_s
    whole = (ramp.start + ramp.end) / 2.0 * ramp_s

    def times(units: np.ndarray) -> np.ndarray:
        into = units - ramp.start * warmup_s
        x = np.clip(into, 0.0, whole)
        root = np.sqrt(np.maximum(ramp.start**2 + 2.0 * slope * x, 0.0))
        inside_s = 2.0 * x / np.maximum(ramp.start + root, _TINY)
        at_s = np.where(into < 0.0, units / max(ramp.start, _TINY), warmup_s + inside_s)
        return np.where(into < whole, at_s * _SECOND_NS, Step.UNLIMITED)

    return times
