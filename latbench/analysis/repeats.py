"""Each prompt sent several times: how much of the spread is the prompts', and how much the endpoint's.

Logs of latencies are taken apart as prompt + rest (one-way random effects, by analysis of variance; Searle, Casella and
McCulloch 1992, section 3.6, for prompts of unequal number). With k prompts, n answers, n_i of prompt i:

    within  = sum_i sum_j (x_ij - mean_i)^2 / (n - k)
    between = max(0, (sum_i n_i (mean_i - mean)^2 / (k - 1) - within) / n0),   n0 = (n - sum_i n_i^2 / n) / (k - 1)

More repeats narrow what is known of a prompt, more prompts what is known of the load: the larger part says which to add
(Kalibera and Jones 2013: repeat where the variance arises). Both are of this run: a drift during it is in `within`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from latbench.analysis.columns import Columns
from latbench.analysis.words import OK

METRICS = ("ttft", "tpot", "e2e")
LEAST_PROMPTS = 5
LEAST_REPEATS = 5
"""Fewer prompts, or fewer answers beyond the first of each, say nothing about a spread."""


def repeat_of(scenario: Mapping[str, Any]) -> int:
    """How often a resolved scenario sends each prompt."""
    return int(scenario.get("repeat", 1))


def repeats(cols: Columns, measured: np.ndarray, repeat: int) -> dict[str, Any] | None:
    """The parts of the spread of `METRICS` over rows of one endpoint and step; None where prompts go out once."""
    if repeat == 1:
        return None
    ok = measured[cols.outcome[measured] == OK]
    found = {name: components(cols.metrics[name][ok], cols.prompt[ok], cols.mode[ok]) for name in METRICS}
    return {"repeat": repeat, "metrics": found}


def components(values: np.ndarray, prompt: np.ndarray, mode: np.ndarray) -> dict[str, Any]:
    """The parts of the spread of one metric, each mode of a prompt for itself; null where there are too few answers.

    `within` and `between` are factors: exp of the standard deviation of logs. `share_between` is of the variance.
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values) & (values > 0)
    logs = np.log(values[known])
    _, of, sizes = np.unique(np.stack((prompt[known], mode[known])), axis=1, return_inverse=True, return_counts=True)
    n, k = len(logs), len(sizes)
    found: dict[str, Any] = {"n": n, "prompts": k, "within": None, "between": None, "share_between": None}
    if k < LEAST_PROMPTS or n - k < LEAST_REPEATS:
        return found
    means = np.bincount(of, weights=logs) / sizes
    within = math.fsum((logs - means[of]) ** 2) / (n - k)
    each = (n - float(sizes @ sizes) / n) / (k - 1)
    among = math.fsum(sizes * (means - logs.mean()) ** 2) / (k - 1)
    between = max(0.0, (among - within) / each)
    whole = within + between
    return found | {
        "within": math.exp(math.sqrt(within)),
        "between": math.exp(math.sqrt(between)),
        "share_between": between / whole if whole else None,
    }
