"""The samples of a run as numpy columns: one pass over them, then every slice is an array of row numbers.

Stamps and durations are float64 (exact to 104 days in nanoseconds); NaN stands for what is not known or not defined.
Other columns are as narrow as their values allow: a run may have half a million samples. Chunk gaps are too many to
keep: those of `ok` samples in the measured phase go into histograms, one for each endpoint, step and group of prompts,
and a slice merges those of its groups. In conversations there is one more for each turn, and where a run has several
output modes for each of them.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latbench.analysis.attempts import Reported, Tries, together
from latbench.analysis.limits import Attempts
from latbench.analysis.words import OUTCOMES, RATE_LIMITED
from latbench.metrics.catalogue import METRICS
from latbench.metrics.fluidity import Pace
from latbench.metrics.histogram import Histogram
from latbench.model.sample import Outcome, Sample, decode_gaps

UNKNOWN_GROUP = 0
"""The group of prompts that the run knows nothing about."""

TOKENS = ("input", "output", "reasoning", "cached", "reference")

Error = tuple[str, int | None, str]
"""Outcome, HTTP status and what the endpoint or the connection said: hostile text, cut at `MESSAGE_CHARS`.

Messages that differ only in numbers are one failure, shown by the first of an endpoint's.
"""

MESSAGE_CHARS = 160
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MAX_ERRORS = 1000
INSTANT_TOKENS = 16
INSTANT_NS = 100_000
"""A token; the quickest machines for one stream are slower by a factor of three and more."""

_MOST_KEYS = 127
_NAN = float("nan")
_OURS = (Outcome.CANCELLED, Outcome.DROPPED, Outcome.LOST)  # no endpoint said anything: they are only counted
_NUMBERS = {name: number for number, name in enumerate(OUTCOMES)}
_FIRST_FLUSH_BYTES = 131_072  # gaps are kept as they came until a histogram costs less memory than they do
_FLUSH_BYTES = 32_768


Window = tuple[int, int]
"""A measured phase [from_ns, to_ns)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known before the samples come.

    `groups` maps a prompt to its group, `windows` an endpoint and a step to the measured phase, `turns` a step of
    conversations to the most turns of each. `open_steps` are those whose arrivals had times of their own, `limited` the
    metrics that the SLO limits. `modes` says whether the run compares output modes, `pace` is that of the SLO's reader.
    """

    groups: Mapping[str, int] = field(default_factory=dict)
    windows: Mapping[tuple[str, int], Window] = field(default_factory=dict)
    turns: Mapping[int, int] = field(default_factory=dict)
    open_steps: Set[int] = frozenset()
    limited: Set[str] = frozenset()
    modes: bool = False
    pace: Pace | None = None


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
    """The gaps of one endpoint, step and group, on their way into a histogram.

    Records of equal width (their first byte, see `encode_gaps`) are strung together: one array is read much more
    quickly than a thousand short ones.
    """

    narrow: bytearray = field(default_factory=lambda: bytearray(b"4"))
    wide: bytearray = field(default_factory=lambda: bytearray(b"8"))
    histogram: Histogram | None = None

    def add(self, gaps: bytes) -> None:
        (self.narrow if gaps[:1] == b"4" else self.wide).extend(memoryview(gaps)[1:])
        if len(self.narrow) + len(self.wide) >= (_FIRST_FLUSH_BYTES if self.histogram is None else _FLUSH_BYTES):
            self.histogram = self.histogram or Histogram()
            self._record(self.histogram)
            self.narrow, self.wide = bytearray(b"4"), bytearray(b"8")

    def merge_into(self, target: Histogram) -> None:
        if self.histogram is not None:
            target.merge(self.histogram)
        self._record(target)

    def _record(self, target: Histogram) -> None:
        for packed in (self.narrow, self.wide):
            target.record(decode_gaps(bytes(packed)))


@dataclass(slots=True)
class ToolTimes:
    """The calls of the rows that made some: most runs have none."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    calls: "array[int]" = field(default_factory=lambda: array("i"))
    parallel_ns: "array[float]" = field(default_factory=lambda: array("d"))
    sequential_ns: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, row: int, sample: Sample) -> None:
        """What an answer called; rows rise."""
        self.rows.append(row)
        self.calls.append(sample.tool_calls)
        self.parallel_ns.append(_or_nan(sample.tools_parallel_ns))
        self.sequential_ns.append(_or_nan(sample.tools_sequential_ns))

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Calls, and nanoseconds of them in parallel and in sequence: 0 without a call, NaN where none is executed."""
        own = np.frombuffer(self.rows, dtype=np.int64)
        at = np.searchsorted(own, rows)
        there = at < len(own)
        there[there] = own[at[there]] == rows[there]
        found = []
        for values, kind in ((self.calls, np.int32), (self.parallel_ns, np.float64), (self.sequential_ns, np.float64)):
            column = np.zeros(len(rows), dtype=kind)
            column[there] = np.frombuffer(values, dtype=kind)[at[there]]
            found.append(column)
        return found[0], found[1], found[2]


@dataclass(slots=True)
class _Said:
    """Failures in the words that came with them, counted by endpoint and step."""

    errors: dict[tuple[int, int], Counter[Error]] = field(default_factory=dict)
    first: dict[tuple[int, Error], Error] = field(default_factory=dict)

    def add(self, sample: Sample, endpoint: int) -> None:
        """One that is not `ok`."""
        if sample.outcome in _OURS and not sample.error_message:
            return
        message = sample.error_message or ""
        alike = (sample.outcome, sample.status, without_numbers(message))
        said = self.first.get((endpoint, alike), (*alike[:2], message[:MESSAGE_CHARS]))
        errors = self.errors.setdefault((endpoint, sample.step), Counter())
        if said in errors or len(errors) < MAX_ERRORS:  # a server may invent a new message for each answer
            self.first[endpoint, alike] = said
            errors[said] += 1


@dataclass(slots=True)
class Columns:
    """One row for each sample. Codes are numbers into `OUTCOMES` or the `Names` of the same word.

    `late_ns` is sent - due in open loops. `metrics` has values for `ok` rows only, of either phase. `errors` are of the
    measured phase, those of the warm-up are apart. `valid` and `met` are -1 where nobody asked. `stayed_ns` adds up how
    long the requests of each step were under way, whatever became of them; `instant` counts measured answers that came
    sooner than a model writes, by endpoint and text.
    """

    endpoint: np.ndarray
    step: np.ndarray
    seq: np.ndarray
    measured: np.ndarray
    outcome: np.ndarray
    group: np.ndarray
    prompt: np.ndarray
    kind: np.ndarray
    model: np.ndarray
    source: np.ndarray
    empty: np.ndarray
    reconnects: np.ndarray
    key: np.ndarray
    mode: np.ndarray
    valid: np.ndarray
    met: np.ndarray
    due_ns: np.ndarray
    sent_ns: np.ndarray
    late_ns: np.ndarray
    done_ns: np.ndarray
    wait_ns: np.ndarray
    arrived_tokens: np.ndarray
    tokens: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    endpoints: Names
    kinds: Names
    models: Names
    sources: Names
    modes: Names
    tries: Tries
    reported: Reported
    tool_times: ToolTimes
    gaps: dict[tuple[int, int, int], _Gaps]
    turn_gaps: dict[tuple[int, int, int], _Gaps]
    mode_gaps: dict[tuple[int, int, int], _Gaps]
    errors: dict[tuple[int, int], Counter[Error]]
    warmup_errors: dict[tuple[int, int], Counter[Error]]
    stayed_ns: Counter[int]
    instant: Counter[tuple[int, str]]

    def pooled_gaps(self, endpoint: int, step: int, groups: Iterable[int]) -> Histogram:
        """The chunk gaps of an endpoint in a step, for some groups of prompts."""
        return _pooled(self.gaps, endpoint, step, groups)

    def attempts(self, rows: np.ndarray) -> Attempts:
        """Every attempt of some samples."""
        last = {name: getattr(self, name) for name in ("sent_ns", "outcome", "kind", "key")}
        last["asked_ns"] = self.wait_ns
        return together(rows, last, self.tokens, self.tries, self.reported, self.kinds.names)

    def refused(self, rows: np.ndarray) -> np.ndarray:
        """Those of some samples that a limit refused, in the end or at first: all that hits and waits are counted of.

        Most runs have few of them or none: the attempts of all the others need not be put together.
        """
        found: np.ndarray = rows[(self.outcome[rows] == RATE_LIMITED) | self.tries.tried(rows)]
        return found

    def in_due_order(self, rows: np.ndarray) -> np.ndarray:
        """Some samples in the order in which they were due: of one endpoint and step, else their numbers repeat.

        Neighbours in it met the same queue, which is what an interval has to know. In a closed loop a turn is due when
        it is sent.
        """
        ordered: np.ndarray = rows[np.lexsort((self.seq[rows], self.due_ns[rows]))]
        return ordered

    def on_limits(self, rows: np.ndarray) -> np.ndarray:
        """The samples that something is to be learned from about limits: all of them, or none.

        None where no limit refused one, none was told what was left, and there was one key: most runs, of any size.
        """
        quiet = not len(self.refused(rows)) and not self.reported.columns
        return rows[:0] if quiet and not np.any(self.key[rows] != self.key[rows[:1]]) else rows

    def gaps_of_turn(self, endpoint: int, step: int, turn: int) -> Histogram:
        """The chunk gaps of an endpoint in a step of conversations, in one of their turns."""
        return _pooled(self.turn_gaps, endpoint, step, (turn,))

    def gaps_of_mode(self, endpoint: int, step: int, mode: int) -> Histogram:
        """The chunk gaps of an endpoint in a step, in one of several output modes."""
        return _pooled(self.mode_gaps, endpoint, step, (mode,))


def _pooled(gaps: Mapping[tuple[int, int, int], _Gaps], endpoint: int, step: int, parts: Iterable[int]) -> Histogram:
    pooled = Histogram()
    for part in parts:
        found = gaps.get((endpoint, step, part))
        if found is not None:
            found.merge_into(pooled)
    return pooled


_TYPES: dict[str, str] = {
    **dict.fromkeys(("measured", "empty"), "?"),
    **dict.fromkeys(("outcome", "source", "key", "mode", "valid", "met"), "b"),
    **dict.fromkeys(("endpoint", "step", "group", "prompt", "kind", "model", "reconnects"), "i"),
    "seq": "q",
    **dict.fromkeys(("due_ns", "sent_ns", "late_ns", "done_ns", "wait_ns", "arrived_tokens"), "d"),
}
"""The type of each column as numpy and `array` write it."""


def _column(code: str) -> "array[Any]":
    return array("b" if code == "?" else code)  # a truth value is a byte; `array` has no name for it


class _Builder:
    """Appends numbers to arrays; `finish` hands the arrays over to numpy."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._columns = {name: _column(code) for name, code in _TYPES.items()}
        self._tokens = {name: array("f") for name in TOKENS}  # exact to 16 million tokens in a request
        self._metrics = {name: array("d") for name, _ in _computed(layout)}
        self._gaps: dict[tuple[int, int, int], _Gaps] = {}
        self._turn_gaps: dict[tuple[int, int, int], _Gaps] = {}
        self._mode_gaps: dict[tuple[int, int, int], _Gaps] = {}
        self._prompts, self._endpoints = Names(), Names()
        self._kinds, self._models, self._sources, self._modes = Names(), Names(), Names(), Names()
        self._tries, self._reported, self._tool_times = Tries(), Reported(), ToolTimes()
        self._said, self._said_in_warmup = _Said(), _Said()  # apart: the first of one that is alike shows for all
        self._stayed_ns: Counter[int] = Counter()
        self._instant: Counter[tuple[int, str]] = Counter()
        # Bound once: looking these up anew would take a third of the time of a large run.
        self._append = {name: column.append for name, column in self._columns.items()}
        self._add_token = [(column.append, f"{name}_tokens") for name, column in self._tokens.items()]
        self._add_metric = [(self._metrics[name].append, of) for name, of in _computed(layout)]

    def add(self, sample: Sample) -> None:
        layout, append = self._layout, self._append
        endpoint = self._endpoints.number(sample.endpoint)
        group = layout.groups.get(sample.prompt_id, UNKNOWN_GROUP)
        measured, ok = sample.phase == "measure", sample.outcome == Outcome.OK
        append["endpoint"](endpoint)
        append["step"](sample.step)
        append["seq"](sample.seq)
        append["measured"](measured)
        append["outcome"](_NUMBERS[sample.outcome])
        append["group"](group)
        append["prompt"](self._prompts.number(sample.prompt_id))
        append["kind"](self._kinds.number(sample.kind or "unknown"))
        append["model"](-1 if sample.model is None else self._models.number(sample.model))
        append["source"](self._sources.number(sample.token_source))
        append["empty"](ok and _is_empty(sample))
        append["reconnects"](sample.reconnects)
        append["key"](min(sample.key_index, _MOST_KEYS))
        append["mode"](self._modes.number(sample.output_mode))
        append["valid"](_truth(sample.valid))
        append["met"](_truth(sample.met))
        append["due_ns"](sample.due_ns)
        append["sent_ns"](_or_nan(sample.sent_ns))
        append["late_ns"](_lateness(sample) if sample.step in layout.open_steps else _NAN)
        append["done_ns"](_or_nan(sample.done_ns))
        append["wait_ns"](_or_nan(sample.wait_ns))
        append["arrived_tokens"](_tokens_inside(sample, layout.windows.get((sample.endpoint, sample.step), (0, 0))))
        for add_token, name in self._add_token:
            add_token(_or_nan(getattr(sample, name)))
        for add_metric, of in self._add_metric:
            add_metric(_or_nan(of(sample)) if ok else _NAN)
        row = len(self._columns["step"]) - 1
        if sample.headroom:
            self._reported.add(row, sample.headroom)
        if sample.tries:
            for one in sample.tries:
                self._kinds.number(one.kind or "unknown")
            self._tries.add(row, sample, self._kinds.numbers, _NUMBERS)
            self._stayed_ns[sample.step] += sum(one.done_ns - one.sent_ns for one in sample.tries)
        if sample.tool_calls:
            self._tool_times.add(row, sample)
        if sample.sent_ns is not None and sample.done_ns is not None:
            self._stayed_ns[sample.step] += sample.done_ns - sample.sent_ns
        if measured and ok:
            self._add_gaps(sample, endpoint, group)
            if _is_instant(sample):
                self._instant[endpoint, sample.text_sha256] += 1
        elif not ok:
            (self._said if measured else self._said_in_warmup).add(sample, endpoint)

    def _add_gaps(self, sample: Sample, endpoint: int, group: int) -> None:
        if not sample.gaps:
            return
        self._gaps.setdefault((endpoint, sample.step, group), _Gaps()).add(sample.gaps)
        turns = self._layout.turns.get(sample.step)
        if turns is not None:
            self._turn_gaps.setdefault((endpoint, sample.step, sample.seq % turns), _Gaps()).add(sample.gaps)
        if self._layout.modes:
            mode = self._modes.number(sample.output_mode)
            self._mode_gaps.setdefault((endpoint, sample.step, mode), _Gaps()).add(sample.gaps)

    def finish(self) -> Columns:
        return Columns(
            **{name: np.frombuffer(values, dtype=_TYPES[name]) for name, values in self._columns.items()},
            tokens={name: np.frombuffer(values, dtype=np.float32) for name, values in self._tokens.items()},
            metrics={name: np.frombuffer(values, dtype=np.float64) for name, values in self._metrics.items()},
            endpoints=self._endpoints,
            kinds=self._kinds,
            models=self._models,
            sources=self._sources,
            modes=self._modes,
            tries=self._tries,
            reported=self._reported,
            tool_times=self._tool_times,
            gaps=self._gaps,
            turn_gaps=self._turn_gaps,
            mode_gaps=self._mode_gaps,
            errors=self._said.errors,
            warmup_errors=self._said_in_warmup.errors,
            stayed_ns=self._stayed_ns,
            instant=self._instant,
        )


