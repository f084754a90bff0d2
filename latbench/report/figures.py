"""How figures are written in the tables of every format: digits, missing values, percentiles that need more data."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from latbench.analysis.counts import SHOWN_ERRORS
from latbench.analysis.slo import GOOD_SHARE
from latbench.metrics.catalogue import BY_NAME, METRICS, Metric

MISSING = "\N{EN DASH}"
SLICE_HEAD = ("ok", "TTFT p50 ms", "end to end p50 ms", "tokens/s p50")
STEP_HEAD = ("step", "ok", "errors", "req/s", "speed-up", "tok/s")
STEP_TIMES_HEAD = ("step, ms", "TTFT p50", "p95", "end to end p50", "p95")
FROM_DUE_HEAD = "from due p95"
GOOD_HEAD = "good"
THIN = " (thin)"
THIN_NOTE = "thin: fewer than 30 distinct prompts."
RATES = "tokens/s"
SHARE = "share"
NEEDS = "n/a \N{GREATER-THAN OR EQUAL TO}"
HAS = "has "
NEED_NOTE = (
    "n/a ≥N: the percentile needs N independent values; has M: those there count for M, since values that follow one"
    " another are not independent."
)
INTERVAL = "  95 % interval"
INTERVAL_NOTE = (
    "95 % interval: where the percentile lies for this load at this time, as far as so many requests can tell. Of"
    " another hour it says nothing."
)


Table = tuple[list[str], list[list[str]]]
"""A head and rows of as many cells."""


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
        return f"{NEEDS}{table['need'][name][0]}"
    return number(table[name])


def interval(table: Mapping[str, Any], name: str) -> str:
    """The interval of a percentile, what its values count for where that is too little, empty where there is none."""
    if table["n"] and name in table["need"]:
        return f"{HAS}{table['need'][name][1]}"
    ends = table["ci95"][name]
    return "" if ends is None else f"{_end(ends[0], math.floor)}\N{EN DASH}{_end(ends[1], math.ceil)}"


def _end(value: float, towards: Callable[[float], int]) -> str:
    """An end of an interval in few digits, rounded outwards: a digit less than the percentile has, and no commas."""
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{towards(round(value * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def with_interval(table: Mapping[str, Any], name: str) -> str:
    """A percentile and its interval in one cell."""
    found = interval(table, name)
    if found.startswith(HAS):
        return f"{percentile(table, name)}, {found}"
    return f"{percentile(table, name)} ({found})" if found else percentile(table, name)


def rows(metrics: Mapping[str, Any], *, rates: bool) -> Iterator[tuple[Metric, Mapping[str, Any]]]:
    """The rates, or everything else, in the catalogue's order: each with its figures.

    Latency from due is left out where it equals the latency from sent, as it does in a closed loop, and so is what has
    no values at all, as what only a stream has where answers come in one piece: `without_values` names it.
    """
    for metric in METRICS:
        table = metrics[metric.json_name]
        repeated = metric.name.endswith("_response") and table == metrics[metric.json_name.replace("_response", "")]
        if metric.higher_is_better == rates and table["n"] and not repeated:
            yield metric, table


def metric_table(metrics: Mapping[str, Any], *, rates: bool) -> list[list[str]]:
    """The rates, or everything else: a row of percentiles under `shown`, and where there are any one of intervals."""
    found = []
    for metric, table in rows(metrics, rates=rates):
        label = rate_label(metric) if rates else metric.label
        found.append([label, count(table["n"]), *(percentile(table, name) for name in metric.shown)])
        found += _intervals(["", *(interval(table, name) for name in metric.shown)])
    return found


def _intervals(cells: list[str]) -> list[list[str]]:
    """The row under one of percentiles; none where nothing is to be said."""
    return [[INTERVAL, *cells]] if any(cells) else []


def without_values(metrics: Mapping[str, Any]) -> str:
    """The metrics that `rows` leaves out, in one line; empty where there are none."""
    labels = [
        f"{metric.label} ({metric.unit})" if metric.higher_is_better else metric.label
        for metric in METRICS
        if not metrics[metric.json_name]["n"] and not metric.name.endswith("_response") and metric.of_pace is None
    ]
    return f"no values: {', '.join(labels)}" if labels else ""


def rate_label(metric: Metric) -> str:
    """The name of a rate in a table of tokens a second: what counts something else says what."""
    return metric.label if metric.unit == RATES else f"{metric.label}, {metric.unit}"


def trimmed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Table, str]:
    """A table without the columns in which no row has a figure, and what to say of those that need more data."""
    columns = list(zip(*rows, strict=True)) or [("0",)] * len(head)
    kept = [at for at, column in enumerate(columns) if not all(map(_is_none, column))]
    short: dict[str, str] = {}
    for at in sorted({*range(len(head))} - {*kept}):
        needs = [cell.removeprefix(NEEDS).partition(",")[0] for cell in columns[at] if cell.startswith(NEEDS)]
        if needs:
            short.setdefault(head[at], min(needs, key=int))
    note = "; ".join(f"{name} needs at least {least} independent values" for name, least in short.items())
    return ([head[at] for at in kept], [[row[at] for at in kept] for row in rows]), note


def _is_none(cell: str) -> bool:
    return cell in (MISSING, "") or cell.startswith((NEEDS, HAS))


def shown(*, rates: bool) -> tuple[str, ...]:
    """The percentiles in the head of such a table."""
    return next(metric.shown for metric in METRICS if metric.higher_is_better == rates)


def slice_rows(found: Mapping[str, Any]) -> tuple[list[tuple[str, ...]], str]:
    """One row for each value of a slice, under `SLICE_HEAD` with the slice's name before it.

    Rows without one figure are left out: the other text says how many. A run of many tags has hundreds of them.
    """
    rows: list[tuple[str, ...]] = [
        (
            f"{value}{THIN}" if part["thin"] else value,
            count(part["outcomes"]["ok"]),
            percentile(part["metrics"]["ttft_ms"], "p50"),
            percentile(part["metrics"]["e2e_ms"], "p50"),
            percentile(part["metrics"]["generation_tokens_per_s"], "p50"),
        )
        for value, part in found.items()
    ]
    kept = [row for row in rows if not all(map(_is_none, row[2:]))]
    gone = len(rows) - len(kept)
    return kept, f"{count(gone)} of {count(len(rows))} left out: too few answers for a figure" if gone else ""


def step_table(name: str, steps: Sequence[Mapping[str, Any]]) -> Table:
    """What each step of an endpoint delivered; with an SLO the share of good requests, too."""
    with_slo = any(step["endpoints"][name]["good_share"] is not None for step in steps)
    rows = []
    for step in steps:
        found = step["endpoints"][name]
        row = [
            _step(step),
            count(found["outcomes"]["ok"]),
            share(found["error_rate"]),
            number(found["throughput"]["requests_per_s"]),
            times(found["speed_up"]),
            number(found["throughput"]["output_tokens_per_s"]),
        ]
        rows.append([*row, share(found["good_share"])] if with_slo else row)
    return [*STEP_HEAD, GOOD_HEAD] if with_slo else [*STEP_HEAD], rows


def step_times_table(name: str, steps: Sequence[Mapping[str, Any]]) -> Table:
    """How long requests took in each step of an endpoint; in open loops, also from when they were due."""
    from_due = any(step["load"] is not None and step["load"]["shape"]["type"] != "closed" for step in steps)
    rows = []
    for step in steps:
        metrics = step["endpoints"][name]["metrics"]
        wanted = [("ttft_ms", "p50"), ("ttft_ms", "p95"), ("e2e_ms", "p50"), ("e2e_ms", "p95")]
        wanted += [("e2e_response_ms", "p95")] if from_due else []
        rows.append([_step(step), *(percentile(metrics[metric], at) for metric, at in wanted)])
        rows += _intervals([interval(metrics[metric], at) for metric, at in wanted])
    return [*STEP_TIMES_HEAD, FROM_DUE_HEAD] if from_due else [*STEP_TIMES_HEAD], rows


def _step(step: Mapping[str, Any]) -> str:
    return f"{step['index']}: {step['words']}"


def times(value: float | None) -> str:
    """A factor."""
    return MISSING if value is None else f"×{value:.2f}"


def outcomes(found: Mapping[str, int]) -> str:
    """What happened, by number; outcomes that did not occur are left out, `ok` is not."""
    return ", ".join(f"{name} {count(n)}" for name, n in found.items() if n or name == "ok")


def tokens(found: Mapping[str, Any]) -> str:
    """The tokens of `ok` answers and who counted them."""
    parts = [f"{name} {count(found[name])}" for name in ("input", "output", "reasoning", "cached")]
    line = f"{', '.join(parts)} (source: {found['source']})"
    if not found["reference"]:
        return line
    each, own = found["reference_per_own"], ""
    if each is not None:
        own = f", {number(each)} for each of its own"
    return f"{line}; visible text in o200k_base {count(found['reference'])}{own}"


def throughput(found: Mapping[str, Any]) -> str:
    """What arrived inside the measured window."""
    return f"{number(found['requests_per_s'])} requests/s, {number(found['output_tokens_per_s'])} output tokens/s"


def cost(found: Mapping[str, Any]) -> str:
    """What the measured phase cost, and for how much of it that is known."""
    whole, one, by_tokens = (_usd(found[name]) for name in ("usd", "usd_per_ok_request", "usd_per_1k_tokens"))
    line = f"{whole} USD, {one} a request that was ok, {by_tokens} per 1,000 tokens"
    if found["usd_per_1k_good"] is not None:
        line += f", {_usd(found['usd_per_1k_good'])} per 1,000 good requests"
    if found["usd_per_completed_task"] != found["usd_per_ok_request"]:
        line += f", {_usd(found['usd_per_completed_task'])} a completed task"
    if found["known"] not in (None, 1):
        line += f"; tokens are known of {share(found['known'])} of ok requests"
    if found["unbilled_unknown"]:
        line += f"; not in it: requests of unknown tokens that may be billed, {count(found['unbilled_unknown'])}"
    return line


def _usd(value: float | None) -> str:
    """Dollars with what digits tell small prices apart."""
    if value is None:
        return MISSING
    return f"{value:,.{2 if value >= 10 else 4 if value >= 0.01 else 6}f}"


def slo(endpoint: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """How many requests were good, within what limits, and whether they were enough."""
    goodput = "" if endpoint["throughput"] is None else f"; {number(endpoint['throughput']['goodput_per_s'])} good/s"
    held = ", ".join(_limit(BY_NAME[name], limit) for name, limit in limits.items())
    least = f"{GOOD_SHARE * 100:g} %"
    verdict = {True: f"; held: {least} are enough", False: f"; not held: {least} are needed"}
    good = f"{held}: {count(endpoint['good'])} requests are good, {share(endpoint['good_share'])}{goodput}"
    return good + verdict.get(endpoint["meets_slo"], "")


def _limit(metric: Metric, limit: float) -> str:
    return f"{metric.label} {'at least' if metric.higher_is_better else 'at most'} {_amount(metric, limit)}"


def _amount(metric: Metric, limit: float) -> str:
    """A limit in its metric's unit, but in seconds from one second on: nobody wrote 60000 ms."""
    return f"{limit / 1000:g} s" if metric.unit == "ms" and limit >= 1000 else f"{limit:g} {metric.unit}"


