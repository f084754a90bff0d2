"""Every series that dashboards see, declared once: name, kind, labels, meaning, bounds. And a snapshot of them.

The exporters, the page `docs/prometheus.md` and the checks of the dashboards are made from `SERIES`. Labels have few
values, none of which an endpoint can invent: they come from the scenario, or from a closed list. A series for which
nothing is known yet is simply absent.

Names and units follow Prometheus: base units, `_total` for what only grows. The names of OpenTelemetry's conventions
for generative AI stand beside ours where they mean something that a client can measure, with their labels and bounds.

To add a series, declare it here and add points of it to a snapshot where its figures are known: samples in `meters.py`,
the run and its summary in `latbench/observed.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from latbench.metrics.distribution import Bounds, Distribution


def _bounds(upper: str) -> Bounds:
    """Bounds in seconds for nanoseconds."""
    return Bounds(tuple(float(bound) for bound in upper.split()), 1_000_000_000)


# Bounds where limits usually stand (those of MLPerf's servers among them), so that the share within one is exact.
LATENCY = _bounds(
    "0.005 0.01 0.02 0.03 0.05 0.075 0.1 0.15 0.2 0.25 0.3 0.4 0.45 0.5 0.6 0.8 1 1.25 1.5 2 2.5 3 4 4.5 5 6 8 10 12 15"
    " 20 30 45 60 120 300 600"
)
PER_TOKEN = _bounds(
    "0.001 0.002 0.003 0.005 0.0075 0.01 0.015 0.02 0.025 0.03 0.04 0.05 0.06 0.08 0.1 0.15 0.175 0.2 0.25 0.3 0.4 0.5"
    " 0.75 1 2.5 5 10"
)
WAIT = _bounds("0.1 0.5 1 2 5 10 20 30 60 120 300 900 3600 86400")
LATENESS = _bounds("0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1 5 30")
OTEL_SECONDS = _bounds("0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92")
OTEL_TOKENS = Bounds(tuple(float(4**power) for power in range(14)))

RUN = ("scenario", "window")
SCOPE = (*RUN, "provider", "endpoint", "model")
TASK = (*SCOPE, "task")
NEEDLE = (*SCOPE, "kind", "length", "depth")
OTEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, eq=False)
class Series:
    """One family of series. A histogram has `bounds`; the name of a counter ends in `_total`, as it is queried."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    bounds: Bounds | None = None


def _of_requests(name: str, help: str, labels: tuple[str, ...] = SCOPE, bounds: Bounds = LATENCY) -> Series:
    return Series(f"latbench_{name}_seconds", "histogram", help, labels, bounds)


TTFT = _of_requests("ttft", "Sent to first output of any kind.", TASK)
TTFT_RESPONSE = _of_requests("ttft_response", "Due to first output of any kind.")
TIME_TO_FIRST_TEXT = _of_requests("time_to_first_text", "Sent to first visible text.")
TPOT = _of_requests("tpot", "Time for each output token after the first.", TASK, PER_TOKEN)
INTER_CHUNK = _of_requests(
    "inter_chunk", "Gaps between output-bearing chunks; a chunk is not a token.", bounds=PER_TOKEN
)
E2E = _of_requests("e2e", "Sent to last output.", TASK)
E2E_RESPONSE = _of_requests("e2e_response", "Due to last output.")

REQUESTS = Series("latbench_requests_total", "counter", "Requests of the measured phase.", (*TASK, "outcome"))
WARMUP = Series("latbench_warmup_requests_total", "counter", "Requests of the warm-up.", (*SCOPE, "outcome"))
PLANNED = Series("latbench_planned_requests_total", "counter", "Requests of the measured phase that became due.", SCOPE)
GOOD = Series(
    "latbench_good_requests_total", "counter", "Requests that are ok and within every limit of the SLO.", TASK
)
EMPTY = Series("latbench_empty_answers_total", "counter", "Answers that are ok and have nothing in them.", SCOPE)
RECONNECTS = Series(
    "latbench_reconnects_total", "counter", "Reused connections that broke and were opened again.", SCOPE
)
TOKENS = Series(
    "latbench_tokens_total",
    "counter",
    "Tokens of ok answers by type: input, output, reasoning (part of output), cached (part of input).",
    (*TASK, "type"),
)
COST = Series("latbench_cost_usd_total", "counter", "Price of the requests whose tokens are known.", SCOPE)
MODEL_CHANGES = Series(
    "latbench_reported_model_changes_total",
    "counter",
    "How often an answer named a model or fingerprint that none before it had named, the first one left out.",
    SCOPE,
)

