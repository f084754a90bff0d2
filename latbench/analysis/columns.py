"""The samples of a run as numpy columns: one pass over them, then every slice is an array of row numbers.

Stamps and durations are float64 (exact to 104 days in nanoseconds); NaN stands for what is not known or not defined.
Chunk gaps are too many to keep: those of `ok` samples in the measured phase go into histograms, one for each
endpoint, step and group of prompts, and a slice merges those of its groups.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from latbench.metrics.catalogue import METRICS
from latbench.metrics.histogram import Histogram
from latbench.model.sample import Outcome, Sample, decode_gaps

OUTCOMES: tuple[str, ...] = tuple(outcome.value for outcome in Outcome)
OK = OUTCOMES.index(Outcome.OK)
RATE_LIMITED = OUTCOMES.index(Outcome.RATE_LIMITED)
UNKNOWN_GROUP = 0
"""The group of prompts that the run knows nothing about."""

TOKENS = ("input", "output", "reasoning", "cached")

Error = tuple[str, int | None, str]
"""Outcome, HTTP status and what the endpoint or the connection said: hostile text, cut at `MESSAGE_CHARS`."""

MESSAGE_CHARS = 160
MAX_ERRORS = 1000
_NAN = float("nan")
_FLUSH_AT = 32_768  # gaps kept as they are until a histogram costs less memory than they do


@dataclass(slots=True)
class Names:
    """Numbers for strings, in the order in which they were first seen."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The number of a name, a new one if it is new."""
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def names(self) -> list[str]:
        """Names by number."""
        return list(self.numbers)


@dataclass(slots=True)
class _Gaps:
    """The gaps of one endpoint, step and group, on their way into a histogram."""

    pending: list[np.ndarray] = field(default_factory=list)
    size: int = 0
    histogram: Histogram | None = None

    def add(self, gaps: np.ndarray) -> None:
        self.pending.append(gaps)
        self.size += len(gaps)
        if self.size >= _FLUSH_AT:
            self.histogram = self.histogram or Histogram()
            self.histogram.record(np.concatenate(self.pending))
            self.pending.clear()
            self.size = 0

    def merge_into(self, target: Histogram) -> None:
        if self.histogram is not None:
            target.merge(self.histogram)
        if self.pending:
            target.record(np.concatenate(self.pending))


@dataclass(slots=True)
class Columns:
    """One row for each sample. Codes are numbers into `OUTCOMES` or the `Names` of the same word."""

    endpoint: np.ndarray
    step: np.ndarray
    measured: np.ndarray
    outcome: np.ndarray
    group: np.ndarray
    prompt: np.ndarray
    kind: np.ndarray
    model: np.ndarray
    source: np.ndarray
    empty: np.ndarray
    reconnects: np.ndarray
    done_ns: np.ndarray
    wait_ns: np.ndarray
    arrived_tokens: np.ndarray
    tokens: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    endpoints: Names
    kinds: Names
    models: Names
    sources: Names
    gaps: dict[tuple[int, int, int], _Gaps]
    errors: dict[tuple[int, int], Counter[Error]]

    def pooled_gaps(self, endpoint: int, step: int, groups: Iterable[int]) -> Histogram:
        """The chunk gaps of an endpoint in a step, for some groups of prompts."""
        pooled = Histogram()
        for group in groups:
            found = self.gaps.get((endpoint, step, group))
            if found is not None:
                found.merge_into(pooled)
        return pooled


Window = tuple[int, int]
"""A measured phase [from_ns, to_ns)."""

_INTEGERS = ("endpoint", "step", "measured", "outcome", "group", "prompt", "kind", "model", "source", "empty")
_FLOATS = ("done_ns", "wait_ns", "arrived_tokens")


