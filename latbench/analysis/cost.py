"""What the measured phase cost, from the recorded tokens and the endpoint's price.

Every request whose tokens in and out are known counts, whatever became of it: a provider bills what it generated. Of
the others nothing is guessed; `known` says for how many of the `ok` requests the tokens are known. Cached tokens are
part of the input, and cost what they cost where that price is known.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from latbench.analysis.columns import Columns
from latbench.analysis.words import OK

_PRICE_TOKENS = 1_000_000
_K = 1_000


def cost(cols: Columns, measured: np.ndarray, price: Mapping[str, float] | None) -> dict[str, Any] | None:
    """US dollars for rows of the measured phase. None without a price; figures are null where no tokens are known."""
    if price is None:
        return None
    read, written = (cols.tokens[name][measured].astype(np.float64) for name in ("input", "output"))
    known = np.isfinite(read) & np.isfinite(written)
    ok = cols.outcome[measured] == OK
    cached = np.minimum(np.nan_to_num(cols.tokens["cached"][measured].astype(np.float64)), read)[known]
    read, written = read[known], written[known]
    dollars = (read - cached) * price["input"] + cached * price.get("cached_input", price["input"])
    usd = float((dollars + written * price["output"]).sum()) / _PRICE_TOKENS
    tokens = float((read + written).sum())
    answered, with_tokens = int(ok.sum()), int((ok & known).sum())
    return {
        "usd": usd if known.any() else None,
        "usd_per_ok_request": usd / answered if answered and known.any() else None,
        "usd_per_1k_tokens": usd / tokens * _K if tokens else None,
        "known": with_tokens / answered if answered else None,
    }
