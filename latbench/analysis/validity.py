"""The verdict on a run, judged before any figure is shown.

Each reason carries the figure, the limit and what to do. `invalid` means that the figures do not measure what the
scenario asked for; `suspect` that they may not; a `note` changes nothing and is worth knowing. What is not built yet
(lateness, lags, the null test) is null in `summary.json` and is no part of the verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.model.run import RunRecord
from latbench.model.sample import Outcome

MAX_DROPPED_SHARE = 0.01

_SEVERITIES = ("invalid", "suspect", "note")
_SEVERITY_OF_NOTE = {"worker_lost": "invalid", "reduced_precision": "suspect"}

Counts = Mapping[tuple[str, str], Mapping[str, int]]
"""Outcomes counted by (phase, endpoint)."""


Figure = float | int | str | None
"""What a reason says was measured, or allowed."""


def judge(run: RunRecord, counts: Counts, planned: Mapping[tuple[str, str], int]) -> tuple[str, list[dict[str, Any]]]:
    """The verdict and its reasons, the gravest first.

    `planned` gives the arrivals that became due by (phase, endpoint), as far as they were counted apart from the
    samples. `run.planned`, where it is not 0, is their total over both phases and all endpoints.
    """
    reasons = [*_conservation(run, counts, planned), *_delivery(counts), *_notes(run)]
    reasons.sort(key=lambda reason: _SEVERITIES.index(reason["severity"]))
    found = {reason["severity"] for reason in reasons}
    verdict = next((severity for severity in _SEVERITIES[:2] if severity in found), "valid")
    return verdict, reasons


def reason(code: str, severity: str, value: Figure, limit: Figure, advice: str) -> dict[str, Any]:
    """One reason in the shape of `summary.json`."""
    return {"code": code, "severity": severity, "value": value, "limit": limit, "advice": advice}


def _conservation(run: RunRecord, counts: Counts, planned: Mapping[tuple[str, str], int]) -> Sequence[dict[str, Any]]:
    """Planned must equal the sum of all outcomes, exactly. With a worker lost it cannot, and that is said already."""
    if any(note.get("code") == "worker_lost" for note in run.notes):
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


def _delivery(counts: Counts) -> Sequence[dict[str, Any]]:
    """Whether the load was delivered and anything came of it. Losses count in both phases, the rest in `measure`."""
    measured = [outcomes for (phase, _), outcomes in counts.items() if phase == "measure"]
    due = sum(sum(outcomes.values()) for outcomes in measured)
    dropped = sum(outcomes.get(Outcome.DROPPED, 0) for outcomes in measured)
    lost = sum(outcomes.get(Outcome.LOST, 0) for outcomes in counts.values())
    found = []
    if lost:
        advice = "a worker died with these requests; look at its log and run again"
        found.append(reason("lost", "invalid", lost, 0, advice))
    if due and dropped / due > MAX_DROPPED_SHARE:
        advice = "the load was not delivered: lower the rate, raise max_in_flight or add workers"
        found.append(reason("dropped", "invalid", dropped / due, MAX_DROPPED_SHARE, advice))
    if not sum(outcomes.get(Outcome.OK, 0) for outcomes in measured):
        advice = "not one request was answered in the measured phase: look at the outcomes and what they say"
        found.append(reason("no_ok", "invalid", 0, 1, advice))
    return found


def _notes(run: RunRecord) -> Sequence[dict[str, Any]]:
    """What the run noted by itself. A note may state its severity; the codes known here need not."""
    found = []
    for note in run.notes:
        code = str(note.get("code", "note"))
        severity = note.get("severity", _SEVERITY_OF_NOTE.get(code, "note"))
        if severity not in _SEVERITIES:
            severity = "note"
        found.append(reason(code, severity, note.get("value"), note.get("limit"), str(note.get("advice", ""))))
    if run.state == "running":
        advice = "the run was not brought to an end: the figures are of what was saved"
        found.append(reason("unfinished", "suspect", None, None, advice))
    return found
