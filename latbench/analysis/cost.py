"""What the measured phase cost, from the recorded tokens and the endpoint's price.

Every request whose tokens in and out are known counts, whatever became of it: a provider bills what it generated. Of
the others nothing is guessed. `known` says for how many of the `ok` requests the tokens are known; `unbilled_unknown`
counts all that may have been billed without our knowing for how much, most of them answers that broke off before
their usage came. Where either speaks, the true cost is higher. Attempts that were refused are billed by nobody.

The whole cost, failures included, is also held against what it bought: a request that was `ok`, 1,000 good requests
(`ok` and within the SLO), and a completed task: `ok`, and where the prompt or the output mode expects something, as
expected. Only those are counted whose tokens are known: the others' cost is not in it. Cached tokens are part of the
input, and cost what they cost where that price is known.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from latbench.analysis.columns import Columns
from latbench.analysis.counts import completed
from latbench.analysis.words import OK, OUTCOMES
from latbench.model.sample import Outcome

_PRICE_TOKENS = 1_000_000
_K = 1_000

_LOST = OUTCOMES.index(Outcome.LOST)  # nobody is left to say whether it was sent

# The endpoint worked on these, or may have.
_BILLABLE = [
    OUTCOMES.index(outcome)
    for outcome in (
        Outcome.OK,
        Outcome.STREAM_ERROR,
        Outcome.TRUNCATED,
        Outcome.MALFORMED,
        Outcome.TIMEOUT,
        Outcome.STALLED,
        Outcome.CANCELLED,
        Outcome.LOST,
    )
]


def cost(
    cols: Columns, measured: np.ndarray, price: Mapping[str, float] | None, good: np.ndarray | None = None
) -> dict[str, Any] | None:
    """US dollars for rows of the measured phase. `good` says of every row whether it is (None: there is no SLO).

    None without a price; figures are null where no tokens are known, and where there is nothing to divide by.
    """
    if price is None:
        return None
    read, written = (cols.tokens[name][measured].astype(np.float64) for name in ("input", "output"))
    known = np.isfinite(read) & np.isfinite(written)
    ok = cols.outcome[measured] == OK
    sent = np.isfinite(cols.sent_ns[measured]) | (cols.outcome[measured] == _LOST)
    billable = sent & np.isin(cols.outcome[measured], _BILLABLE)
    cached = np.minimum(np.nan_to_num(cols.tokens["cached"][measured].astype(np.float64)), read)[known]
    read, written = read[known], written[known]
    dollars = (read - cached) * price["input"] + cached * price.get("cached_input", price["input"])
    usd = float((dollars + written * price["output"]).sum()) / _PRICE_TOKENS if known.any() else None
    answered, paid = int(ok.sum()), measured[known]
    return {
        "usd": usd,
        "usd_per_ok_request": _each(usd, int((ok & known).sum())),
        "usd_per_1k_tokens": _each(usd, float((read + written).sum()), _K),
        "usd_per_1k_good": None if good is None else _each(usd, int(good[paid].sum()), _K),
        "usd_per_completed_task": _each(usd, completed(cols, paid)),
        "known": int((ok & known).sum()) / answered if answered else None,
        "unbilled_unknown": int((billable & ~known).sum()),
    }


def _each(usd: float | None, number: float, times: int = 1) -> float | None:
    return usd / number * times if usd is not None and number else None