HITS = Series("latbench_rate_limit_hits_total", "counter", "Attempts that a limit refused.", (*SCOPE, "kind"))
ASKED_WAIT = Series(
    "latbench_rate_limit_asked_wait_seconds", "histogram", "The waits that were asked for.", SCOPE, WAIT
)
WAITED = Series("latbench_rate_limit_waited_seconds_total", "counter", "Time waited before trying again.", SCOPE)
REMAINING = Series("latbench_rate_limit_remaining", "gauge", "What the latest answer said is left.", (*SCOPE, "kind"))
REPORTED = Series("latbench_rate_limit_reported", "gauge", "The limit that the latest answer named.", (*SCOPE, "kind"))
PROMISED = Series(
    "latbench_rate_limit_promised",
    "gauge",
    "The limit that was promised, as the scenario says: requests and tokens a minute, daily a day.",
    (*SCOPE, "kind"),
)
CEILING = Series(
    "latbench_rate_limit_ceiling_per_minute",
    "gauge",
    "The limit as it was measured, a minute; known at the end of a run that hit it.",
    (*SCOPE, "kind"),
)

INFO = Series("latbench_run_info", "gauge", "1, with what was run and by which version.", (*RUN, "version"))
RUNNING = Series("latbench_run_running", "gauge", "1 from the start of the run to its end, else 0.", RUN)
STARTED = Series("latbench_run_started_timestamp_seconds", "gauge", "When the run was started.", RUN)
ENDED = Series("latbench_run_ended_timestamp_seconds", "gauge", "When the run had ended and was summed up.", RUN)
STEP = Series("latbench_run_step", "gauge", "The step that is under way, counted from 1; 0 before the first.", RUN)
STEPS = Series("latbench_run_steps", "gauge", "How many steps the run has.", RUN)
CONCURRENCY = Series("latbench_step_concurrency", "gauge", "Requests at a time to each endpoint: a closed loop.", RUN)
RATE = Series(
    "latbench_step_rate_per_second", "gauge", "Planned requests a second to each endpoint: an open loop.", RUN
)
WORKERS = Series("latbench_workers", "gauge", "Workers that have joined.", RUN)
IN_FLIGHT = Series("latbench_requests_in_flight", "gauge", "Requests that are unanswered now.", RUN)
SLO = Series(
    "latbench_slo_seconds", "gauge", "The limits of the SLO that are times; type is the metric.", (*RUN, "type")
)
VERDICT = Series(
    "latbench_validity_verdict", "gauge", "0 valid, 1 suspect, 2 invalid; while it runs, of what is known so far.", RUN
)
LATE = Series("latbench_send_lateness_seconds", "histogram", "Due to sent, open loops.", RUN, LATENESS)
ENGINE_CPU = Series("latbench_engine_cpu_ratio", "gauge", "Share of a core that the busiest engine uses.", RUN)
LAG = Series(
    "latbench_client_lag_seconds",
    "gauge",
    "How late latbench saw what had arrived: type is p50 or p99.",
    (*RUN, "type"),
)
NULL_TTFT = Series(
    "latbench_null_test_ttft_error_seconds",
    "gauge",
    "By how much latbench saw first tokens late in the null test before the run: type is p50 or p99.",
    (*RUN, "type"),
)
NULL_LAG = Series(
    "latbench_null_test_lag_seconds",
    "gauge",
    "How late chunks were stamped in the null test before the run: type is p50 or p99.",
    (*RUN, "type"),
)

NEEDLE_TRIALS = Series(
    "latbench_needle_trials_total",
    "counter",
    "Needle trials that ask for something that is there, by what became of them. Known at the end, as all of these.",
    (*NEEDLE, "outcome"),
)
NEEDLE_ACCURACY = Series(
    "latbench_needle_accuracy_ratio",
    "gauge",
    "Right answers of those that were given, by the part of the code that the needle stands in.",
    NEEDLE,
)
NEEDLE_LOWER = Series(
    "latbench_needle_accuracy_lower_ratio", "gauge", "What the answers prove at least, one-sided 95 %.", NEEDLE
)
NEEDLE_UPPER = Series(
    "latbench_needle_accuracy_upper_ratio", "gauge", "What they leave possible at most, one-sided 95 %.", NEEDLE
)
NEEDLE_TTFT = Series(
    "latbench_needle_ttft_seconds",
    "gauge",
    "TTFT of the trials: type is mean, or p50 or p95 where there were enough of them. Cannot be added up.",
    (*NEEDLE, "type"),
)
NEEDLE_CONTEXT = Series(
    "latbench_needle_effective_context_tokens",
    "gauge",
    "The longest prompt that can be relied on, by the rule that says so; 0 where none of those tested can.",
    (*SCOPE, "kind", "rule"),
)

