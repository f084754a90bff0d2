"""Samples of a run turned into series: what grows with every request.

Only the measured phase counts, so that a dashboard and the summary say the same; the warm-up is counted apart. Nothing
is observed for each sample: values are appended to arrays, which are counted when somebody asks, or when they have
grown long. A sample that comes twice counts once.

No endpoint can make a series. Of what it says, kinds of limits are taken from a closed list, anything else is
`unknown`; models and fingerprints are only counted; codes, messages and headers are not read.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from latbench.metrics import series
from latbench.metrics.catalogue import BY_NAME, NEED_A_STREAM
from latbench.metrics.distribution import Bounds, Distribution
from latbench.metrics.series import LATENCIES, Series, Snapshot
from latbench.model.run import RunRecord
from latbench.model.sample import Attempt, Outcome, Sample, decode_gaps

_LONG = 65_536
_MOST_TASKS = 12
_MOST_MODELS = 1_000
OTHER = "other"

_METRICS = tuple((one, BY_NAME[one.name.removeprefix("latbench_").removesuffix("_seconds")].of) for one in LATENCIES)
_OF_SAMPLE = tuple((one, of, one.labels == series.TASK) for one, of in _METRICS if of is not None)

# The names that OpenTelemetry has for APIs; others are called what the scenario calls the provider.
_OTEL_PROVIDERS = {
    "anthropic": "anthropic",
    "azure-openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
}
_OTEL_OPERATIONS = {"openai-completions": "text_completion", "gemini": "generate_content"}


class _Pending:
    """Values on their way into a distribution. `add` is bound once: looking it up anew would take half the time."""

    __slots__ = ("_counted", "_gaps", "_values", "add")

    def __init__(self, bounds: Bounds) -> None:
        self._counted = Distribution(bounds)
        self._values: list[int] = []
        self._gaps = {b"4": bytearray(b"4"), b"8": bytearray(b"8")}  # by width, see `encode_gaps`
        self.add = self._values.append

    def add_gaps(self, gaps: bytes) -> None:
        strung = self._gaps[gaps[:1]]
        strung += memoryview(gaps)[1:]
        if len(strung) >= 4 * _LONG:
            self.count()

    def count(self) -> Distribution:
        """The distribution of all values so far; it is recorded into again."""
        self._counted.record(self._values)
        self._values.clear()
        for width, strung in self._gaps.items():
            if len(strung) > 1:
                self._counted.record(decode_gaps(bytes(strung)))
                self._gaps[width] = bytearray(width)
        return self._counted


class _Pendings(dict[tuple[Series, str], _Pending]):
    """By series and the last of its labels, made when they are first asked for."""

    def __missing__(self, key: tuple[Series, str]) -> _Pending:
        bounds = key[0].bounds
        assert bounds is not None
        made = self[key] = _Pending(bounds)
        return made


class _Task:
    """What is counted of an endpoint's requests of one task. `metrics` are functions, and where their values go."""

    __slots__ = ("good", "metrics", "outcomes", "tokens")

    def __init__(self, name: str, pending: _Pendings) -> None:
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.good = 0
        self.metrics = [(of, pending[one, name if by_task else ""].add) for one, of, by_task in _OF_SAMPLE]


class _Told:
    """Where the values of OpenTelemetry's metrics of an endpoint go."""

    __slots__ = ("between", "duration", "first", "read", "written")

    def __init__(self, pending: _Pendings) -> None:
        self.duration = pending[series.OTEL_DURATION, ""].add
        self.read = pending[series.OTEL_USAGE, "input"].add
        self.written = pending[series.OTEL_USAGE, "output"].add
        self.first = pending[series.OTEL_FIRST, ""].add
        self.between = pending[series.OTEL_PER_CHUNK, ""].add_gaps


