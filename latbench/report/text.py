"""The summary on a terminal, within 80 columns: the verdict first, then each endpoint.

Whatever an endpoint or a file said is hostile here: `clean` takes out what a terminal would obey, and nothing is ever
parsed as markup. Colour only repeats what a word says.
"""

import io
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latbench.report import client_line, figures, modes, needle, thresholds
from latbench.report.lines import lines, shared

COLUMNS = 80
MAX_CHARS = 300

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", re.DOTALL)
_COLOUR_OF_RESULT = {"pass": "green", "inconclusive": "yellow", "fail": "red"}
_COLOUR = {"valid": "green", "note": "cyan", "suspect": "yellow", "invalid": "red"}


def clean(text: object) -> str:
    """Text from outside on one line, at most `MAX_CHARS` long: no escape sequences, control or direction characters.

    Square brackets stay: they are printed as they are, never read as rich markup.
    """
    plain = " ".join(_ANSI.sub("", str(text)).split())
    kept = "".join(c for c in plain if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
    return kept if len(kept) <= MAX_CHARS else kept[: MAX_CHARS - 1] + "…"


def render(summary: Mapping[str, Any], out: TextIO, color: bool = False, places: Sequence[str] = ()) -> None:
    """Write the summary. `places` says where the store and the run directory are: the last lines."""
    width = max(COLUMNS, shutil.get_terminal_size((COLUMNS, 24)).columns) if out.isatty() else COLUMNS
    page = Page(width, color)
    _verdict(page, summary)
    _thresholds(page, summary["thresholds"])
    page.blank()
    page.line(f"{summary['run']['name']}  run {summary['run']['id']}", "bold")
    page.line(figures.run_line(summary["run"], summary["steps"]))
    for line in client_line.lines(summary["validity"]):
        page.line(line, "dim")
    if resumes := needle.resumes(summary["run"]):
        page.line(resumes)
    for stop in summary["run"]["stops"]:
        page.line(f"stopped: {stop['endpoint']}: {stop['reason']}", "red")
    warmup = summary["validity"]["warmup"]
    if any(warmup["outcomes"].values()):
        page.line(f"warm-up, not counted below: {figures.outcomes(warmup['outcomes'])}")
    for failure in figures.warmup_errors(warmup):
        page.line(f"  {failure}")
    for name, endpoint in summary["endpoints"].items():
        page.blank()
        _endpoint(page, name, endpoint, summary)
    for at, (what, line) in enumerate(needle.pairs(summary)):
        if not at:
            page.blank()
        page.line(f"{what}: {line}")
    _providers(page, summary)
    if page.has_needs or page.has_intervals:
        page.blank()
    if page.has_intervals:
        page.line(figures.INTERVAL_NOTE, "dim")
    if page.has_needs:
        page.line(figures.NEED_NOTE, "dim")
    if places:
        page.blank()
        page.place(places)
    out.write(page.text())


class Page:
    """Lines and tables of one report; rich draws them, trailing blanks are cut."""

    def __init__(self, width: int, color: bool) -> None:
        self._buffer = io.StringIO()
        self._width = width
        self._console = Console(
            file=self._buffer,
            width=width,
            height=24,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )
        self.has_needs = self.has_intervals = False

    def blank(self) -> None:
        self._console.print()

    def line(self, text: str, style: str = "") -> None:
        """One line of the page, wrapped with a hanging indent."""
        for part in textwrap.wrap(clean(text), self._width, subsequent_indent="    "):
            self._console.print(Text(part, style))

    def place(self, places: Sequence[str]) -> None:
        """One line a place, not wrapped, so that paths can be copied."""
        for place in places:
            self._console.print(Text(clean(place)), soft_wrap=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table without lines: the first column on the left, figures on the right. Empty columns are left out."""
        (head, rows), note = figures.trimmed(head, rows)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
        for at, title in enumerate(head):
            # Only names may be broken: a figure that is cut is another figure.
            table.add_column(Text(title), justify="right" if at else "left", no_wrap=at > 0, overflow="fold")
        for row in rows:
            self.has_needs |= any(cell.startswith(figures.NEEDS) for cell in row[1:])
            self.has_intervals |= row[0] == figures.INTERVAL
            indent = row[0][: len(row[0]) - len(row[0].lstrip())]
            table.add_row(Text(indent + clean(row[0])), *(Text(clean(cell)) for cell in row[1:]))
        self._console.print(table)
        if note:
            self.line(note, "dim")

    def text(self) -> str:
        return "".join(f"{line.rstrip()}\n" for line in self._buffer.getvalue().splitlines())


def _verdict(page: Page, summary: Mapping[str, Any]) -> None:
    found = summary["validity"]
    page.line(f"verdict: {found['verdict']}", f"bold {_COLOUR[found['verdict']]}")
    for severity, line in figures.reasons(found["reasons"]):
        page.line(f"{severity}: {line}", _COLOUR[severity])


def _thresholds(page: Page, found: Sequence[Mapping[str, Any]]) -> None:
    if found:
        page.line(f"thresholds: {thresholds.tally(found)}", f"bold {_COLOUR_OF_RESULT[thresholds.worst(found)]}")
    for result, line in thresholds.lines(found):
        page.line(f"  {result}: {line}", _COLOUR_OF_RESULT[result])


def _endpoint(page: Page, name: str, endpoint: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    page.line(f"{name}  ({figures.identity(endpoint)})", "bold")
    for line in figures.lead(endpoint["lead"]):
        page.line(line, "bold")
    page.line(f"{figures.outcomes(endpoint['outcomes'])}; error rate {figures.share(endpoint['error_rate'])}")
    for found in endpoint["errors"]:
        page.line(f"  {figures.error(found)}")
    if endpoint["empty"]:
        page.line(f"empty answers among ok: {figures.count(endpoint['empty'])}")
    if figures.other_models(endpoint):
        page.line(f"answered by: {figures.other_models(endpoint)}")
    many = endpoint["metrics"] is None
    for what, line in lines(name, endpoint, summary, every_step=summary["steps"] if many else ()):
        page.line(f"{what}: {line}")
    if many:
        for head, rows in (
            figures.step_table(name, summary["steps"]),
            figures.step_times_table(name, summary["steps"]),
        ):
            page.blank()
            page.table(head, rows)
    for step, found in needle.blocks(name, summary):
        _needle(page, found, step)
    if many:
        return
    _metrics(page, endpoint)
    if endpoint["modes"] is not None:
        page.blank()
        page.table(modes.HEAD, modes.rows(endpoint["modes"]))
    slices = [
        _slices(page, f"by {kind}", endpoint[f"by_{kind}"] or {})
        for kind in needle.shown_slices(("turn", "task"), endpoint)
    ]
    if any(row[0].endswith(figures.THIN) for rows in slices for row in rows):
        page.line(figures.THIN_NOTE, "dim")


def _needle(page: Page, found: Mapping[str, Any], step: str = "") -> None:
    """Needle trials, before the latency of all requests."""
    for title, rows in needle.tables(found, step):
        page.blank()
        page.line(title, "bold")
        page.table(needle.HEAD, rows)
    page.line(needle.UNITS, "dim")
    for what, line in needle.lines(found):
        page.line(f"{what}: {line}")


def _metrics(page: Page, endpoint: Mapping[str, Any]) -> None:
    metrics = endpoint["metrics"]
    for rates, title in ((False, "ms"), (True, "tokens/s, slow tail")):
        rows = figures.metric_table(metrics, rates=rates)
        if rows:
            page.blank()
            page.table((title, "n", *figures.shown(rates=rates)), rows)
    if missing := figures.without_values(metrics):
        page.line(missing, "dim")
    for warning in endpoint["warnings"]:
        page.line(figures.warning(warning), "dim")


def _slices(page: Page, title: str, found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One kind of slice; its rows."""
    rows, note = figures.slice_rows(found)
    if rows or note:
        page.blank()
    if rows:
        page.table((title, *figures.SLICE_HEAD), rows)
    if note:
        page.line(f"{title}: {note}", "dim")
    return rows


def _providers(page: Page, summary: Mapping[str, Any]) -> None:
    found = [*shared(summary)]
    if found:
        page.blank()
    for provider, what, line in found:
        page.line(f"{what}, {provider}: {line}", "yellow")
