"""The summary as `report.md`: the same figures in GitHub's tables, the verdict first.

Everything that came from outside is cleaned of control characters and escaped, so that it shows as text.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from latbench.metrics.catalogue import METRICS, Metric
from latbench.report import client_line, figures, modes, needle, thresholds
from latbench.report.lines import lines, shared
from latbench.report.text import clean

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#])")


def escape(text: object) -> str:
    """Text from outside as markdown that shows it and does nothing."""
    return _SPECIAL.sub(r"\\\1", html.escape(clean(text), quote=False))


def render(summary: Mapping[str, Any], out: TextIO) -> None:
    """Write the report."""
    out.writelines(f"{line}\n" for line in _lines(summary))


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    run, found = summary["run"], summary["validity"]
    yield f"# {escape(run['name'])}"
    yield ""
    yield f"**Verdict: {found['verdict']}**"
    yield ""
    for severity, line in figures.reasons(found["reasons"]):
        yield f"- {severity}: {escape(line)}"
    if found["reasons"]:
        yield ""
    if summary["thresholds"]:
        yield f"**Thresholds: {thresholds.tally(summary['thresholds'])}**"
        yield ""
        yield from _table(thresholds.HEAD, thresholds.rows(summary["thresholds"]), trim=False)
    yield f"Run `{run['id']}`: {escape(figures.run_line(run, summary['steps']))}."
    yield ""
    told = list(client_line.lines(found))
    yield from (f"- {escape(line)}" for line in told)
    if told:
        yield ""
    if resumes := needle.resumes(run):
        yield f"- {escape(resumes)}"
        yield ""
    for stop in run["stops"]:
        yield f"- stopped: {escape(stop['endpoint'])}: {escape(stop['reason'])}"
    if run["stops"]:
        yield ""
    if any(found["warmup"]["outcomes"].values()):
        yield f"Warm-up, not counted below: {escape(figures.outcomes(found['warmup']['outcomes']))}."
        yield ""
    said = [f"- {escape(failure)}" for failure in figures.warmup_errors(found["warmup"])]
    yield from [*said, ""] if said else ()
    for name, endpoint in summary["endpoints"].items():
        yield from _endpoint(name, endpoint, summary)
    told = [f"- {escape(what)}: {escape(line)}" for what, line in needle.pairs(summary)]
    yield from [*told, ""] if told else ()
    yield from _providers(summary)
    yield from _legend()


def _endpoint(name: str, endpoint: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {escape(name)}"
    yield ""
    yield escape(figures.identity(endpoint))
    yield ""
    for line in figures.lead(endpoint["lead"]):
        yield f"- **{escape(line)}**"
    yield f"- outcomes: {escape(figures.outcomes(endpoint['outcomes']))}"
    yield f"- error rate: {figures.share(endpoint['error_rate'])}"
    for found in endpoint["errors"]:
        yield f"  - {escape(figures.error(found))}"
    if endpoint["empty"]:
        yield f"- empty answers among ok: {figures.count(endpoint['empty'])}"
    if figures.other_models(endpoint):
        yield f"- answered by: {escape(figures.other_models(endpoint))}"
    many = endpoint["metrics"] is None
    for what, line in lines(name, endpoint, summary, every_step=summary["steps"] if many else ()):
        yield f"- {escape(what)}: {escape(line)}"
    yield ""
    if many:
        for head, rows in (
            figures.step_table(name, summary["steps"]),
            figures.step_times_table(name, summary["steps"]),
        ):
            yield from _table(head, rows)
    for step, trials in needle.blocks(name, summary):
        yield from _needle(trials, step)
    if many:
        return
    for rates, title in ((False, "ms"), (True, "tokens/s, slow tail")):
        rows = [_metric(metric, table) for metric, table in figures.rows(endpoint["metrics"], rates=rates)]
        if rows:
            yield from _table((title, "n", *figures.shown(rates=rates)), rows)
    if missing := figures.without_values(endpoint["metrics"]):
        yield escape(missing)
        yield ""
    for warning in endpoint["warnings"]:
        yield f"- {escape(figures.warning(warning))}"
    if endpoint["warnings"]:
        yield ""
    if endpoint["modes"] is not None:
        yield from _table(modes.HEAD, modes.rows(endpoint["modes"]))
    for kind in needle.shown_slices(("turn", "task", "language", "tag", "input_length"), endpoint):
        title = f"by {kind.replace('_', ' ')}"
        slices, note = figures.slice_rows(endpoint[f"by_{kind}"] or {})
        if slices:
            yield from _table((title, *figures.SLICE_HEAD), slices)
        if note:
            yield f"{title}: {note}"
            yield ""


def _needle(found: Mapping[str, Any], step: str) -> Iterator[str]:
    for title, rows in needle.tables(found, step):
        yield f"### {escape(title)}"
        yield ""
        yield from _table(needle.HEAD, rows)
    yield escape(needle.UNITS)
    yield ""
    for what, line in needle.lines(found):
        yield f"- {escape(what)}: {escape(line)}"
    yield ""


def _metric(metric: Metric, table: Mapping[str, Any]) -> list[str]:
    """A row of a metric, its intervals behind the percentiles."""
    label = figures.rate_label(metric) if metric.higher_is_better else metric.label
    return [label, figures.count(table["n"]), *(figures.with_interval(table, name) for name in metric.shown)]


def _providers(summary: Mapping[str, Any]) -> Iterator[str]:
    found = [*shared(summary)]
    if found:
        yield "## Rate limits over the endpoints of a provider"
        yield ""
        for provider, what, line in found:
            yield f"- {escape(provider)}: {escape(what)}: {escape(line)}"
        yield ""


def _legend() -> Iterator[str]:
    yield "## What the figures mean"
    yield ""
    for metric in METRICS:
        yield f"- {metric.label} ({metric.unit}): {metric.definition}; {escape(metric.formula)}."
    yield f"- In brackets, or below: {figures.INTERVAL_NOTE}"
    yield f"- {figures.NEED_NOTE}"
    yield f"- {figures.THIN_NOTE}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, trim: bool = True) -> Iterator[str]:
    """A table; with `trim`, without the columns that are empty."""
    (head, rows), note = figures.trimmed(head, rows) if trim else ((list(head), [*map(list, rows)]), "")
    yield f"| {' | '.join(head)} |"
    yield f"|---{'|---:' * (len(head) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(escape(cell) for cell in row)} |"
    yield ""
    if note:
        yield escape(note)
        yield ""
