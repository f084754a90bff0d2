"""The client's own error: how late its engines were, how busy, and how late that makes the figures. Pure.

Engines count both lags and their processor time between two batches. What overlaps the measured window of its step
counts: a batch is a quarter of a second, and one that is partly warm-up says something about the window, too. Lags are
pooled over engines, as the latencies are; of the processor time the busiest engine counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latbench.analysis import stats
from latbench.analysis.columns import Window
from latbench.analysis.relief import less, relief
from latbench.analysis.validity import reason
from latbench.metrics.catalogue import NS_PER_MS, NS_PER_S
from latbench.metrics.histogram import Histogram
from latbench.model.frames import Effort
from latbench.model.run import RunRecord, StepRecord

LAG_MS = 1.0
LAG_SHARE_OF_GAP = 0.1
INVALID_LAG_TIMES = 10
FULL_CPU = 0.85
BUSY_CPU = 0.6
LEAST_LAGS = stats.NEED["p99"]
"""Of fewer the 99th percentile is the largest, or about it: one hiccup of the machine would be the verdict."""

LEAST_NS = NS_PER_S
"""A shorter window says nothing about how busy an engine is: making the first requests takes a core, too."""

Efforts = Iterable[tuple[str, int, Effort]]
"""Worker, step, and what its engine had to do between two batches."""


@dataclass(slots=True)
class Lags:
    """Both lags, counted."""

    probe: Histogram = field(default_factory=Histogram)
    chunk: Histogram = field(default_factory=Histogram)

    @property
    def worse(self) -> Histogram:
        """The one with the larger p99: the probe's where only that one is known."""
        return max(self.probe, self.chunk, key=lambda lag: -1 if lag.n == 0 else lag.percentile(990) or 0)

    def judged_ms(self) -> float | None:
        """The larger p99 of those that are of enough values; None where none is."""
        found = [lag.percentile(990) for lag in (self.probe, self.chunk) if lag.n >= LEAST_LAGS]
        return max((ns / NS_PER_MS for ns in found if ns is not None), default=None)


@dataclass(frozen=True, slots=True)
class Client:
    """What the engines said of themselves in the measured windows; `occupied_ns` is of whole steps, from start to end.

    `busy_ns` has for each engine how long it computed, and how long it was watched.
    """

    whole: Lags
    steps: dict[int, Lags]
    busy_ns: dict[str, tuple[int, int]]
    occupied_ns: dict[int, int]

    @property
    def cpu(self) -> float | None:
        """The busiest engine's mean share of a core."""
        return max((cpu_ns / wall_ns for cpu_ns, wall_ns in self.busy_ns.values()), default=None)

    @property
    def busiest(self) -> tuple[str, float] | None:
        """The busiest engine of those that were watched for long enough to tell, and its share of a core."""
        shares = {who: cpu_ns / wall_ns for who, (cpu_ns, wall_ns) in self.busy_ns.items() if wall_ns >= LEAST_NS}
        return max(shares.items(), key=lambda one: one[1], default=None)


def gather(efforts: Efforts, windows: Mapping[int, Window]) -> Client:
    """`windows` gives the measured window of each step."""
    steps = {step: Lags() for step in windows}
    whole = Lags()
    busy: dict[str, tuple[int, int]] = {}
    occupied: dict[int, int] = {}
    for worker, step, effort in efforts:
        occupied[step] = occupied.get(step, 0) + effort.occupied_ns
        from_ns, to_ns = windows.get(step, (0, 0))
        if max(effort.from_ns, from_ns) >= min(effort.to_ns, to_ns):
            continue
        for lags in (steps[step], whole):
            lags.probe.add_counted(effort.probe)
            lags.chunk.add_counted(effort.chunk)
        cpu_ns, wall_ns = busy.get(worker, (0, 0))
        busy[worker] = (cpu_ns + effort.cpu_ns, wall_ns + effort.to_ns - effort.from_ns)
    return Client(whole, steps, busy, occupied)


def table_ms(lag: Histogram) -> dict[str, float] | None:
    """Plain order statistics, whatever their number: they are our own error."""
    if not lag.n:
        return None
    ranks = {"p50": 500, "p90": 900, "p99": 990, "max": 1000}
    return {"n": lag.n} | {name: (lag.percentile(k) or 0) / NS_PER_MS for name, k in ranks.items()}


def reasons(
    run: RunRecord, client: Client, steps: Sequence[StepRecord], gap_ns: Mapping[int, float]
) -> list[dict[str, Any]]:
    """What speaks against the figures. `gap_ns` gives each step's smallest median gap between chunks of an endpoint."""
    return [*_late(run, client, steps, gap_ns), *_busy(run, client)]


def _late(
    run: RunRecord, client: Client, steps: Sequence[StepRecord], gap_ns: Mapping[int, float]
) -> list[dict[str, Any]]:
    """The step in which the lag is worst against what it may be."""
    worst: tuple[float, float, float, StepRecord] | None = None
    for step in steps:
        p99 = client.steps[step.index].judged_ms() if step.index in client.steps else None
        if p99 is None:
            continue
        limit = max(LAG_MS, LAG_SHARE_OF_GAP * gap_ns.get(step.index, 0.0) / NS_PER_MS)
        if worst is None or p99 / limit > worst[0]:
            worst = (p99 / limit, p99, limit, step)
    if worst is None or worst[0] <= 1:
        return []
    times, p99, limit, step = worst
    severity = "invalid" if times > INVALID_LAG_TIMES else "suspect"
    allowed = limit if severity == "suspect" else limit * INVALID_LAG_TIMES
    where = f"step {step.index}: " if len(steps) > 1 else ""
    advice = f"{where}chunks waited in the client before they were stamped: {_cause(run, client, step)}"
    return [reason("client_lag_ms", severity, p99, allowed, advice)]


def _cause(run: RunRecord, client: Client, step: StepRecord) -> str:
    """Whose fault it is, as the processor time tells, and what to do about it."""
    if client.busiest is None:
        return f"its engine was busy, or the machine was; give latbench cores of its own, or {relief(run, step)}"
    _, cpu = client.busiest
    if cpu < BUSY_CPU:
        return (
            f"its engine had time (engine_cpu {cpu:.2f}) and no core when it wanted one: others here have it;"
            f" give latbench cores of its own, or {less(step)}"
        )
    return f"its engine had no time left (engine_cpu {cpu:.2f}); {relief(run, step)}"


def _busy(run: RunRecord, client: Client) -> list[dict[str, Any]]:
    if client.busiest is None or client.busiest[1] < BUSY_CPU:
        return []
    worker, most = client.busiest
    whose = f"the engine of worker {worker}" if len(client.busy_ns) > 1 else "the engine"
    if most > FULL_CPU:
        advice = f"{whose} had no time left: what it says of the tails is its own; {relief(run)}"
        return [reason("engine_cpu", "suspect", most, FULL_CPU, advice)]
    return [reason("engine_cpu", "note", most, BUSY_CPU, f"{whose} is near its limit: before more load, {relief(run)}")]
