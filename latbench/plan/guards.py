"""When to stop sending to an endpoint: credentials refused, model unknown, payment required, or mostly errors.

The same rule runs in each engine on its own samples (at once) and at the master on all of them.

Not every API has a status for credentials or a model that it does not know: what a 400 is about, its words say.
"""

from collections import deque

from latbench.model.sample import Outcome, Sample
from latbench.providers.refusals import fault

REFUSALS_IN_A_ROW = 3
ERROR_SHARE = 0.5
AT_LEAST = 20
WINDOW_NS = 10_000_000_000

_NOT_COUNTED = frozenset({Outcome.RATE_LIMITED, Outcome.DROPPED, Outcome.CANCELLED})
_REFUSED = "credentials refused"
_HOPELESS = {Outcome.AUTH_ERROR: _REFUSED, Outcome.QUOTA_EXHAUSTED: "payment required or quota used up"}
_FAULTS = {"key": _REFUSED, "model": "model unknown"}
_NOT_FOUND = 404


class EndpointGuard:
    """Watches the outcomes of one endpoint."""

    def __init__(self, *, abort_on_errors: bool) -> None:
        self._abort_on_errors = abort_on_errors
        self._in_a_row = 0
        self._recent: deque[tuple[int, bool]] = deque()
        self._errors = 0

    def add(self, sample: Sample) -> str | None:
        """Take one ended request, in about the order in which they end; the reason to stop, if there is one."""
        outcome, done_ns = sample.outcome, sample.done_ns or 0
        if why := _hopeless(sample):
            self._in_a_row += 1
            if self._in_a_row >= REFUSALS_IN_A_ROW:
                return f"{why} (HTTP {sample.status}) {REFUSALS_IN_A_ROW} times in a row"
        elif outcome != Outcome.CANCELLED:
            self._in_a_row = 0
        if outcome in _NOT_COUNTED or not self._abort_on_errors:
            return None
        failed = outcome != Outcome.OK
        recent = self._recent
        recent.append((done_ns, failed))
        self._errors += failed
        while recent[0][0] <= done_ns - WINDOW_NS:
            self._errors -= recent.popleft()[1]
        if len(recent) >= AT_LEAST and self._errors > ERROR_SHARE * len(recent):
            return f"{self._errors} of the last {len(recent)} requests failed within 10 s"
        return None


def _hopeless(sample: Sample) -> str | None:
    """Why the next request will be refused as this one was, if it will."""
    if sample.status == _NOT_FOUND:
        return "model or path unknown"
    if sample.outcome == Outcome.INVALID_REQUEST:
        wrong = fault(sample.error_code, sample.error_message)
        return None if wrong is None else _FAULTS[wrong]
    return _HOPELESS.get(Outcome(sample.outcome))