@dataclass(slots=True)
class _Endpoint:
    """What is counted of an endpoint. `seen` has a byte for each sequence number of a step."""

    labels: tuple[str, ...]
    otel: tuple[str, ...]
    streams: bool
    price: Mapping[str, float] | None
    pending: _Pendings = field(default_factory=_Pendings)
    tasks: dict[str, _Task] = field(default_factory=dict)
    warmup: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    reconnects: int = 0
    billed: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    waited_ns: int = 0
    headroom: dict[str, tuple[int, int | None, int | None]] = field(default_factory=dict)
    said: tuple[str | None, str | None] = (None, None)
    models: set[bytes] = field(default_factory=set)
    seen: dict[int, bytearray] = field(default_factory=dict)
    told: _Told = field(init=False)

    def __post_init__(self) -> None:
        self.told = _Told(self.pending)

    def first(self, step: int, seq: int) -> bool:
        """Take note of a request; false if it was noted before."""
        seen = self.seen.setdefault(step, bytearray())
        if seq >= len(seen):
            seen.extend(bytes(seq + 1024 - len(seen)))
        if seen[seq]:
            return False
        seen[seq] = 1
        return True

    def task(self, name: str) -> _Task:
        """The task of that name."""
        found = self.tasks.get(name)
        if found is None:
            found = self.tasks[name] = _Task(name, self.pending)
        return found


