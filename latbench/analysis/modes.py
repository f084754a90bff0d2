"""Output modes held against one another: what structure costs in time, and how many answers are valid.

With several modes each prompt goes out once in each: neighbouring sequence numbers are a pair (`plan/modes.py`). The
overhead is measured inside pairs, so that neither the prompt nor a drift of the endpoint is in it: the ratio of the
geometric means of two modes over the pairs in which both answers are `ok`, that is, the mean of differences of logs.

Its 95 % interval is Student's t of these differences. Pairs of one prompt are not independent evidence about prompts:
where there are enough prompts, the error is that of clusters, one for each prompt, which for prompts drawn once is the
common paired t. With few prompts the pairs are the unit, and the interval is about these prompts only. All of it is
about this run: another hour may differ by more.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latbench.analysis import stats
from latbench.analysis.columns import Columns
from latbench.analysis.words import OK
from latbench.model.request import TEXT

METRICS = ("ttft", "tpot", "e2e")
LENGTH = "output_tokens"
"""How long the answers of two modes are is held against one another, too: longer ones take longer."""
LEAST = 8
"""How many pairs a ratio needs, and how many prompts are enough to be the unit of its interval."""


def listed(scenario: Mapping[str, Any]) -> tuple[str, ...]:
    """The output modes of a resolved scenario in its order; `text` where it names none."""
    mode = scenario.get("output", {}).get("mode", TEXT)
    return (mode,) if isinstance(mode, str) else tuple(mode)


def baseline(modes: Sequence[str]) -> str:
    """The mode that the others are held against: `text` where it is one of them, else the first."""
    return TEXT if TEXT in modes else modes[0]


def validity(cols: Columns, measured: np.ndarray) -> dict[str, Any] | None:
    """The share of valid answers among the `ok` ones that were held to a schema; None where none was."""
    asked = cols.valid[measured[cols.outcome[measured] == OK]]
    asked = asked[asked >= 0]
    if not len(asked):
        return None
    good = int(np.count_nonzero(asked))
    interval = stats.wilson(good, len(asked))
    return {"valid": good, "n": len(asked), "share": good / len(asked), "ci95": interval and list(interval)}


def overhead(cols: Columns, measured: np.ndarray, modes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`METRICS` and `LENGTH` of each other mode as multiples of the baseline's, over rows of one endpoint and step."""
    ok = measured[cols.outcome[measured] == OK]
    rows = {mode: ok[cols.mode[ok] == cols.modes.numbers.get(mode, -1)] for mode in modes}
    pairs = {mode: cols.seq[rows[mode]] // len(modes) for mode in modes}
    base = baseline(modes)
    found: dict[str, dict[str, Any]] = {}
    for mode in modes:
        if mode != base:
            _, in_base, in_mode = np.intersect1d(pairs[base], pairs[mode], return_indices=True)
            before, after = rows[base][in_base], rows[mode][in_mode]
            columns = {name: cols.metrics[name] for name in METRICS} | {LENGTH: cols.tokens["output"]}
            found[mode] = {
                name: ratio(values[before], values[after], cols.prompt[before]) for name, values in columns.items()
            }
    return found


def length(cols: Columns, measured: np.ndarray) -> dict[str, Any]:
    """The median of the output tokens of `ok` answers, of those `n` whose tokens are known; null for none."""
    known = cols.tokens["output"][measured[cols.outcome[measured] == OK]]
    known = np.sort(known[np.isfinite(known)])
    return {"n": len(known), "p50": stats.percentile(known, 500)}


def ratio(before: np.ndarray, after: np.ndarray, prompt: np.ndarray) -> dict[str, Any]:
    """The ratio after/before of pairs with its interval; null for fewer than `LEAST` in which both are above 0.

    `n` counts pairs, `unit` says what the interval takes for independent: `prompt` or `pair`.
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(before) & np.isfinite(after) & (before > 0) & (after > 0)
    moved, (names, of) = np.log(after[known] / before[known]), np.unique(prompt[known], return_inverse=True)
    n, prompts = len(moved), len(names)
    unit = "prompt" if prompts >= LEAST else "pair"
    found: dict[str, Any] = {"n": n, "prompts": prompts, "unit": unit, "ratio": None, "ci95": None}
    if n < LEAST:
        return found
    centre = float(moved.mean())
    parts = moved - centre if unit == "pair" else np.bincount(of, weights=moved - centre)
    squares = math.fsum(parts**2)  # exact: the order in which prompts were first seen must not show
    error = math.sqrt(len(parts) / (len(parts) - 1) * squares) / n
    half = stats.t975(len(parts) - 1) * error
    return found | {"ratio": math.exp(centre), "ci95": [math.exp(centre - half), math.exp(centre + half)]}