class _Builder:
    """Appends numbers to arrays; `finish` hands the arrays over to numpy."""

    def __init__(self, groups: Mapping[str, int], windows: Mapping[int, Window]) -> None:
        self._groups = groups
        self._windows = windows
        self._integers = {name: array("q") for name in (*_INTEGERS, "reconnects")}
        self._floats = {name: array("d") for name in _FLOATS}
        self._tokens = {name: array("d") for name in TOKENS}
        self._metrics = {metric.name: array("d") for metric in METRICS if metric.of is not None}
        self._gaps: dict[tuple[int, int, int], _Gaps] = {}
        self._outcomes = {name: number for number, name in enumerate(OUTCOMES)}
        self._prompts, self._endpoints = Names(), Names()
        self._kinds, self._models, self._sources = Names(), Names(), Names()
        self._errors: dict[tuple[int, int], Counter[Error]] = {}

    def add(self, sample: Sample) -> None:
        endpoint = self._endpoints.number(sample.endpoint)
        group = self._groups.get(sample.prompt_id, UNKNOWN_GROUP)
        measured, ok = sample.phase == "measure", sample.outcome == Outcome.OK
        row = self._integers
        row["endpoint"].append(endpoint)
        row["step"].append(sample.step)
        row["measured"].append(measured)
        row["outcome"].append(self._outcomes[sample.outcome])
        row["group"].append(group)
        row["prompt"].append(self._prompts.number(sample.prompt_id))
        row["kind"].append(self._kinds.number(sample.kind or "unknown"))
        row["model"].append(-1 if sample.model is None else self._models.number(sample.model))
        row["source"].append(self._sources.number(sample.token_source))
        row["empty"].append(ok and _is_empty(sample))
        row["reconnects"].append(sample.reconnects)
        self._floats["done_ns"].append(_or_nan(sample.done_ns))
        self._floats["wait_ns"].append(_or_nan(sample.wait_ns))
        self._floats["arrived_tokens"].append(_tokens_inside(sample, self._windows.get(sample.step, (0, 0))))
        if measured and not ok:
            said = (sample.outcome, sample.status, (sample.error_message or "")[:MESSAGE_CHARS])
            errors = self._errors.setdefault((endpoint, sample.step), Counter())
            if said in errors or len(errors) < MAX_ERRORS:  # a server may invent a new message for each answer
                errors[said] += 1
        self._add_tokens(sample)
        self._add_metrics(sample, wanted=measured and ok)
        if measured and ok and sample.gaps:
            gaps = self._gaps.setdefault((endpoint, sample.step, group), _Gaps())
            gaps.add(decode_gaps(sample.gaps))

    def _add_tokens(self, sample: Sample) -> None:
        tokens = self._tokens
        tokens["input"].append(_or_nan(sample.input_tokens))
        tokens["output"].append(_or_nan(sample.output_tokens))
        tokens["reasoning"].append(_or_nan(sample.reasoning_tokens))
        tokens["cached"].append(_or_nan(sample.cached_tokens))

    def _add_metrics(self, sample: Sample, *, wanted: bool) -> None:
        for metric in METRICS:
            if metric.of is not None:
                self._metrics[metric.name].append(_or_nan(metric.of(sample)) if wanted else _NAN)

    def finish(self) -> Columns:
        integers = {name: np.frombuffer(values, dtype=np.int64) for name, values in self._integers.items()}
        flags = {name: integers.pop(name).astype(bool) for name in ("measured", "empty")}
        floats = {name: np.frombuffer(values, dtype=np.float64) for name, values in self._floats.items()}
        return Columns(
            **integers,
            **flags,
            **floats,
            tokens={name: np.frombuffer(values, dtype=np.float64) for name, values in self._tokens.items()},
            metrics={name: np.frombuffer(values, dtype=np.float64) for name, values in self._metrics.items()},
            endpoints=self._endpoints,
            kinds=self._kinds,
            models=self._models,
            sources=self._sources,
            gaps=self._gaps,
            errors=self._errors,
        )


def gather(samples: Iterable[Sample], groups: Mapping[str, int], windows: Mapping[int, Window]) -> Columns:
    """The columns of a run. `groups` maps a prompt to its group, `windows` a step to its measured phase."""
    builder = _Builder(groups, windows)
    for sample in samples:
        builder.add(sample)
    return builder.finish()


def _is_empty(sample: Sample) -> bool:
    """Whether an answer had nothing in it. A plain one has no chunks: its text and its tokens tell."""
    if sample.chunks or sample.text_chars:
        return False
    return sample.last_token_ns is None or not sample.output_tokens


def _or_nan(value: float | None) -> float:
    return _NAN if value is None else value


def _tokens_inside(sample: Sample, window: Window) -> float:
    """How many of a sample's output tokens arrived inside the window.

    Only an `ok` answer whose tokens are known has any: a chunk is not a token. They are spread evenly over its chunks.
    A plain answer has no chunk times: all of it arrives with its last byte.
    """
    tokens = sample.output_tokens if sample.outcome == Outcome.OK else None
    last_ns = sample.done_ns if sample.last_token_ns is None else sample.last_token_ns
    if not tokens or last_ns is None:
        return 0.0
    first_ns = last_ns if sample.first_token_ns is None else sample.first_token_ns
    from_ns, to_ns = window
    if first_ns >= from_ns and last_ns < to_ns:
        return float(tokens)
    if last_ns < from_ns or first_ns >= to_ns or not sample.gaps:
        return 0.0
    arrivals = first_ns + np.concatenate(([0], np.cumsum(decode_gaps(sample.gaps))))
    return tokens * float(np.mean((arrivals >= from_ns) & (arrivals < to_ns)))