class Meters:
    """All that is counted of one run. `open_steps` are those whose arrivals have times of their own."""

    def __init__(self, run: RunRecord, tasks: Mapping[str, str], expected: Collection[str] = ()) -> None:
        """`tasks` maps a prompt to its task. Those that are `expected` have series from the start, at 0.

        A counter that is first seen at 5 has not grown by 5, as Prometheus sees it.
        """
        self._run = (run.scenario_name, run.window or "")
        self._slo = [(BY_NAME[name], limit * BY_NAME[name].scale) for name, limit in run.slo.items()]
        self._tasks = _few(tasks)
        self._late = _Pending(series.LATENESS)
        settings = {one.get("name"): one for one in run.scenario.get("endpoints", [])}
        self._endpoints = {
            name: _Endpoint(
                labels=(*self._run, about.get("provider", ""), name, about.get("model", "")),
                otel=_otel(about),
                streams=settings.get(name, {}).get("stream", True),
                price=run.prices.get(name),
            )
            for name, about in run.endpoints.items()
        }
        self.open_steps: set[int] = set()
        self._uncounted = 0
        for endpoint in self._endpoints.values():
            for name in sorted({OTHER if task not in self._tasks.values() else task for task in expected}):
                _prepare(endpoint, name)

    @property
    def outcomes(self) -> dict[tuple[str, str], dict[str, int]]:
        """Outcomes by (phase, endpoint)."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for name, endpoint in self._endpoints.items():
            total: Counter[str] = Counter()
            for task in endpoint.tasks.values():
                total.update(task.outcomes)
            found["measure", name], found["warmup", name] = dict(total), dict(endpoint.warmup)
        return found

    def add(self, samples: Iterable[Sample]) -> None:
        """Count samples, in any order. One that has only begun (`lost`) is left out."""
        if self._uncounted >= _LONG:
            self.into(Snapshot())
        for sample in samples:
            endpoint = self._endpoints.get(sample.endpoint)
            if endpoint is None or sample.outcome == Outcome.LOST or not endpoint.first(sample.step, sample.seq):
                continue
            self._uncounted += 1
            if sample.phase == "measure":
                self._add(endpoint, sample)
            else:
                endpoint.warmup[sample.outcome] += 1
            if (sample.model, sample.fingerprint) != endpoint.said:
                _identity(endpoint, sample)
            if sample.headroom:
                _headroom(endpoint, sample)

    def add_lost(self, endpoint: str, count: int) -> None:
        """Count requests that a worker took along; known when the run is over."""
        if count:
            self._endpoints[endpoint].task(OTHER).outcomes[Outcome.LOST] += count

    def _add(self, endpoint: _Endpoint, sample: Sample) -> None:
        task = endpoint.task(self._tasks.get(sample.prompt_id, OTHER))
        task.outcomes[sample.outcome] += 1
        endpoint.reconnects += sample.reconnects
        if sample.step in self.open_steps and sample.sent_ns is not None and not sample.reconnects:
            first_sent = sample.tries[0].sent_ns if sample.tries else sample.sent_ns
            self._late.add(first_sent - sample.due_ns)
        if endpoint.price is not None and sample.input_tokens is not None and sample.output_tokens is not None:
            endpoint.billed["input"] += sample.input_tokens
            endpoint.billed["cached"] += min(sample.cached_tokens or 0, sample.input_tokens)
            endpoint.billed["output"] += sample.output_tokens
        if sample.tries or sample.outcome == Outcome.RATE_LIMITED:
            _limits(endpoint, sample)
        _otel_of(endpoint, sample)
        if sample.outcome != Outcome.OK:
            return
        for of, add in task.metrics:
            value = of(sample)
            if value is not None:
                add(round(value))
        if sample.gaps:
            endpoint.pending[series.INTER_CHUNK, ""].add_gaps(sample.gaps)
        _tokens(task.tokens, sample)
        endpoint.empty += not (sample.chunks or sample.text_chars or (sample.last_token_ns and sample.output_tokens))
        task.good += bool(self._slo) and self._is_good(endpoint, sample)

    def _is_good(self, endpoint: _Endpoint, sample: Sample) -> bool:
        """Whether an `ok` answer is within every limit: see `analysis/slo.py`."""
        for metric, bound in self._slo:
            if metric.name in NEED_A_STREAM and not endpoint.streams:
                continue
            value = _longest_gap(sample) if metric.of is None else metric.of(sample)
            if value is None or (value < bound if metric.higher_is_better else value > bound):
                return False
        return True

    # --- the snapshot ---------------------------------------------------------------------------------------------

    def into(self, snapshot: Snapshot) -> None:
        """Put what was counted so far into a snapshot."""
        self._uncounted = 0
        late = self._late.count()
        if late.n:
            snapshot.set(series.LATE, self._run, late.copy())
        for endpoint in self._endpoints.values():
            for name, task in endpoint.tasks.items():
                self._task_into(snapshot, (*endpoint.labels, name), task)
            for (one, last), pending in endpoint.pending.items():
                snapshot.set(one, _labels(endpoint, one, last), pending.count().copy())
            _endpoint_into(snapshot, endpoint)

    def _task_into(self, snapshot: Snapshot, labels: tuple[str, ...], task: _Task) -> None:
        for outcome in Outcome:
            snapshot.set(series.REQUESTS, (*labels, outcome.value), task.outcomes[outcome])
        for kind, count in task.tokens.items():
            snapshot.set(series.TOKENS, (*labels, kind), count)
        if self._slo:
            snapshot.set(series.GOOD, labels, task.good)


def _prepare(endpoint: _Endpoint, task: str) -> None:
    """Have the series of a task, with nothing in them."""
    endpoint.task(task).tokens.update({"input": 0, "output": 0})
    endpoint.pending[series.INTER_CHUNK, ""].count()


def _endpoint_into(snapshot: Snapshot, endpoint: _Endpoint) -> None:
    labels = endpoint.labels
    for outcome, count in endpoint.warmup.items():
        snapshot.set(series.WARMUP, (*labels, outcome), count)
    snapshot.set(series.EMPTY, labels, endpoint.empty)
    snapshot.set(series.RECONNECTS, labels, endpoint.reconnects)
    snapshot.set(series.MODEL_CHANGES, labels, max(0, len(endpoint.models) - 1))
    snapshot.set(series.WAITED, labels, endpoint.waited_ns / 1e9)
    for kind in series.REFUSALS:
        snapshot.set(series.HITS, (*labels, kind), endpoint.hits[kind])
    for kind, (_, limit, left) in endpoint.headroom.items():
        snapshot.set(series.REPORTED, (*labels, kind), limit)
        snapshot.set(series.REMAINING, (*labels, kind), left)
    if (price := endpoint.price) is not None:
        billed = endpoint.billed
        micro = (billed["input"] - billed["cached"]) * price["input"] + billed["output"] * price["output"]
        micro += billed["cached"] * price.get("cached_input", price["input"])
        snapshot.set(series.COST, labels, micro / 1e6)


def _labels(endpoint: _Endpoint, one: Series, last: str) -> tuple[str, ...]:
    """The labels of a distribution of an endpoint: ours or OpenTelemetry's, with a last one of its own or none."""
    scope = endpoint.otel if one.labels[: len(series.OTEL)] == series.OTEL else endpoint.labels
    return (*scope, last) if len(one.labels) > len(scope) else scope


