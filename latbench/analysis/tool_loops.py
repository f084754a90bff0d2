"""Tool loops: the round trips of one taken together, and where its time went.

A loop is `ok` if the model came to an answer that calls no tool. It came to none where its last round trip was not `ok`
(then it ended as that one), where that still called tools and was the last that is allowed (`max_rounds`), or was cut
off by the limit of tokens in the midst of its calls (`length`). One that was to go on and did not was cut by the end of
the drain or of the budget: `cancelled`. A loop belongs to the phase in which its first request was due.

The times of a loop are those of what it waited for. Model time is the sum of its exchanges, from sent to the last
output; tool time is what the set delays of its calls come to, executed as the step says; the rest of the total is
neither: a refused request that waited, a budget, and our own part, which is milliseconds. The critical path is what
no executor can go below: model time, and of each turn the longest call. What executing the calls of each turn one after
the other comes to is computed the same way, so that both are of the same answers.
"""

from typing import Any

import numpy as np

from latbench.analysis import stats
from latbench.analysis.columns import Columns
from latbench.analysis.words import OK, OUTCOMES
from latbench.metrics.catalogue import NS_PER_S
from latbench.model.load import ToolLoop
from latbench.model.sample import Outcome

MAX_ROUNDS, LENGTH = "max_rounds", "length"
ENDINGS = (*OUTCOMES, MAX_ROUNDS, LENGTH)
"""What may become of a loop."""

_CANCELLED = OUTCOMES.index(Outcome.CANCELLED)
_MAX_ROUNDS, _LENGTH = ENDINGS.index(MAX_ROUNDS), ENDINGS.index(LENGTH)


def tool_loops(cols: Columns, rows: np.ndarray, shape: ToolLoop, *, running: bool) -> dict[str, Any]:
    """The tool loops of one endpoint in one step. `rows` are all its rows there, in both phases.

    Times, round trips and calls are of `ok` loops. Of a run that is still `running`, a loop that has come to no end yet
    is left out.
    """
    ordered = rows[np.argsort(cols.seq[rows], kind="stable")]
    _, first, count = np.unique(cols.seq[ordered] // shape.max_rounds, return_index=True, return_counts=True)
    calls, parallel_ns, sequential_ns = cols.tool_times.of(ordered)
    ending = _endings(cols.outcome[ordered], calls, sequential_ns, first, count, shape.max_rounds)
    kept = cols.measured[ordered[first]]
    if running:
        going_on = cols.outcome[ordered[first + count - 1]] == OK
        kept = kept & ~((ending == _CANCELLED) & going_on)
    done = kept & (ending == OK)
    counted = np.bincount(ending[kept], minlength=len(ENDINGS))
    planned, ok = int(kept.sum()), int(done.sum())
    of_done = np.repeat(done, count)
    return {
        "execution": shape.execution,
        "max_rounds": shape.max_rounds,
        "planned": planned,
        "ok": ok,
        "completion_rate": ok / planned if planned else None,
        "outcomes": {name: int(number) for name, number in zip(ENDINGS, counted, strict=True)},
        "round_trips": stats.describe(count[done].astype(np.float64)),
        "calls_per_turn": stats.describe(calls[of_done & (calls > 0)].astype(np.float64)),
        "calls": int(calls[of_done].sum()),
        **_times(cols, ordered, first, count, done, parallel_ns, sequential_ns, parallel=shape.parallel),
    }


def _times(
    cols: Columns,
    ordered: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    done: np.ndarray,
    parallel_ns: np.ndarray,
    sequential_ns: np.ndarray,
    *,
    parallel: bool,
) -> dict[str, Any]:
    """Where the time of the loops that are `done` went, in seconds."""
    ended = ordered[(first + count - 1)[done]]
    # e2e_response runs from `due` to the last output, so that this is the last output's own stamp.
    total = cols.due_ns[ended] + cols.metrics["e2e_response"][ended] - cols.due_ns[ordered[first[done]]]

    def summed(values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.add.reduceat(values, first)[done] if len(first) else np.empty(0)
        return sums

    model = summed(cols.metrics["e2e"][ordered])
    longest, one_by_one = summed(parallel_ns), summed(sequential_ns)
    tools = longest if parallel else one_by_one
    critical, sequential = model + longest, model + one_by_one
    parts = {"total": total, "model": model, "tools": tools, "critical_path": critical, "sequential": sequential}
    known = np.isfinite(total) & np.isfinite(model)  # an answer with nothing in it has no last output
    sums = {name: float(values[known].sum()) for name, values in parts.items()}
    return {
        **{f"{name}_s": stats.describe(values[known] / NS_PER_S) for name, values in parts.items()},
        "share": _shares(sums),
        "speed_up": sums["sequential"] / sums["critical_path"] if sums["critical_path"] else None,
    }


def _shares(sums: dict[str, float]) -> dict[str, float | None]:
    """What the total consists of; null where there is none."""
    parts = {"model": sums["model"], "tools": sums["tools"]}
    parts["neither"] = sums["total"] - sum(parts.values())
    return {name: part / sums["total"] if sums["total"] else None for name, part in parts.items()}


def _endings(
    outcome: np.ndarray, calls: np.ndarray, sequential_ns: np.ndarray, first: np.ndarray, count: np.ndarray, most: int
) -> np.ndarray:
    """What became of each loop: the first four hold its round trips one after the other, `first` where each begins."""
    if not len(first):
        return np.empty(0, dtype=np.int64)
    last = first + count - 1
    found = np.where(calls[last] == 0, OK, np.where(count < most, _CANCELLED, _MAX_ROUNDS))
    found[(calls[last] > 0) & np.isnan(sequential_ns[last])] = _LENGTH
    failed = outcome[last] != OK  # what is not `ok` ends a loop
    found[failed] = outcome[last[failed]]
    return found
