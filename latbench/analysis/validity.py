"""The verdict on a run, judged before any figure is shown.

Each reason carries the figure, the limit and what to do. `invalid` means that the figures do not measure what the
scenario asked for; `suspect` that they may not; a `note` changes nothing and is worth knowing. What the engines say of
themselves is judged in `client.py`, what the samples say in `evidence.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latbench.analysis import stats
from latbench.analysis.relief import relief
from latbench.metrics.catalogue import NS_PER_MS
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome

MAX_DROPPED_SHARE = 0.01
LATE_MS = 5.0
LATE_SHARE_OF_TTFT = 0.05
VERY_LATE_MS = 100.0
MAX_VERY_LATE_SHARE = 0.05

_DROPPED_AT_CAP = (
    "the load was not delivered: max_in_flight requests were unanswered when these were due; the endpoint is too slow"
    " for this rate, or raise max_in_flight"
)
_DROPPED = (
    "the load was not delivered: a worker that had lost its master (or had no open files left) sends nothing;"
    " look at its log, add workers or lower the rate"
)

_SEVERITIES = ("invalid", "suspect", "note")
_SEVERITY_OF_NOTE = {"worker_lost": "invalid", "reduced_precision": "suspect"}

Counts = Mapping[tuple[str, str], Mapping[str, int]]
"""Outcomes counted by (phase, endpoint)."""


Figure = float | int | str | None
"""What a reason says was measured, or allowed."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the requests of open loops were sent, in the measured phase.

    `very_late` is the share of arrivals sent more than `VERY_LATE_MS` late, `ttft_ms` the median TTFT of the quickest
    endpoint. The percentiles are plain order statistics, whatever their number: they are our own error.
    """

    table_ms: dict[str, float]
    very_late: float
    ttft_ms: float | None


def lateness(late_ns: np.ndarray, median_ttft_ns: Sequence[float]) -> Lateness | None:
    """`late_ns` has a value for each arrival, NaN for one that was never sent. None where nothing was sent."""
    sent = np.sort(late_ns[np.isfinite(late_ns)]) / NS_PER_MS
    p50, p99, most = (stats.percentile(sent, k) for k in (500, 990, 1000))
    if p50 is None or p99 is None or most is None:
        return None
    very_late = int(np.count_nonzero(sent > VERY_LATE_MS)) / len(late_ns)
    return Lateness(
        {"p50": p50, "p99": p99, "max": most},
        very_late,
        min(median_ttft_ns) / NS_PER_MS if median_ttft_ns else None,
    )


def judge(
    run: RunRecord,
    counts: Counts,
    planned: Mapping[tuple[str, str], int],
    late: Lateness | None = None,
    found: Sequence[dict[str, Any]] = (),
) -> tuple[str, list[dict[str, Any]]]:
    """The verdict and its reasons, the gravest first.

    `planned` gives the arrivals that became due by (phase, endpoint), as far as they were counted apart from the
    samples. `run.planned`, where it is not 0, is their total over both phases and all endpoints. `found` are reasons
    that others have found.
    """
    reasons = [*_conservation(run, counts, planned), *_delivery(run, counts), *_late(run, late), *found, *_notes(run)]
    reasons.sort(key=lambda reason: _SEVERITIES.index(reason["severity"]))
    severities = {reason["severity"] for reason in reasons}
    verdict = next((severity for severity in _SEVERITIES[:2] if severity in severities), "valid")
    return verdict, reasons


def reason(code: str, severity: str, value: Figure, limit: Figure, advice: str) -> dict[str, Any]:
    """One reason in the shape of `summary.json`."""
    return {"code": code, "severity": severity, "value": value, "limit": limit, "advice": advice}


def _conservation(run: RunRecord, counts: Counts, planned: Mapping[tuple[str, str], int]) -> Sequence[dict[str, Any]]:
    """Planned must equal the sum of all outcomes, exactly. While requests are in flight it cannot."""
    if run.state == "running":
        return []
    found = []
    for key in sorted(planned):
        recorded = sum(counts.get(key, {}).values())
        if recorded != planned[key]:
            phase, endpoint = key
            advice = f"{phase}, {endpoint}: requests are missing or counted twice; do not use the figures, report a bug"
            found.append(reason("conservation", "invalid", recorded, planned[key], advice))
    total = sum(sum(outcomes.values()) for outcomes in counts.values())
    if not found and run.planned and total != run.planned:
        advice = "requests are missing or counted twice; do not use the figures, report a bug"
        found.append(reason("conservation", "invalid", total, run.planned, advice))
    return found


def _late(run: RunRecord, late: Lateness | None) -> Sequence[dict[str, Any]]:
    """Whether arrivals were sent when they were due."""
    if late is None:
        return []
    found = []
    advice = f"the load came later than planned: look at engine_cpu; {relief(run)}"
    if run.scenario.get("budget"):
        advice = (
            "the load came later than planned: near its end a budget holds requests back until the worst case of"
            " earlier ones is settled; raise it, lower max_tokens, or look at engine_cpu"
        )
    if late.very_late > MAX_VERY_LATE_SHARE:
        found.append(reason("sent_late", "invalid", late.very_late, MAX_VERY_LATE_SHARE, advice))
    limit = max(LATE_MS, LATE_SHARE_OF_TTFT * (late.ttft_ms or 0.0))
    if late.table_ms["p99"] > limit:
        found.append(reason("send_lateness_ms", "suspect", late.table_ms["p99"], limit, advice))
    return found


def _delivery(run: RunRecord, counts: Counts) -> Sequence[dict[str, Any]]:
    """Whether the load was delivered and anything came of it. Losses count in both phases, the rest in `measure`."""
    measured = [outcomes for (phase, _), outcomes in counts.items() if phase == "measure"]
    due = sum(sum(outcomes.values()) for outcomes in measured)
    dropped = sum(outcomes.get(Outcome.DROPPED, 0) for outcomes in measured)
    lost = sum(outcomes.get(Outcome.LOST, 0) for outcomes in counts.values())
    found = []
    if lost:
        advice = "a worker or its engine died with these under way, answered or not; look at its log and run again"
        found.append(reason("lost", "invalid", lost, 0, advice))
    if due and dropped / due > MAX_DROPPED_SHARE:
        advice = _DROPPED_AT_CAP if _capped(run) else _DROPPED
        found.append(reason("dropped", "invalid", dropped / due, MAX_DROPPED_SHARE, advice))
    if not sum(outcomes.get(Outcome.OK, 0) for outcomes in measured):
        advice = "not one request was answered in the measured phase: look at the outcomes and what they say"
        found.append(reason("no_ok", "invalid", 0, 1, advice))
    return found


def _capped(run: RunRecord) -> bool:
    return any(step.load is not None and step.load.max_in_flight is not None for step in run.steps)


def _notes(run: RunRecord) -> Sequence[dict[str, Any]]:
    """What the run noted by itself. A note may state its severity; the codes known here need not."""
    found = []
    for note in run.notes:
        code = str(note.get("code", "note"))
        severity = note.get("severity", _SEVERITY_OF_NOTE.get(code, "note"))
        if severity not in _SEVERITIES:
            severity = "note"
        found.append(reason(code, severity, note.get("value"), note.get("limit"), str(note.get("advice", ""))))
    if run.state == "running" and not any(one["code"] == "unfinished" for one in found):
        advice = (
            "the run has not been brought to an end: the figures are of what was saved; if nobody is running it any"
            f" more: latbench runs recover {run.id}"
        )
        found.append(reason("unfinished", "suspect", None, None, advice))
    return found
