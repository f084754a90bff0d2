"""When to stop sending to an endpoint: credentials refused, model unknown, payment required, or mostly errors.

The same rule runs in each engine on its own samples (at once) and at the master on all of them.
"""

from collections import deque

from latbench.model.sample import Outcome

REFUSALS_IN_A_ROW = 3
ERROR_SHARE = 0.5
AT_LEAST = 20
WINDOW_NS = 10_000_000_000

_NOT_COUNTED = frozenset({Outcome.RATE_LIMITED, Outcome.DROPPED, Outcome.CANCELLED})
_HOPELESS = {Outcome.AUTH_ERROR: "credentials refused", Outcome.QUOTA_EXHAUSTED: "payment required or quota used up"}
_NOT_FOUND = 404


class EndpointGuard:
    """Watches the outcomes of one endpoint."""

    def __init__(self, *, abort_on_errors: bool) -> None:
        self._abort_on_errors = abort_on_errors
        self._in_a_row = 0
        self._recent: deque[tuple[int, bool]] = deque()
        self._errors = 0

    def add(self, outcome: str, status: int | None, done_ns: int) -> str | None:
        """Take one ended request, in about the order in which they end; the reason to stop, if there is one."""
        why = "model or path unknown" if status == _NOT_FOUND else _HOPELESS.get(Outcome(outcome))
        if why:
            self._in_a_row += 1
            if self._in_a_row >= REFUSALS_IN_A_ROW:
                return f"{why} (HTTP {status}) {REFUSALS_IN_A_ROW} times in a row"
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
