"""How figures are written in the tables of every format: digits, missing values, percentiles that need more data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latbench.metrics.catalogue import METRICS, Metric

MISSING = "\N{EN DASH}"
SLICE_HEAD = ("ok", "TTFT p50 ms", "end to end p50 ms", "tokens/s p50")
STEP_HEAD = ("step", "ok", "req/s", "tok/s", "TTFT p50 ms", "p95 ms", "errors")
THIN_NOTE = "thin: fewer than 30 distinct prompts."
NEED_NOTE = "n/a ≥N: the percentile needs at least N values; there are fewer."


def number(value: float | None) -> str:
    """A figure with what digits a reader can use: 2 decimals below 10, 1 below 1000, none above."""
    if value is None:
        return MISSING
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"


def count(value: int | None) -> str:
    """A whole number."""
    return MISSING if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A share as per cent."""
    return MISSING if value is None else f"{value * 100:.2f} %"


def percentile(table: Mapping[str, Any], name: str) -> str:
    """A percentile of a metric, `n/a ≥need` where the values are too few, a dash where there are none."""
    if table["n"] and name in table["need"]:
        return f"n/a ≥{table['need'][name][0]}"
    return number(table[name])


def rows(metrics: Mapping[str, Any], *, rates: bool) -> Iterator[tuple[Metric, list[str]]]:
    """The rates, or everything else, in the catalogue's order: each with n and its shown percentiles.

    Latency from due is left out where it equals the latency from sent, as it does in a closed loop.
    """
    for metric in METRICS:
        table = metrics[metric.json_name]
        repeated = metric.name.endswith("_response") and table == metrics[metric.json_name.replace("_response", "")]
        if metric.higher_is_better == rates and not repeated:
            yield metric, [count(table["n"]), *(percentile(table, name) for name in metric.shown)]


def shown(*, rates: bool) -> tuple[str, ...]:
    """The percentiles in the head of such a table."""
    return next(metric.shown for metric in METRICS if metric.higher_is_better == rates)


def slice_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row for each value of a slice, under `SLICE_HEAD` with the slice's name before it."""
    return [
        (
            f"{value} (thin)" if part["thin"] else value,
            count(part["outcomes"]["ok"]),
            percentile(part["metrics"]["ttft_ms"], "p50"),
            percentile(part["metrics"]["e2e_ms"], "p50"),
            percentile(part["metrics"]["generation_tokens_per_s"], "p50"),
        )
        for value, part in found.items()
    ]


def step_rows(name: str, steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each step of an endpoint, under `STEP_HEAD`."""
    rows: list[tuple[str, ...]] = []
    for step in steps:
        found = step["endpoints"][name]
        rows.append(
            (
                f"{step['index']}: {load(step)}",
                count(found["outcomes"]["ok"]),
                number(found["throughput"]["requests_per_s"]),
                number(found["throughput"]["output_tokens_per_s"]),
                percentile(found["metrics"]["ttft_ms"], "p50"),
                percentile(found["metrics"]["ttft_ms"], "p95"),
                share(found["error_rate"]),
            )
        )
    return rows


def outcomes(found: Mapping[str, int]) -> str:
    """What happened, by number; outcomes that did not occur are left out, `ok` is not."""
    return ", ".join(f"{name} {count(n)}" for name, n in found.items() if n or name == "ok")


def tokens(found: Mapping[str, Any]) -> str:
    """The tokens of `ok` answers and who counted them."""
    parts = [f"{name} {count(found[name])}" for name in ("input", "output", "reasoning", "cached")]
    return f"{', '.join(parts)} (source: {found['source']})"


def throughput(found: Mapping[str, Any]) -> str:
    """What arrived inside the measured window."""
    return f"{number(found['requests_per_s'])} requests/s, {number(found['output_tokens_per_s'])} output tokens/s"


def load(step: Mapping[str, Any]) -> str:
    """How hard a step pushed."""
    if step["concurrency"] is not None:
        return f"{step['shape']} {step['concurrency']}"
    return step["shape"] if step["rate"] is None else f"{step['shape']} {step['rate']:g}/s"


def rate_limits(found: Mapping[str, Any]) -> str:
    """Hits, their kinds, and the waits that were asked for."""
    kinds = ", ".join(f"{kind} {count(n)}" for kind, n in found["by_kind"].items())
    wait = found["retry_after_s"]
    asked = "" if wait["max"] is None else f"; asked to wait p50 {number(wait['p50'])} s, max {number(wait['max'])} s"
    return f"{count(found['hits'])} hits ({kinds}){asked}"


def reason(found: Mapping[str, Any]) -> str:
    """One reason of the verdict: code, figure, limit, advice."""
    figure = "" if found["value"] is None else f": {_figure(found['value'])}"
    limit = "" if found["limit"] is None else f" (limit {_figure(found['limit'])})"
    advice = f"; {found['advice']}" if found["advice"] else ""
    return f"{found['code']}{figure}{limit}{advice}"


def _figure(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def error(found: Mapping[str, Any]) -> str:
    """One of the commonest failures: how often, as what, in whose words."""
    status = "" if found["status"] is None else f" (HTTP {found['status']})"
    return f"{count(found['count'])} {found['outcome']}{status}: {found['message'] or 'without a word'}"


def run_line(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    """What was run, when, for how long, how hard."""
    parts = [f"scenario {run['scenario']}", f"started {run['started_at']}", f"{number(run['duration_s'])} s"]
    if len(steps) == 1:
        from_s, to_s = steps[0]["phase_s"]
        parts[-1] += f" ({number(to_s - from_s)} s measured)"
    parts.append(load(steps[0]) if len(steps) == 1 else f"{len(steps)} steps")
    parts += [f"{run['workers']} worker{'' if run['workers'] == 1 else 's'}", run["state"]]
    if run["window"] is not None:
        parts.append(f"window {run['window']}")
    parts += [f"{key}={value}" for key, value in run["labels"].items()]
    return ", ".join(parts)


def identity(endpoint: Mapping[str, Any]) -> str:
    """Who answers: provider, API, model."""
    return ", ".join(str(endpoint[key]) for key in ("provider", "api", "model") if endpoint[key])


def other_models(endpoint: Mapping[str, Any]) -> str:
    """The models that answered, where they are not just the one that was asked."""
    reported = endpoint["reported_models"]
    if set(reported) <= {endpoint["model"]}:
        return ""
    return ", ".join(f"{name} {count(n)}" for name, n in reported.items())
