"""What is counted over rows of the measured phase: outcomes, rate limits, tokens, the commonest failures."""

from collections import Counter
from typing import Any

import numpy as np

from latbench.analysis.columns import TOKENS, Columns, Error
from latbench.analysis.limits import hits
from latbench.analysis.words import OK, OUTCOMES
from latbench.model.sample import Outcome

SHOWN_ERRORS = 3


def counted(cols: Columns, measured: np.ndarray) -> dict[str, Any]:
    """What is counted over rows of the measured phase."""
    ok = measured[cols.outcome[measured] == OK]
    found = outcomes(cols, measured)
    sent = len(measured) - found[Outcome.DROPPED]
    failed = sent - found[Outcome.OK] - found[Outcome.CANCELLED]
    models = cols.model[measured]
    return {
        "reported_models": dict(sorted(_tally(models[models >= 0], cols.models.names).items())),
        "outcomes": found,
        "empty": int(cols.empty[measured].sum()),
        "error_rate": failed / sent if sent else None,
        "rate_limits": hits(cols.attempts(measured)),
        "tokens": _tokens(cols, ok),
    }


def outcomes(cols: Columns, rows: np.ndarray) -> dict[str, int]:
    """Every outcome with its number, 0 included."""
    counted = np.bincount(cols.outcome[rows], minlength=len(OUTCOMES))
    return {name: int(count) for name, count in zip(OUTCOMES, counted, strict=True)}


def _tally(codes: np.ndarray, names: list[str]) -> dict[str, int]:
    found, counts = np.unique(codes, return_counts=True)
    return {names[int(code)]: int(count) for code, count in zip(found, counts, strict=True)}


def _tokens(cols: Columns, ok: np.ndarray) -> dict[str, Any]:
    """Sums over `ok` rows of what is known; null where none of them says anything. `mixed`: of several sources."""
    sums: dict[str, Any] = {}
    for name in TOKENS:
        known = cols.tokens[name][ok]
        known = known[np.isfinite(known)]
        sums[name] = int(known.sum(dtype=np.float64)) if len(known) or not len(ok) else None
    sources = list(_tally(cols.source[ok], cols.sources.names))
    sums["source"] = "none" if not sources else sources[0] if len(sources) == 1 else "mixed"
    return sums


def errors(found: Counter[Error]) -> list[dict[str, Any]]:
    """The commonest failures in the endpoint's own words."""
    return [
        {"outcome": outcome, "status": status, "message": message, "count": count}
        for (outcome, status, message), count in found.most_common(SHOWN_ERRORS)
    ]