def gather(samples: Iterable[Sample], layout: Layout) -> Columns:
    """The columns of a run."""
    builder = _Builder(layout)
    for sample in samples:
        builder.add(sample)
    return builder.finish()


def _computed(layout: Layout) -> list[tuple[str, Callable[[Sample], float | None]]]:
    """The metrics of a request and their functions."""
    computed: list[tuple[str, Callable[[Sample], float | None]]] = []
    for metric in METRICS:
        if metric.of is not None:
            computed.append((metric.name, metric.of))
        elif metric.of_pace is not None:
            if layout.pace is not None:
                computed.append((metric.name, _at_pace(metric.of_pace, layout.pace)))
        elif metric.name in layout.limited:
            computed.append((metric.name, _longest_gap))
    return computed


def _at_pace(of: Callable[[Sample, Pace], float | None], pace: Pace) -> Callable[[Sample], float | None]:
    return lambda sample: of(sample, pace)


def _longest_gap(sample: Sample) -> float | None:
    """What a limit on the gaps between chunks is held against; None for fewer than two chunks."""
    return int(decode_gaps(sample.gaps).max()) if sample.gaps else None


def _lateness(sample: Sample) -> float:
    """How late a request was first sent. Of one whose connection broke, that is not known: it was in time."""
    if sample.tries:
        return sample.tries[0].sent_ns - sample.due_ns
    return _NAN if sample.sent_ns is None or sample.reconnects else sample.sent_ns - sample.due_ns


def without_numbers(message: str) -> str:
    """What messages have in common that differ in their numbers only: `try again in 77ms` is one failure."""
    return _NUMBER.sub("N", message[: 4 * MESSAGE_CHARS])[:MESSAGE_CHARS]


def _truth(value: bool | None) -> int:
    return -1 if value is None else int(value)


def _is_empty(sample: Sample) -> bool:
    """Whether an answer had nothing in it. A plain one has no chunks: its text and its tokens tell."""
    if sample.chunks or sample.text_chars:
        return False
    return sample.last_token_ns is None or not sample.output_tokens


def _is_instant(sample: Sample) -> bool:
    """Whether an answer of some length came sooner than any model writes one."""
    tokens, last_ns = sample.output_tokens or 0, sample.last_token_ns
    if tokens < INSTANT_TOKENS or last_ns is None or sample.sent_ns is None or not sample.text_sha256:
        return False
    return last_ns - sample.sent_ns < tokens * INSTANT_NS


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
