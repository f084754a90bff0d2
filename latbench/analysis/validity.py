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
from latbench.model.sample import AT_CAP, LOAD_STOPPED, NO_BUDGET, WITHOUT_LEASE, Outcome

MAX_DROPPED_SHARE = 0.01
LATE_MS = 5.0
LATE_SHARE_OF_TTFT = 0.05
VERY_LATE_MS = 100.0
MAX_VERY_LATE_SHARE = 0.05

_NOT_DELIVERED = {
    AT_CAP: (
        "max_in_flight requests were unanswered when these were due; the endpoint is too slow for this rate, or raise"
        " max_in_flight"
    ),
    WITHOUT_LEASE: (
        "a worker that had lost its master sends nothing; look at its log and at the network between them, add workers"
        " or lower the rate"
    ),
    LOAD_STOPPED: "it was stopped just when these became due; let the run go on to its end, or look at what stopped it",
    NO_BUDGET: "the budget had nothing left for these when they were due; raise it, or lower max_tokens or the load",
}
"""What kept requests from being sent, and what to do about it."""

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

    @property
    def limit_ms(self) -> float:
        """What the p99 may be: below it, lateness is small beside what is measured."""
        return max(LATE_MS, LATE_SHARE_OF_TTFT * (self.ttft_ms or 0.0))


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
    late: Mapping[int, Lateness] | None = None,
    found: Sequence[dict[str, Any]] = (),
    dropped: Mapping[int, Mapping[str, int]] | None = None,
    by_step: Mapping[int, Mapping[str, int]] | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """The verdict and its reasons, the gravest first.

    `planned` gives the arrivals that became due by (phase, endpoint), as far as they were counted apart from the
    samples. `run.planned`, where it is not 0, is their total over both phases and all endpoints. `found` are reasons
    that others have found. `dropped` counts, by step, what the engines said of requests that they dropped in its
    measured phase.

    `late` has the lateness of each step with an open loop, `by_step` the outcomes of each step's measured phase: a step
    that was not delivered is not made up for by a later one with a hundred times its requests.
    """
    reasons = [
        *_conservation(run, counts, planned),
        *_delivery(run, counts, dropped or {}, by_step or {}),
        *_late(run, late or {}),
        *found,
        *_notes(run),
    ]
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


def _late(run: RunRecord, late: Mapping[int, Lateness]) -> Sequence[dict[str, Any]]:
    """Whether arrivals were sent when they were due, in the step in which they were not the most."""
    if not late:
        return []
    found = []
    advice = f"the load came later than planned: look at engine_cpu; {relief(run)}"
    if run.scenario.get("budget"):
        advice = (
            "the load came later than planned: near its end a budget holds requests back until the worst case of"
            " earlier ones is settled; raise it, lower max_tokens, or look at engine_cpu"
        )
    step = max(late, key=lambda one: late[one].very_late)
    if (very_late := late[step].very_late) > MAX_VERY_LATE_SHARE:
        found.append(reason("sent_late", "invalid", very_late, MAX_VERY_LATE_SHARE, _in_step(run, step) + advice))
    step = max(late, key=lambda one: late[one].table_ms["p99"] / late[one].limit_ms)
    if (p99 := late[step].table_ms["p99"]) > (limit := late[step].limit_ms):
        found.append(reason("send_lateness_ms", "suspect", p99, limit, _in_step(run, step) + advice))
    return found


def _in_step(run: RunRecord, step: int) -> str:
    return f"step {step}: " if len(run.steps) > 1 else ""


def _delivery(
    run: RunRecord,
    counts: Counts,
    said: Mapping[int, Mapping[str, int]],
    by_step: Mapping[int, Mapping[str, int]],
) -> Sequence[dict[str, Any]]:
    """Whether the load was delivered and anything came of it. Losses count in both phases, the rest in `measure`."""
    measured = [outcomes for (phase, _), outcomes in counts.items() if phase == "measure"]
    shares = {step: _dropped_share([outcomes]) for step, outcomes in by_step.items()} or {0: _dropped_share(measured)}
    step = max(shares, key=lambda one: shares[one])
    lost = sum(outcomes.get(Outcome.LOST, 0) for outcomes in counts.values())
    found = []
    if lost:
        advice = "a worker or its engine died with these under way, answered or not; look at its log and run again"
        found.append(reason("lost", "invalid", lost, 0, advice))
    if shares[step] > MAX_DROPPED_SHARE:
        cause = _kept_back_by(run, said.get(step, {}))
        advice = f"{_in_step(run, step)}the load was not delivered: {_NOT_DELIVERED[cause]}"
        found.append(reason("dropped", "invalid", shares[step], MAX_DROPPED_SHARE, advice))
    if not sum(outcomes.get(Outcome.OK, 0) for outcomes in measured):
        advice = "not one request was answered in the measured phase: look at the outcomes and what they say"
        found.append(reason("no_ok", "invalid", 0, 1, advice))
    return found


def _dropped_share(outcomes: Sequence[Mapping[str, int]]) -> float:
    due = sum(sum(one.values()) for one in outcomes)
    return sum(one.get(Outcome.DROPPED, 0) for one in outcomes) / due if due else 0.0


def _kept_back_by(run: RunRecord, said: Mapping[str, int]) -> str:
    """What most of the dropped requests were dropped for; where none of them says so, what is known of the run."""
    by_cause = dict.fromkeys(_NOT_DELIVERED, 0)
    for message, count in said.items():
        cause = next((one for one in _NOT_DELIVERED if message.startswith(one)), None)
        if cause is not None:
            by_cause[cause] += count
    if any(by_cause.values()):
        return max(by_cause, key=lambda cause: by_cause[cause])
    spent = any(what == "budget" for what, _ in run.stops)
    capped = any(step.load is not None and step.load.max_in_flight is not None for step in run.steps)
    return NO_BUDGET if spent else AT_CAP if capped else WITHOUT_LEASE


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
