"""Every metric, declared once: name, unit, meaning, formula, needs, and the function that computes it.

Tables, files and pages are made from this list, so that a metric cannot mean two things. A function takes a sample and
gives None where the metric is not defined; it does not look at the outcome. Callers keep to `ok` samples, because only
those enter latency distributions. Times are computed in nanoseconds and shown in milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from latbench.metrics.fluidity import Pace, fluidity
from latbench.model.sample import Sample

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def _since(start_ns: int | None, end_ns: int | None) -> int | None:
    return None if start_ns is None or end_ns is None else end_ns - start_ns


def ttft(sample: Sample) -> int | None:
    """Nanoseconds from `sent` to the first output of any kind; None for an empty and for a plain answer."""
    return _since(sample.sent_ns, sample.first_token_ns)


def ttft_response(sample: Sample) -> int | None:
    """Nanoseconds from `due` to the first output."""
    return _since(sample.due_ns, sample.first_token_ns)


def time_to_first_text(sample: Sample) -> int | None:
    """Nanoseconds from `sent` to the first visible text; None where `ttft` is."""
    if sample.first_token_ns is None:
        return None
    return _since(sample.sent_ns, sample.first_text_ns)


def tpot(sample: Sample) -> float | None:
    """Nanoseconds for each output token after the first.

    None for fewer than two tokens, for an unknown number, and where reasoning was counted but not streamed: its
    tokens took time that lies before the first one that was seen.
    """
    tokens = sample.output_tokens
    if tokens is None or tokens < 2:
        return None
    if sample.reasoning_tokens and not sample.reasoning_streamed:
        return None
    decode_ns = _since(sample.first_token_ns, sample.last_token_ns)
    return None if decode_ns is None else decode_ns / (tokens - 1)


def generation_tokens_per_s(sample: Sample) -> float | None:
    """Tokens a second while output was arriving; None where `tpot` is, or where all of it came in one read."""
    per_token_ns = tpot(sample)
    return NS_PER_S / per_token_ns if per_token_ns else None


def e2e(sample: Sample) -> int | None:
    """Nanoseconds from `sent` to the last output; None for an empty answer."""
    return _since(sample.sent_ns, sample.last_token_ns)


def e2e_response(sample: Sample) -> int | None:
    """Nanoseconds from `due` to the last output."""
    return _since(sample.due_ns, sample.last_token_ns)


def e2e_tokens_per_s(sample: Sample) -> float | None:
    """Output tokens a second over the whole request; None for an unknown number of tokens."""
    whole_ns = e2e(sample)
    if sample.output_tokens is None or not whole_ns:
        return None
    return sample.output_tokens * NS_PER_S / whole_ns


def e2e_reference_tokens_per_s(sample: Sample) -> float | None:
    """Tokens of the visible text, counted with o200k_base, a second over the whole request; None without a count."""
    whole_ns = e2e(sample)
    if sample.reference_tokens is None or not whole_ns:
        return None
    return sample.reference_tokens * NS_PER_S / whole_ns


def e2e_chars_per_s(sample: Sample) -> float | None:
    """Characters of the visible text a second over the whole request; None where there was none."""
    whole_ns = e2e(sample)
    if not sample.text_chars or not whole_ns:
        return None
    return sample.text_chars * NS_PER_S / whole_ns


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a request. `of` gives nanoseconds where `unit` is ms, else the unit itself.

    `of_pace` is in its place where the metric depends on the limits of the run's SLO. Without either the metric has one
    value for each chunk gap. `needs` says in words what must be known of a request for the metric to be defined.
    """

    name: str
    label: str
    unit: str
    definition: str
    formula: str
    needs: str
    higher_is_better: bool
    of: Callable[[Sample], int | float | None] | None
    of_pace: Callable[[Sample, Pace], float | None] | None = None

    @property
    def json_name(self) -> str:
        """The key in `summary.json`: the unit is in the name."""
        return f"{self.name}_ms" if self.unit == "ms" else self.name

    @property
    def scale(self) -> int:
        """What the values of `of` are divided by to give `unit`."""
        return NS_PER_MS if self.unit == "ms" else 1

    @property
    def shown(self) -> tuple[str, ...]:
        """The percentiles a table shows, the slow tail to the right."""
        return ("p50", "p10", "p5", "p1") if self.higher_is_better else ("p50", "p90", "p95", "p99")


