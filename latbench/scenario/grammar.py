"""How values are written: durations, rates, sizes, names, and what is said of a word that nobody knows.

Units are never guessed: a bare number where a unit matters is an error. The types at the end are those that records of
a scenario are made of.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("endpoints", 0, "model")`."""

UNITS_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}
LONGEST_NS = 8_760 * UNITS_NS["h"]

_SIZES = {"": 1, "k": 1_000, "M": 1_000_000}
_NUMBER = r"\d+(?:\.\d+)?"
_PER_H = 3_600
_PER_S = {"s": 1, "min": 60, "h": _PER_H}
_LOWEST_PER_H = Decimal("0.000999999")  # so that 0.001/h can also be written in another unit
_HIGHEST_PER_H = 1_000_000 * _PER_H


def parse_duration(value: object) -> int:
    """Nanoseconds of `250ms`, `30s`, `5m` or `1h`. Raises ValueError with advice; a bare number is refused."""
    if _is_bare(value):
        raise ValueError(f"a bare number; write {value}s")
    if not isinstance(value, str):
        raise ValueError("must be a duration such as 30s")
    match = re.fullmatch(rf"({_NUMBER})(ms|s|m|h)", value)
    if match is None:
        raise ValueError("not a duration; write one number and one unit (ms, s, m or h), such as 90s")
    ns = Decimal(match[1]) * UNITS_NS[match[2]]
    if ns > LONGEST_NS:
        raise ValueError("too long; at most 8760h")
    if ns != int(ns):
        raise ValueError("finer than a nanosecond; write fewer decimals")
    return int(ns)


def parse_positive_duration(value: object) -> int:
    """As `parse_duration`, and not 0: advice that would be refused next is not given."""
    if _is_bare(value) and float(str(value)) == 0:
        raise ValueError("must be longer than 0, with its unit, such as 60s")
    ns = parse_duration(value)
    if ns == 0:
        raise ValueError("must be longer than 0s")
    return ns


def _is_bare(value: object) -> bool:
    """Whether a value is a number that lacks its unit. What is below 0 would not do with one either."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value >= 0
    return isinstance(value, str) and re.fullmatch(_NUMBER, value) is not None


def format_duration(ns: int) -> str:
    """The shortest text without decimals, if there is one, that `parse_duration` reads as `ns`."""
    for unit, length in UNITS_NS.items():
        if ns and ns % length == 0:
            return f"{ns // length}{unit}"
    return f"{Decimal(ns) / UNITS_NS['ms']:f}ms" if ns else "0s"


def parse_size(value: object) -> int:
    """A count such as `256`, `10k` or `3M`. Raises ValueError with advice."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(rf"({_NUMBER})([kM]?)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size; write a whole number, or one with k or M, such as 10k")
    size = Decimal(match[1]) * _SIZES[match[2]]
    if size != int(size):
        raise ValueError("must be a whole number")
    return int(size)


def parse_rate(value: object) -> float:
    """Arrivals a second of `4/s`, `120/min` or `30/h`. Raises ValueError with advice; a bare number is refused."""
    if _is_bare(value):
        if float(str(value)) == 0:
            raise ValueError("must be more than 0, with its unit, such as 4/s")
        raise ValueError(f"a bare number; write {value}/s")
    if not isinstance(value, str):
        raise ValueError("must be a rate such as 4/s")
    match = re.fullmatch(rf"({_NUMBER})/(s|min|h)", value)
    if match is None:
        raise ValueError("not a rate; write a number and a unit (/s, /min or /h), such as 4/s")
    number = Decimal(match[1])
    if number == 0:
        raise ValueError("must be more than 0")
    # Held against the bounds before it is a float, which has no room for every number that can be written.
    if not _LOWEST_PER_H <= number * (_PER_H // _PER_S[match[2]]) <= _HIGHEST_PER_H:
        raise ValueError("must be between 0.001/h and 1000000/s")
    return _per_s(number, match[2])


def _per_s(number: Decimal, unit: str) -> float:
    return float(Fraction(number) / _PER_S[unit])


def format_rate(rate: float) -> str:
    """The text with the shortest number that `parse_rate` reads as `rate`."""
    numbers = {unit: Decimal(f"{rate * per_s:.12g}") for unit, per_s in _PER_S.items()}
    texts = [f"{number:f}/{unit}" for unit, number in numbers.items() if _per_s(number, unit) == rate]
    return min(texts or [f"{Decimal(repr(rate)):f}/s"], key=lambda text: text.index("/"))


def format_key(path: KeyPath) -> str:
    """`endpoints[0].model`, as messages name a place."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def nearest(word: str, among: Sequence[str]) -> str:
    """Advice for a word that is not among those: the nearest one, or all of them."""
    close = get_close_matches(word, among, n=1)
    return f'did you mean "{close[0]}"?' if close else f"there {'is' if len(among) == 1 else 'are'}: {', '.join(among)}"


def one_of(value: object, among: Sequence[str]) -> str:
    """What may stand there, and the nearest to what does."""
    close = get_close_matches(value, among, n=1) if isinstance(value, str) else []
    return f"must be {' or '.join(among)}" + (f'; did you mean "{close[0]}"?' if close else "")


def problems_at(problems: Sequence[tuple[KeyPath, str]]) -> PydanticCustomError:
    """An error that says itself where below the validated value its problems stand."""
    return PydanticCustomError("problems", "problems", {"problems": list(problems)})


def _one_or_more(value: object) -> object:
    """A list in a field is so many values, anything else is one; null is none."""
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("an empty list; give it a value or remove the key")
        return value
    return (value,)


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be text that can be printed, and not empty")
    return value


Duration = Annotated[int, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[int, BeforeValidator(parse_positive_duration)]
Rate = Annotated[float, BeforeValidator(parse_rate)]
Count = Annotated[int, Field(ge=1, le=2**53, strict=True)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1, le=2**53)]
Text = Annotated[str, Field(strict=True), AfterValidator(_printable)]
Flag = Annotated[bool, Field(strict=True)]
ONE_OR_MORE = BeforeValidator(_one_or_more)


class Record(BaseModel):
    """What a mapping of a scenario holds: the keys that are here and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")
