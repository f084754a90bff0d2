"""Output modes in words and as a table: what structure costs, and how many answers are valid for it."""

from collections.abc import Iterator, Mapping
from typing import Any

from latbench.analysis.modes import LEAST, LENGTH, METRICS
from latbench.metrics.catalogue import BY_NAME
from latbench.model.request import PROMPTED
from latbench.report.figures import MISSING, count, number, percentile

HEAD = ("mode, p50", "ok", "valid", "output tokens", "TTFT ms", "end to end ms", "tok/s")
_OTHER_LENGTH = 0.1


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row for each mode, under `HEAD`."""
    return [
        (
            mode,
            count(arm["outcomes"]["ok"]),
            MISSING if arm["valid"] is None else _share(arm["valid"]["share"]),
            number(arm[LENGTH]["p50"]),
            percentile(arm["metrics"]["ttft_ms"], "p50"),
            percentile(arm["metrics"]["e2e_ms"], "p50"),
            percentile(arm["metrics"]["generation_tokens_per_s"], "p50"),
        )
        for mode, arm in found["arms"].items()
    ]


def verdicts(found: Mapping[str, Any]) -> Iterator[str]:
    """One line for each mode that is held against the baseline: its overhead, and its valid share."""
    for mode, overhead in found["overhead"].items():
        others = [
            f"{BY_NAME[name].label} {_change(overhead[name])}"
            for name in METRICS
            if name != "e2e" and overhead[name]["ratio"] is not None
        ]
        line = _end_to_end(mode, found["baseline"], overhead["e2e"])
        line += f" ({', '.join(others)})" if others else ""
        line += _length(overhead[LENGTH]["ratio"])
        own, prompted = found["arms"][mode]["valid"], found["arms"].get(PROMPTED, {}).get("valid")
        if own is not None:
            line += f"; valid {_interval(own)}"
            line += f" against {_interval(prompted)} {PROMPTED}" if prompted is not None and mode != PROMPTED else ""
        yield line


def validity(found: Mapping[str, Any]) -> str:
    """The valid share of a run with one mode."""
    return f"{_interval(found)} of {count(found['n'])} answers satisfy the schema"


def _end_to_end(mode: str, base: str, found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return f"{mode} against {base}: {count(found['n'])} pairs of answers, {LEAST} are needed"
    pairs = f"{count(found['n'])} pairs"
    low, high = found["ci95"]
    if low <= 1 <= high:
        return f"{mode}: no difference shown end to end from {base}, {_change(found)}, {pairs}"
    if low > 1:
        return f"{mode} costs {_change(found)} more end to end than {base}, {pairs}"
    less = {"ratio": 2 - found["ratio"], "ci95": (2 - high, 2 - low)}
    return f"{mode} takes {_change(less)} less end to end than {base}, {pairs}"


def _length(ratio: float | None) -> str:
    """What to say of answers that are longer or shorter than the baseline's: part of their time comes from that."""
    if ratio is None or abs(ratio - 1) <= _OTHER_LENGTH:
        return ""
    return f"; answers are {abs(ratio - 1) * 100:,.0f} % {'longer' if ratio > 1 else 'shorter'}"


def _change(found: Mapping[str, Any]) -> str:
    """`12 % (3 to 22 %)`."""
    low, high = found["ci95"]
    return f"{_percent(found['ratio'])} % ({_percent(low)} to {_percent(high)} %)"


def _percent(ratio: float) -> str:
    change = (ratio - 1) * 100
    return f"{change:,.0f}" if abs(change) >= 3 else f"{change:.1f}"


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{_share(found['share'])} ({low * 100:.0f} to {high * 100:.0f} %)"


def _share(value: float) -> str:
    return f"{value * 100:.1f} %" if 0 < value < 1 else f"{value * 100:.0f} %"