def _limits(endpoint: _Endpoint, sample: Sample) -> None:
    """The refusals of a request, each attempt on its own, and the waits that they asked for."""
    attempts: list[Attempt | Sample] = [*sample.tries, sample]
    for one in attempts:
        if one.outcome == Outcome.RATE_LIMITED:
            endpoint.hits[one.kind if one.kind in series.REFUSALS else "unknown"] += 1
            if one.wait_ns is not None:
                endpoint.pending[series.ASKED_WAIT, ""].add(one.wait_ns)
    endpoint.waited_ns += sample.waited_ns


def _headroom(endpoint: _Endpoint, sample: Sample) -> None:
    at_ns = sample.done_ns or 0
    for name, (limit, left, _) in sample.headroom.items():
        kind = _kind(name)
        if kind not in endpoint.headroom or at_ns >= endpoint.headroom[kind][0]:
            endpoint.headroom[kind] = (at_ns, limit, left)


def _identity(endpoint: _Endpoint, sample: Sample) -> None:
    """Note what the provider calls the model: a digest of it, so that names of any length and number cost little."""
    endpoint.said = (sample.model, sample.fingerprint)
    if sample.model is None and sample.fingerprint is None:
        return
    if len(endpoint.models) < _MOST_MODELS:
        said = f"{sample.model}\0{sample.fingerprint}".encode(errors="replace")
        endpoint.models.add(blake2b(said, digest_size=8).digest())


def _tokens(counted: Counter[str], sample: Sample) -> None:
    """The tokens of an `ok` answer, of those kinds that are known."""
    if sample.input_tokens is not None:
        counted["input"] += sample.input_tokens
    if sample.output_tokens is not None:
        counted["output"] += sample.output_tokens
    if sample.reasoning_tokens is not None:
        counted["reasoning"] += sample.reasoning_tokens
    if sample.cached_tokens is not None:
        counted["cached"] += sample.cached_tokens


def _otel_of(endpoint: _Endpoint, sample: Sample) -> None:
    """OpenTelemetry's metrics of a request that was sent."""
    sent_ns, done_ns = sample.sent_ns, sample.done_ns
    if sent_ns is None or done_ns is None:
        return
    told = endpoint.told
    if sample.input_tokens is not None:
        told.read(sample.input_tokens)
    if sample.output_tokens is not None:
        told.written(sample.output_tokens)
    if sample.outcome != Outcome.OK:
        endpoint.pending[series.OTEL_DURATION, sample.outcome].add(done_ns - sent_ns)
        return
    told.duration((sample.last_token_ns or done_ns) - sent_ns)
    if sample.first_byte_ns is not None and sample.first_token_ns is not None:
        told.first(sample.first_byte_ns - sent_ns)
    if sample.gaps:
        told.between(sample.gaps)


def _otel(about: Mapping[str, str]) -> tuple[str, ...]:
    api = about.get("api", "")
    provider = _OTEL_PROVIDERS.get(api, about.get("provider", ""))
    return (_OTEL_OPERATIONS.get(api, "chat"), provider, about.get("model", ""))


def _longest_gap(sample: Sample) -> int | None:
    return int(decode_gaps(sample.gaps).max()) if sample.gaps else None


def _kind(name: str | None) -> str:
    return name if name in series.LIMIT_KINDS else "unknown"


def _few(tasks: Mapping[str, str]) -> dict[str, str]:
    """The tasks of prompts, the commonest of them by name: a label has few values, whatever a prompt file says."""
    common = {task for task, _ in Counter(tasks.values()).most_common(_MOST_TASKS)}
    return {prompt: task if task in common else OTHER for prompt, task in tasks.items()}
