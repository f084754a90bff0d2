"""The live view: what a person or a dashboard sees while a run is going on.

Counts are of the whole run, warm-up included. Rates and TTFT percentiles are of the last 10 s by the time an answer was
done, from the values themselves. Nothing here enters a result: those come from the stored samples. Batches from
several workers arrive out of order, so the window is sorted out when a view is asked for.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from latbench.metrics.catalogue import NS_PER_MS, NS_PER_S, ttft
from latbench.model.sample import Outcome, Sample

WINDOW_NS = 10 * NS_PER_S
_SLACK_NS = NS_PER_S  # how much later than the newest a batch may be and still be counted in a view


@dataclass(slots=True)
class Live:
    """Figures of one endpoint, or of all of them. Rates are of `ok` answers in the last 10 s."""

    outcomes: dict[str, int]
    input_tokens: int
    output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None


@dataclass(slots=True)
class LiveView:
    """A moment of the run. `step` counts from 0; `in_flight` is what the caller knows to be unanswered."""

    now_ns: int
    step: int
    in_flight: int
    total: Live
    endpoints: dict[str, Live]


@dataclass(slots=True)
class _Tally:
    """What has been counted for one endpoint; `recent` holds (done_ns, output tokens, ttft_ns) of its `ok` answers."""

    outcomes: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    recent: deque[tuple[int, int, int | None]] = field(default_factory=deque)


class Recorder:
    """Takes every sample once, in any order, and answers with a `LiveView`."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._newest_ns = 0

    def add(self, sample: Sample) -> None:
        """Count a sample. Unknown token numbers count as one for each output-bearing chunk."""
        tally = self._tallies.get(sample.endpoint)
        if tally is None:
            tally = self._tallies[sample.endpoint] = _Tally()
        tally.outcomes[sample.outcome] += 1
        tokens = sample.chunks if sample.output_tokens is None else sample.output_tokens
        tally.input_tokens += sample.input_tokens or 0
        tally.output_tokens += tokens
        if sample.outcome != Outcome.OK or sample.done_ns is None:
            return
        self._newest_ns = max(self._newest_ns, sample.done_ns)
        tally.recent.append((sample.done_ns, tokens, ttft(sample)))
        oldest_kept = self._newest_ns - WINDOW_NS - _SLACK_NS
        while tally.recent and tally.recent[0][0] < oldest_kept:
            tally.recent.popleft()

    def snapshot(self, now_ns: int, *, step: int = 0, in_flight: int = 0) -> LiveView:
        """The view at `now_ns` on the run's clock. In a run's first seconds the window is what has passed of it."""
        window_s = max(min(WINDOW_NS, now_ns), 1) / NS_PER_S
        endpoints: dict[str, Live] = {}
        outcomes: Counter[str] = Counter()
        every: list[tuple[int, int, int | None]] = []
        for name, tally in self._tallies.items():
            recent = [entry for entry in tally.recent if now_ns - WINDOW_NS < entry[0] <= now_ns]
            every += recent
            outcomes += tally.outcomes
            endpoints[name] = _live(tally.outcomes, tally.input_tokens, tally.output_tokens, recent, window_s)
        tallies = self._tallies.values()
        read, written = sum(t.input_tokens for t in tallies), sum(t.output_tokens for t in tallies)
        return LiveView(now_ns, step, in_flight, _live(outcomes, read, written, every, window_s), endpoints)


def _live(
    outcomes: Counter[str],
    input_tokens: int,
    output_tokens: int,
    recent: list[tuple[int, int, int | None]],
    window_s: float,
) -> Live:
    first = sorted(entry[2] for entry in recent if entry[2] is not None)
    return Live(
        outcomes=dict(outcomes),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        requests_per_s=len(recent) / window_s,
        output_tokens_per_s=sum(entry[1] for entry in recent) / window_s,
        ttft_p50_ms=_of_rank(first, 500),
        ttft_p95_ms=_of_rank(first, 950),
    )


def _of_rank(ordered_ns: list[int], k_per_mille: int) -> float | None:
    if not ordered_ns:
        return None
    return ordered_ns[max(1, -(-len(ordered_ns) * k_per_mille // 1000)) - 1] / NS_PER_MS
