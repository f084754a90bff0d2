"""Which requests are good, and which steps of the load hold the SLO.

A request is good if it is `ok` and within every limit: at most the limit where lower is better, at least the limit for
a rate. `inter_chunk` limits the longest gap of the request. A limit on a metric that the request does not have is not
met: nobody has seen that it was. One exception: an endpoint that never streams (`stream: false`) is not held to the
metrics that only a stream has.

A step holds the SLO where at least `GOOD_SHARE` of its requests are good. Whatever failed, was dropped or lost counts
against it; what latbench itself cancelled at the end of the drain does not count.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latbench.analysis.columns import Columns
from latbench.analysis.words import OK, OUTCOMES
from latbench.metrics.catalogue import BY_NAME, NEED_A_STREAM, NS_PER_MS
from latbench.metrics.fluidity import Pace
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome

GOOD_SHARE = 0.95
_CANCELLED = OUTCOMES.index(Outcome.CANCELLED)


def good_rows(run: RunRecord, cols: Columns) -> np.ndarray | None:
    """Whether each row is good, in either phase; None where the run has no SLO."""
    if not run.slo:
        return None
    good: np.ndarray = cols.outcome == OK
    plain = _not_streamed(run, cols)
    for name, limit in run.slo.items():
        metric = BY_NAME[name]
        values, bound = cols.metrics[name], limit * metric.scale
        # A comparison with NaN is false: what is not known is not within the limit.
        within = values >= bound if metric.higher_is_better else values <= bound
        good &= within | plain if name in NEED_A_STREAM else within
    return good


def pace(limits: Mapping[str, float]) -> Pace | None:
    """The reader whom the limits of an SLO (in ms) have in mind; None where they say nothing of one."""
    if not {"ttft", "tpot"} <= set(limits):
        return None
    return Pace(limits["ttft"] * NS_PER_MS, limits["tpot"] * NS_PER_MS)


def _not_streamed(run: RunRecord, cols: Columns) -> np.ndarray:
    """The rows of endpoints that the scenario tells not to stream."""
    settings = run.scenario.get("endpoints", [])
    names = [one["name"] for one in settings if not one.get("stream", True)]
    return np.isin(cols.endpoint, [cols.endpoints.numbers.get(name, -1) for name in names])


def share(cols: Columns, good: np.ndarray | None, measured: np.ndarray) -> dict[str, Any]:
    """`good` and `good_share` of rows of the measured phase; null without an SLO, the share also without requests."""
    if good is None:
        return {"good": None, "good_share": None}
    counted = measured[cols.outcome[measured] != _CANCELLED]
    number = int(np.count_nonzero(good[counted]))
    return {"good": number, "good_share": number / len(counted) if len(counted) else None}


def meets(good_share: float | None) -> bool | None:
    """Whether a step holds the SLO; None where there is no SLO or no request."""
    return None if good_share is None else good_share >= GOOD_SHARE


def levels(endpoints: Sequence[str], steps: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int | None]]:
    """For each endpoint the last step, in the order of the run, that holds the SLO, and the first that does not."""
    found: dict[str, dict[str, int | None]] = {}
    for name in endpoints:
        within = [step["index"] for step in steps if step["endpoints"][name]["meets_slo"] is True]
        beyond = [step["index"] for step in steps if step["endpoints"][name]["meets_slo"] is False]
        found[name] = {
            "last_within_slo": within[-1] if within else None,
            "first_beyond_slo": beyond[0] if beyond else None,
        }
    return found
