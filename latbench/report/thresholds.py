"""Thresholds in words: what was asked, what was measured, whether it holds, and what is missing to tell."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latbench.report.figures import MISSING, count, number, share

HEAD = ("threshold", "result", "endpoint", "step", "measured", "95 % interval", "why")
_ORDER = ("fail", "inconclusive", "pass")
_WORDS = {"fail": "failed", "inconclusive": "inconclusive", "pass": "passed"}


def tally(found: Sequence[Mapping[str, Any]]) -> str:
    """How many of them came to what."""
    results = [one["result"] for one in found]
    return ", ".join(f"{results.count(result)} {_WORDS[result]}" for result in _ORDER if result in results)


def worst(found: Sequence[Mapping[str, Any]]) -> str:
    """The result that decides: one failure is enough."""
    return next(result for result in _ORDER if any(one["result"] == result for one in found))


def lines(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(result, line) of each, those that did not pass first."""
    steps = len({one["step"] for one in found}) > 1
    for one in sorted(found, key=lambda entry: _ORDER.index(entry["result"])):
        where = f"{one['endpoint']}, step {one['step']}" if steps else one["endpoint"]
        more = f"; {why(one)}" if why(one) else ""
        yield one["result"], f"{one['expr']}: {measured(one)}{_between(one)} ({where}){more}"


def rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A table's rows under `HEAD`, in the order in which they were written."""
    return [
        [
            one["expr"],
            one["result"],
            one["endpoint"],
            str(one["step"]),
            measured(one),
            interval(one) or MISSING,
            why(one) or MISSING,
        ]
        for one in found
    ]


def measured(one: Mapping[str, Any]) -> str:
    """The value in the unit of its limit."""
    return _amount(one["value"], one["unit"])


def interval(one: Mapping[str, Any]) -> str:
    """The ends of the interval; empty where there is none, one of them where the data bound one side only."""
    if one["ci95"] is None:
        return ""
    low, high = one["ci95"]
    ends = [number_of(end, one["unit"]) for end in (low, high)]
    return f"above {ends[0]}" if high is None else f"below {ends[1]}" if low is None else " to ".join(ends)


def why(one: Mapping[str, Any]) -> str:
    """Why it came to that, as far as the figures do not say it."""
    if one["why"]:
        return str(one["why"])
    if one["result"] != "inconclusive":
        return ""
    if one["ci95"] is None:
        return "no interval is known"
    return "too few to tell" if one["need"] is None else f"about {count(one['need'])} would tell, there are {one['n']}"


def _between(one: Mapping[str, Any]) -> str:
    return f", 95 % interval {interval(one)}" if one["ci95"] is not None else ""


def _amount(value: float | None, unit: str) -> str:
    if value is None or unit in ("share", ""):
        return number_of(value, unit)
    return f"{number_of(value, unit)}{unit}" if unit == "/s" else f"{number_of(value, unit)} {unit}"


def number_of(value: float | None, unit: str) -> str:
    """A figure without its unit, but a share as per cent."""
    if value is None:
        return "n/a"
    if unit == "share":
        return share(value)
    if unit == "tokens":
        return count(int(value))
    if unit == "USD":
        return f"{value:,.6g}"
    return count(int(value)) if unit == "" and float(value).is_integer() else number(value)
