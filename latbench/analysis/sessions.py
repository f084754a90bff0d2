"""Sessions: the turns of a conversation taken together.

A session is `ok` if all its turns are, else it ended as its first turn that was not. One whose next turn was never
begun although the last one was `ok` was cut by the end of the drain: it is `cancelled`, as a turn that is cut in the
middle. It belongs to the phase in which its first turn was due.
"""

from typing import Any

import numpy as np

from latbench.analysis import stats
from latbench.analysis.columns import Columns
from latbench.analysis.words import OK, OUTCOMES
from latbench.metrics.catalogue import NS_PER_S
from latbench.model.sample import Outcome

_CANCELLED = OUTCOMES.index(Outcome.CANCELLED)


def sessions(cols: Columns, rows: np.ndarray, turns: int, *, running: bool) -> dict[str, Any]:
    """The sessions of one endpoint in one step. `rows` are all its rows there, in both phases.

    `duration_s` is of `ok` sessions, from the moment the first turn was due to the last output of the last one. Of a
    run that is still `running`, a session that has come to no end yet is left out.
    """
    ordered = rows[np.argsort(cols.seq[rows], kind="stable")]
    _, first, count = np.unique(cols.seq[ordered] // turns, return_index=True, return_counts=True)
    outcome = _outcomes(cols.outcome[ordered], first, count, turns)
    kept = cols.measured[ordered[first]]
    if running:
        kept = kept & ~((count < turns) & (cols.outcome[ordered[first + count - 1]] == OK))
    done = kept & (outcome == OK)
    begun, ended = ordered[first[done]], ordered[(first + count - 1)[done]]
    # e2e_response runs from `due` to the last output, so that this is the last output's own stamp.
    last_ns = cols.due_ns[ended] + cols.metrics["e2e_response"][ended]
    counted = np.bincount(outcome[kept], minlength=len(OUTCOMES))
    planned = int(kept.sum())
    turns_ok = np.repeat(kept, count) & (cols.outcome[ordered] == OK)
    return {
        "planned": planned,
        "ok": int(done.sum()),
        "completion_rate": int(done.sum()) / planned if planned else None,
        "outcomes": {name: int(number) for name, number in zip(OUTCOMES, counted, strict=True)},
        "duration_s": stats.describe((last_ns - cols.due_ns[begun]) / NS_PER_S),
        "turns_ok": int(turns_ok.sum()),
    }


def _outcomes(outcome: np.ndarray, first: np.ndarray, count: np.ndarray, turns: int) -> np.ndarray:
    """What became of each session: `outcome` holds the turns one after the other, `first` where each begins."""
    if not len(first):
        return np.empty(0, dtype=np.int64)
    place = np.arange(len(outcome))
    failed_at = np.minimum.reduceat(np.where(outcome == OK, len(outcome), place), first)
    failed = failed_at < len(outcome)
    found = np.where(count < turns, _CANCELLED, OK)
    found[failed] = outcome[failed_at[failed]]
    return found