METRICS: tuple[Metric, ...] = (
    Metric(
        "ttft",
        "TTFT",
        "ms",
        "time to the first non-empty output of any kind, reasoning and tool calls included",
        "first_token - sent",
        "a streamed answer that is not empty",
        False,
        ttft,
    ),
    Metric(
        "ttft_response",
        "TTFT from due",
        "ms",
        "the same from the moment the request was due",
        "first_token - due",
        "a streamed answer that is not empty",
        False,
        ttft_response,
    ),
    Metric(
        "time_to_first_text",
        "time to first text",
        "ms",
        "time to the first visible text",
        "first_text - sent",
        "a streamed answer with visible text",
        False,
        time_to_first_text,
    ),
    Metric(
        "tpot",
        "TPOT",
        "ms",
        "time for each output token after the first",
        "(last_token - first_token) / (n - 1)",
        "at least two output tokens of known number, and reasoning streamed where it was counted",
        False,
        tpot,
    ),
    Metric(
        "inter_chunk",
        "inter-chunk",
        "ms",
        "gap between output-bearing chunks, all requests pooled; a chunk is not a token",
        "difference of neighbouring chunk arrivals",
        "at least two output-bearing chunks",
        False,
        None,
    ),
    Metric(
        "e2e",
        "end to end",
        "ms",
        "time to the last output",
        "last_token - sent",
        "an answer that is not empty",
        False,
        e2e,
    ),
    Metric(
        "e2e_response",
        "end to end from due",
        "ms",
        "the same from the moment the request was due",
        "last_token - due",
        "an answer that is not empty",
        False,
        e2e_response,
    ),
    Metric(
        "generation_tokens_per_s",
        "generation",
        "tokens/s",
        "output tokens a second while output was arriving",
        "1 / tpot",
        "what TPOT needs, and output that came in more than one read",
        True,
        generation_tokens_per_s,
    ),
    Metric(
        "e2e_tokens_per_s",
        "end to end",
        "tokens/s",
        "output tokens a second over the whole request",
        "n / e2e",
        "output tokens of known number",
        True,
        e2e_tokens_per_s,
    ),
    Metric(
        "e2e_reference_tokens_per_s",
        "end to end",
        "reference tokens/s",
        "the visible text in tokens of o200k_base, the same for every model, a second over the whole request",
        "reference tokens / e2e",
        "visible text that was counted",
        True,
        e2e_reference_tokens_per_s,
    ),
    Metric(
        "e2e_chars_per_s",
        "end to end",
        "characters/s",
        "characters of the visible text a second over the whole request",
        "characters / e2e",
        "visible text",
        True,
        e2e_chars_per_s,
    ),
    Metric(
        "fluidity",
        "tokens in time",
        "share",
        "share of the output tokens that were there in time for a reader who begins at the limit on TTFT and takes the"
        " limit on TPOT for each token; early tokens are slack for later ones, and after a late one he goes on from its"
        " arrival (the fluidity index of etalon)",
        "tokens in time / n",
        "limits on `ttft` and `tpot` in `slo`, a streamed answer, output tokens of known number, and reasoning streamed"
        " where it was counted",
        True,
        None,
        fluidity,
    ),
)
"""In the order in which reports show them."""

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}

NEED_A_STREAM = frozenset(
    ("ttft", "ttft_response", "time_to_first_text", "tpot", "inter_chunk", "generation_tokens_per_s", "fluidity")
)
"""The metrics that no plain answer has: an endpoint that never streams is not held to limits on them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an endpoint in a whole step, beside the metrics of its requests. It may lead a summary.

    `where` is its place in an endpoint's block of `summary.json`, dots between the keys; "lead" has no other place.
    """

    name: str
    label: str
    unit: str
    definition: str
    formula: str
    higher_is_better: bool
    where: str = "lead"


FIGURES: tuple[Figure, ...] = (
    Figure(
        "error_rate",
        "error rate",
        "share",
        "share of the requests that were sent and not answered `ok`, rate limits included; what latbench itself"
        " cancelled does not count",
        "(sent - ok - cancelled) / sent",
        False,
        "error_rate",
    ),
    Figure(
        "goodput",
        "goodput",
        "good requests/s",
        "requests that are `ok` and within every limit of `slo`, and ended inside the window; null without `slo`",
        "good answers / window",
        True,
        "throughput.goodput_per_s",
    ),
    Figure(
        "requests_per_s",
        "requests",
        "requests/s",
        "`ok` answers that ended inside the measured window",
        "answers / window",
        True,
        "throughput.requests_per_s",
    ),
    Figure(
        "output_tokens_per_s",
        "output",
        "tokens/s",
        "output tokens of `ok` answers that arrived inside the measured window",
        "tokens / window",
        True,
        "throughput.output_tokens_per_s",
    ),
    Figure(
        "total_time",
        "total time",
        "s",
        "from the start of the step, warm-up included, to its last `ok` answer",
        "last done - start",
        False,
    ),
    Figure(
        "requests_per_min",
        "requests",
        "per minute",
        "`ok` answers that ended inside the measured window, by its length",
        "60 * answers / window",
        True,
    ),
    Figure(
        "usd_per_1k_tokens",
        "cost",
        "USD per 1,000 tokens",
        "price of the measured requests by their tokens, in and out",
        "1000 * cost / tokens",
        False,
        "cost.usd_per_1k_tokens",
    ),
)
"""What `lead` in a scenario may name besides the metrics."""
