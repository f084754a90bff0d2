"""Random numbers by address: draw k of request n under a seed is one fixed number, whatever else was drawn before.

So a request's answer does not depend on which others ran beside it. The mixer is SplitMix64's.
"""

import math

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


def _mixed(value: int) -> int:
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def stream_key(seed: int, request: int, stream: int) -> int:
    """The key of one stream of draws. `stream` parts the uses of a request's numbers (timing, text)."""
    return _mixed(_mixed(_mixed(seed & _MASK) ^ request) ^ stream)


def integer(key: int, draw: int) -> int:
    """Draw number `draw` of a stream: 64 random bits."""
    return _mixed((key + draw * _STEP) & _MASK)


def uniform(key: int, draw: int) -> float:
    """The same draw as a number strictly between 0 and 1."""
    return ((integer(key, draw) >> 12) + 0.5) * 2.0**-52


def normal(key: int, draw: int) -> float:
    """A standard normal number (Box-Muller). It takes the two draws 2 * `draw` and 2 * `draw` + 1 of the stream."""
    radius = math.sqrt(-2.0 * math.log(uniform(key, 2 * draw)))
    return radius * math.cos(2.0 * math.pi * uniform(key, 2 * draw + 1))