OTEL_DURATION = Series(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "GenAI operation duration.",
    (*OTEL, "error_type"),
    OTEL_SECONDS,
)
OTEL_USAGE = Series(
    "gen_ai_client_token_usage",
    "histogram",
    "Number of input and output tokens used.",
    (*OTEL, "gen_ai_token_type"),
    OTEL_TOKENS,
)
OTEL_FIRST = Series(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "Time to the first chunk of any kind, one that carries no output included.",
    OTEL,
    OTEL_SECONDS,
)
OTEL_PER_CHUNK = Series(
    "gen_ai_client_operation_time_per_output_chunk_seconds", "histogram", "Time per output chunk.", OTEL, OTEL_SECONDS
)

LATENCIES = (TTFT, TTFT_RESPONSE, TIME_TO_FIRST_TEXT, TPOT, INTER_CHUNK, E2E, E2E_RESPONSE)
GROUPS: dict[str, tuple[Series, ...]] = {
    "Latency of ok answers": LATENCIES,
    "Requests, tokens, cost": (
        REQUESTS, WARMUP, PLANNED, GOOD, EMPTY, RECONNECTS, TOKENS, COST, MODEL_CHANGES,
    ),
    "Rate limits": (HITS, ASKED_WAIT, WAITED, REMAINING, REPORTED, PROMISED, CEILING),
    "The run": (
        INFO, RUNNING, STARTED, ENDED, STEP, STEPS, CONCURRENCY, RATE, WORKERS, IN_FLIGHT, SLO,
    ),
    "Validity": (VERDICT, LATE, ENGINE_CPU, LAG, NULL_TTFT, NULL_LAG),
    "Needle trials": (
        NEEDLE_TRIALS, NEEDLE_ACCURACY, NEEDLE_LOWER, NEEDLE_UPPER, NEEDLE_TTFT, NEEDLE_CONTEXT,
    ),
    "OpenTelemetry's names": (OTEL_DURATION, OTEL_USAGE, OTEL_FIRST, OTEL_PER_CHUNK),
}  # fmt: skip
"""The series in the order in which they are shown."""
SERIES: tuple[Series, ...] = tuple(series for group in GROUPS.values() for series in group)

REFUSALS = ("requests", "tokens", "input_tokens", "output_tokens", "concurrency", "daily", "ramp", "unknown")
"""What a refusal may be of."""
LIMIT_KINDS = frozenset(
    (
        *REFUSALS,
        *("requests_day", "tokens_day", "project_tokens", "tokens_usage_based"),
        *("priority_input_tokens", "priority_output_tokens"),
    )
)
"""What a refusal may be of, and what a header may tell of."""

Point = float | Distribution


@dataclass(slots=True)
class Snapshot:
    """What is known at one moment: for each series the points by the values of its labels, in their order.

    Distributions in it belong to it: nobody records into them any more.
    """

    points: dict[Series, dict[tuple[str, ...], Point]] = field(default_factory=dict)

    def set(self, series: Series, labels: tuple[str, ...], point: Point | None) -> None:
        """Put a point where there was none, or another. None is nothing."""
        assert len(labels) == len(series.labels), series.name
        if point is not None:
            self.points.setdefault(series, {})[labels] = point

    def merge(self, later: "Snapshot") -> None:
        """Add another's counts to these; of gauges, the later one's stand."""
        for series, labels, point in later:
            own = self.points.setdefault(series, {})
            known = own.get(labels)
            if isinstance(point, Distribution):
                if isinstance(known, Distribution):
                    known.merge(point)
                else:
                    own[labels] = point.copy()
            elif series.kind == "counter" and isinstance(known, int | float):
                own[labels] = known + point
            else:
                own[labels] = point

    def __iter__(self) -> Iterator[tuple[Series, tuple[str, ...], Point]]:
        for series, points in self.points.items():
            for labels, point in points.items():
                yield series, labels, point
