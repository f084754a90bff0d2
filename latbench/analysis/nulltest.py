"""What the null tests of all workers found, together: the client's own error in numbers. Pure."""

from collections.abc import Mapping
from typing import Any

from latbench.analysis.client import table_ms
from latbench.metrics.histogram import Histogram
from latbench.model.frames import NullTested


def pooled(found: Mapping[str, NullTested | None], streams: int) -> dict[str, Any] | None:
    """The block `null_test` of `summary.json`: figures of all workers pooled, and of several the worst one's own.

    The worst is the one with the largest p99 of its lag. None where no worker found anything.
    """
    told = {worker: one for worker, one in found.items() if one is not None and not one.why}
    if not told:
        return None
    own = {worker: _block([one]) for worker, one in told.items()}
    block = _block(list(told.values())) | {"streams": streams, "workers": len(told)}
    if len(own) > 1:
        worst = max(own, key=lambda worker: own[worker]["lag_ms"]["p99"])
        block["worst"] = {"worker": worst} | own[worst]
    return block


def _block(tests: list[NullTested]) -> dict[str, Any]:
    error, lag = Histogram(), Histogram()
    for test in tests:
        error.add_counted(test.ttft_error)
        lag.add_counted(test.lag)
    return {"ttft_error_ms": table_ms(error), "lag_ms": table_ms(lag)}


def failures(found: Mapping[str, NullTested | None]) -> list[str]:
    """What to note of workers that found nothing."""
    return [
        f"worker {worker}: the null test did not run: {'no answer' if one is None else one.why}"
        for worker, one in found.items()
        if one is None or one.why
    ]