def levels(found: Mapping[str, int | None], steps: Sequence[Mapping[str, Any]]) -> str:
    """The last step that holds the SLO and the first that does not; empty where no step could be judged."""
    words = {step["index"]: f"step {_step(step)}" for step in steps}
    last, first = (found[which] if words else None for which in ("last_within_slo", "first_beyond_slo"))
    if last is None:
        return "" if first is None else f"does not hold the SLO, first at {words[first]}"
    if first is None:
        return f"holds the SLO up to {words[last]}, the last one"
    if last < first:
        return f"holds the SLO up to {words[last]}; not at {words[first]}"
    return f"holds the SLO, last at {words[last]}; but not at {words[first]}"


def lead(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures that lead an endpoint's block, one line each."""
    return [_lead_of_metric(one) if "percentiles" in one else _lead_of_run(one) for one in found]


def _lead_of_metric(found: Mapping[str, Any]) -> str:
    metric = BY_NAME[found["name"]]
    table = {**found["percentiles"], "n": found["n"], "need": found["need"], "ci95": found["ci95"]}
    figures = ", ".join(f"{name} {_with_unit(metric, table, name)}" for name in found["percentiles"])
    if found["limit"] is None:
        return f"{metric.label} {figures}"
    least = "at least " if metric.higher_is_better else ""
    return f"{metric.label} {figures} (limit {least}{_amount(metric, found['limit'])})"


def _with_unit(metric: Metric, table: Mapping[str, Any], name: str) -> str:
    """`255.7 ms (243–271)`."""
    if table[name] is None:
        return with_interval(table, name)
    found = interval(table, name)
    return f"{number(table[name])} {metric.unit}" + (f" ({found})" if found else "")


def _lead_of_run(found: Mapping[str, Any]) -> str:
    if found["unit"] == SHARE:
        return f"{found['label']} {share(found['value'])}"
    value = _usd(found["value"]) if found["unit"].startswith("USD") else number(found["value"])
    return f"{found['label']} {value} {found['unit']}"


def warning(found: Mapping[str, Any]) -> str:
    """One warning about intervals: figure, limit, where, advice. Of many metrics only their number is said."""
    labels = list(dict.fromkeys(BY_NAME[name].label for name in found["where"]))
    percentiles = ", ".join(dict.fromkeys(name for names in found["where"].values() for name in names))
    where = ", ".join(labels) if len(labels) < 3 else f"{len(found['where'])} metrics"
    return f"{reason({**found, 'advice': ''})}: {percentiles} of {where}: {found['advice']}"


def repeats(found: Mapping[str, Any]) -> str:
    """The parts of the spread of each metric: `×1.10` is a standard deviation of 10 %."""
    parts = [
        f"{BY_NAME[name].label} {times(part['within'])} within a prompt, {times(part['between'])} between"
        f" ({share(part['share_between'])} of the variance is the prompts')"
        for name, part in found["metrics"].items()
        if part["within"] is not None
    ]
    return f"{count(found['repeat'])} times; spread of {'; '.join(parts) or 'nothing: too few answers'}"


def sessions(found: Mapping[str, Any]) -> str:
    """How many conversations were completed, and how long they took."""
    cells = ", ".join(f"{name} {percentile(found['duration_s'], name)}" for name in ("p50", "p95"))
    return (
        f"{count(found['planned'])}, completed {share(found['completion_rate'])} ({outcomes(found['outcomes'])});"
        f" duration in s {cells}; {count(found['turns_ok'])} turns ok"
    )


def tool_loop(found: Mapping[str, Any]) -> str:
    """How many tool loops came to an answer, in how many round trips and calls, and how long that took."""
    cells = ", ".join(f"{name} {percentile(found['total_s'], name)}" for name in ("p50", "p95"))
    trips, calls = (number(found[name]["mean"]) for name in ("round_trips", "calls_per_turn"))
    return (
        f"{count(found['planned'])}, answered {share(found['completion_rate'])} ({outcomes(found['outcomes'])});"
        f" {trips} round trips each, {calls} calls a turn; total in s {cells}"
    )


def tool_loop_times(found: Mapping[str, Any]) -> str:
    """Where the time of tool loops went, and what executing calls at the same time is worth."""
    parts = ", ".join(f"{name} {share(part)}" for name, part in found["share"].items())
    parallel, sequential = (number(found[name]["mean"]) for name in ("critical_path_s", "sequential_s"))
    how = "in parallel" if found["execution"] == "parallel" else "in sequence"
    return (
        f"{parts}, calls executed {how}; on average its critical path is {parallel} s, and {sequential} s with all"
        f" calls in sequence: in parallel it is {times(found['speed_up'])} as fast"
    )


def reasons(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(severity, line) of each reason, the gravest first; but before all that a run never ended."""
    ordered = sorted(found, key=lambda one: one["code"] != "unfinished")
    return [(one["severity"], reason(one)) for one in ordered]


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


def warmup_errors(warmup: Mapping[str, Any]) -> list[str]:
    """The commonest failures of the warm-up, a line each, with the endpoint's name."""
    return [f"{found['endpoint']}: {error(found)}" for found in warmup["errors"][:SHOWN_ERRORS]]


def run_line(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    """What was run, when, for how long, how hard."""
    parts = [f"scenario {run['scenario']}", f"started {run['started_at']}", f"{number(run['duration_s'])} s"]
    if len(steps) == 1:
        from_s, to_s = steps[0]["phase_s"]
        parts[-1] += f" ({number(to_s - from_s)} s measured)"
    parts.append(steps[0]["words"] if len(steps) == 1 else f"{len(steps)} steps")
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
