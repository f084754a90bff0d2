"""Rate limits in words: what was refused, whether waiting as told was enough, the ceiling beside what was promised.

Nothing is said where nothing was refused and no demand was stated.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from latbench.report.figures import count, number

# The name under which a scenario promises a limit, and what that limit counts.
_PROMISED = {"requests": "rpm", "unknown": "rpm", "tokens": "tpm", "concurrency": "concurrency", "daily": "rpd"}
_COUNTED = {"tokens": "tokens", "input_tokens": "input tokens", "output_tokens": "output tokens"}
_VERDICTS = {"holds": "enough {}", "falls_short": "too few {}", "inconclusive": "{}: too close to tell"}


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is said of the limits of an endpoint, or of a provider: a word or two, and a line."""
    if found["hits"]:
        yield "rate limits", hits(found)
        if found["headroom"]:
            yield "headroom", _headroom(found["headroom"])
    ceilings = found["ceiling"] or {}
    for kind in {**found["by_kind"], **ceilings}:
        if line := _ceiling(kind, ceilings.get(kind), found["promised"] or {}):
            yield f"ceiling, {kind.replace('_', ' ')}", line
    if found["keys"] is not None and found["hits"]:
        keys = found["keys"]
        verdict = "not known whether they share limits" if keys["verdict"] == "unknown" else f"{keys['verdict']} limits"
        yield "keys", f"{count(keys['count'])}, {verdict}: {keys['why']}"
    if found["demand"] is not None:
        yield "demand", _demand(found["demand"])


def hits(found: Mapping[str, Any]) -> str:
    """Hits, their kinds, the waits that were asked for, and whether these were long enough."""
    kinds = ", ".join(f"{kind} {count(n)}" for kind, n in found["by_kind"].items())
    most = found["per_second"]["max"]
    line = f"{count(found['hits'])} hits ({kinds})" + (f", at most {count(most)} in a second" if most else "")
    wait, audit = found["retry_after_s"], found["audit"]
    if wait["max"] is not None:
        line += f"; asked to wait p50 {number(wait['p50'])} s, max {number(wait['max'])} s"
    if audit["followed"]:
        line += f"; that was long enough {count(audit['long_enough'])} of {count(audit['followed'])} times"
    return line + (f"; waited {number(found['waited_s'])} s in all" if found["waited_s"] else "")


def _headroom(found: Mapping[str, Mapping[str, float | None]]) -> str:
    parts = [
        f"{kind.replace('_', ' ')} at least {_amount(one['least_remaining'])} of {_amount(one['limit'])} left"
        for kind, one in sorted(found.items())
    ]
    return ", ".join(parts)


def _ceiling(kind: str, found: Mapping[str, Any] | None, promised: Mapping[str, float]) -> str:
    """The measured ceiling beside the promised one; empty where there is neither."""
    name = _PROMISED.get(kind, "")
    promise = f"promised {count(int(promised[name]))}" if name in promised else ""
    if found is None:
        return promise
    return "; ".join(part for part in (_measured(kind, found), promise) if part)


def _measured(kind: str, found: Mapping[str, Any]) -> str:
    several = found.get("keys_together")
    together = "" if several is None else f"{count(several)} keys together"
    if found["rate_per_min"] is None:
        taken = found["accepted_per_min"]
        return f"not measured{together and f' for {together}'}: {found['why']}" + (
            "" if taken is None else f"; {_amount(taken)}/min were taken meanwhile"
        )
    low, high = found["ci95"]
    if found["behaviour"] == "bucket":
        way = f"a bucket with a burst of {_amount(found['burst'])}"
    else:
        way = f"a {found['behaviour'].replace('_', ' ')} of {found['window_s']:g} s"
    unit = _COUNTED.get(kind, "requests")
    line = f"{_amount(found['rate_per_min'])} {unit}/min ({_amount(low)} to {_amount(high)}), {way}"
    return f"{line}, {together}" if together else line


def _amount(value: float | None) -> str:
    """Requests or tokens: most of them are whole."""
    return number(value) if value is None or value >= 1000 else f"{value:,.1f}".removesuffix(".0")


def _demand(found: Mapping[str, Any]) -> str:
    verdicts = [_VERDICTS[one["verdict"]].format(one["kind"]) for one in found["needs"] if one["verdict"] in _VERDICTS]
    return "; ".join([found["words"], *verdicts])
