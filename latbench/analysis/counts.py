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
    """What is counted over rows of the measured phase.

    `expected` are the `ok` answers to prompts with an `expect` that could be scored, `met` those of them that met it.
    """
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
        "rate_limits": hits(cols.attempts(cols.refused(measured))),
        "tokens": _tokens(cols, ok),
        "completed": completed(cols, measured),
        "expected": int(np.count_nonzero(cols.met[ok] >= 0)),
        "met": int(np.count_nonzero(cols.met[ok] > 0)),
    }


def completed(cols: Columns, measured: np.ndarray) -> int:
    """How many answers are `ok` and as expected by prompt and output mode. What nobody asked for is not missing.

    One that calls tools of a tool loop is none: the loop's last one answers.
    """
    ok = measured[cols.outcome[measured] == OK]
    calls, _, executed_ns = cols.tool_times.of(ok)
    answers = (calls == 0) | np.isnan(executed_ns)
    return int(np.count_nonzero(answers & (cols.met[ok] != 0) & (cols.valid[ok] != 0)))


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
    sums["reference_per_own"] = _reference_per_own(cols, ok)
    sources = list(_tally(cols.source[ok], cols.sources.names))
    sums["source"] = "none" if not sources else sources[0] if len(sources) == 1 else "mixed"
    return sums


def _reference_per_own(cols: Columns, ok: np.ndarray) -> float | None:
    """Reference tokens for each of the provider's own tokens of visible text, over answers that have both.

    Reasoning is no visible text. None where no answer has both: a count of our own is not the provider's.
    """
    own = cols.tokens["output"][ok] - np.nan_to_num(cols.tokens["reasoning"][ok])
    reference = cols.tokens["reference"][ok]
    both = (cols.source[ok] == cols.sources.numbers.get("usage", -1)) & (own > 0) & np.isfinite(reference)
    total = float(own[both].sum(dtype=np.float64))
    return float(reference[both].sum(dtype=np.float64)) / total if total else None


def errors(found: Counter[Error]) -> list[dict[str, Any]]:
    """The commonest failures in the endpoint's own words."""
    return [
        {"outcome": outcome, "status": status, "message": message, "count": count}
        for (outcome, status, message), count in found.most_common(SHOWN_ERRORS)
    ]
