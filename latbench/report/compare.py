"""A comparison on a terminal, within 80 columns: what differs, what may be claimed, the table, the gate.

The words REGRESSED, IMPROVED, EQUIVALENT and INCONCLUSIVE carry the meaning; colour only repeats them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import msgspec

from latbench.analysis.compare import EQUIVALENT, IMPROVED, INCONCLUSIVE, REGRESSED, Comparison, Row, Share
from latbench.metrics.catalogue import BY_NAME
from latbench.report import figures
from latbench.report.figures import MISSING, count, number, share
from latbench.report.text import COLUMNS, Page

_COLOUR = {REGRESSED: "red", IMPROVED: "green", EQUIVALENT: "green", INCONCLUSIVE: "yellow"}
_HEAD = ("A", "B", "B / A", "95 % interval", "")
_SHOWN_DIFFERENCES = 12
_MOST_CHARS = 60


def render(found: Comparison, out: TextIO, color: bool = False) -> None:
    """Write the comparison."""
    page = Page(COLUMNS, color)
    for letter, side in (("A", found.a), ("B", found.b)):
        page.line(f"{letter}: {_side(side)}", "bold")
    page.line(f"{'descriptive only' if found.claim == 'descriptive' else 'by window'}: {found.caveat}")
    _differences(page, found)
    for name, other in found.endpoints:
        for index, words in found.steps:
            page.blank()
            page.line(f"{name if name == other else f'{name} (A), {other} (B)'}, step {index}: {words}", "bold")
            _figures(page, found, name, index)
    _gate(page, found)
    out.write(page.text())


def document(found: Comparison, fail_on: str | None) -> dict[str, Any]:
    """The comparison as JSON can say it, with what the gate comes to."""
    return {**msgspec.to_builtins(found), "gate": found.gate, "fail_on": fail_on}


def _side(side: Mapping[str, Any]) -> str:
    if "runs" in side:
        runs = len(side["runs"])
        return f"window {side['window']} of {side['scenario']}, {count(runs)} run{'s' * (runs != 1)}"
    window = f", window {side['window']}" if side["window"] is not None else ""
    return f"run {side['id']} ({side['name']}), {side['started_at']}{window}, {side['validity']}"


def _differences(page: Page, found: Comparison) -> None:
    if not found.differences:
        page.line("differs: nothing but the time")
        return
    for one in found.differences[:_SHOWN_DIFFERENCES]:
        word = "NOT COMPARABLE" if one.blocks else "differs"
        page.line(f"{word}: {one.what}: {_cut(one.a)} (A), {_cut(one.b)} (B)", "yellow" if one.blocks else "")
    more = len(found.differences) - _SHOWN_DIFFERENCES
    if more > 0:
        page.line(f"differs: {count(more)} more (--json has them)")
    if found.forced:
        page.line("compared all the same (--force): the figures are of different things", "yellow")


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"


def _figures(page: Page, found: Comparison, name: str, step: int) -> None:
    hidden = _hidden(found)
    rows = [
        row
        for row in found.rows
        if (row.endpoint, row.step) == (name, step) and (row.gate or (row.metric not in hidden and _is_shown(row)))
    ]
    page.line(f"{_counted(found)}: {_numbers(rows)}" if rows else "no values on either side")
    for rates, title in ((False, "ms"), (True, figures.RATES)):
        table = [_row(row) for row in rows if BY_NAME[row.metric].higher_is_better == rates]
        if table:
            page.blank()
            page.table((title, *_HEAD), table)
    page.blank()
    for one in found.shares:
        if (one.endpoint, one.step) == (name, step):
            page.line(_share(one))


def _hidden(found: Comparison) -> set[str]:
    """Metrics that are only in the document. Two models may count tokens differently: then the common unit is shown."""
    other_model = any(one.what.startswith("endpoint ") and one.what.endswith(".model") for one in found.differences)
    return {"e2e_chars_per_s"} if other_model else {"e2e_chars_per_s", "e2e_reference_tokens_per_s"}


def _is_shown(row: Row) -> bool:
    """The middle and the tail; the document has the rest."""
    return row.percentile in ("p50", BY_NAME[row.metric].shown[2]) and (row.a, row.b) != (None, None)


def _counted(found: Comparison) -> str:
    return "windows" if "runs" in found.a else "values"


def _numbers(rows: Sequence[Row]) -> str:
    """How many values there are on each side, of what has the most."""
    most = max((row.n for row in rows), default=(0, 0))
    return f"{count(most[0])} (A), {count(most[1])} (B)"


def _row(row: Row) -> tuple[str, ...]:
    metric = BY_NAME[row.metric]
    name = figures.rate_label(metric) if metric.higher_is_better else metric.label
    label = f"{name} {row.percentile}{' *' if row.gate else ''}"
    ratio = MISSING if row.ratio is None else f"{row.ratio:.3f}"
    return label, number(row.a), number(row.b), ratio, _interval(row), row.verdict


def _interval(row: Row) -> str:
    if row.ci95 is None:
        return MISSING
    low, high = ("?" if end is None else f"{end:.3f}" for end in row.ci95)
    return f"{low} to {high}"


def _share(one: Share) -> str:
    sides = f"{one.what}: {share(one.a)} (A), {share(one.b)} (B)"
    if one.difference is None or one.ci95 is None:
        return f"{sides}; {one.verdict}"
    low, high = (f"{end * 100:+.2f}" for end in one.ci95)
    return f"{sides}, {one.difference * 100:+.2f} points ({low} to {high}); {one.verdict}"


def _gate(page: Page, found: Comparison) -> None:
    page.blank()
    page.line(f"gate (rows with a *, together): {found.gate}", f"bold {_COLOUR[found.gate]}")
    for line in _undecided(found):
        page.line(f"  {line}")
    page.line(
        f"margin {found.margin:g}: REGRESSED and IMPROVED are beyond it, EQUIVALENT is surely within, INCONCLUSIVE is"
        " too little data",
        "dim",
    )


def _undecided(found: Comparison) -> Iterator[str]:
    unit = _counted(found)
    for row in found.rows:
        if row.gate and row.verdict == INCONCLUSIVE:
            need = (
                f"about {count(row.need)} {unit} a side would decide" if row.need else "too close to the margin to tell"
            )
            where = f"{row.endpoint}, step {row.step}: {BY_NAME[row.metric].label} {row.percentile}"
            yield f"{where}: {row.why or need}"
