"""Draws main panels of the boards from what a Prometheus holds, as SVG: lines over time, or bars of the last values.

This is not Grafana: it asks the expressions of the boards' JSON as Grafana would and draws the answers, so that a
reader of the documents sees what the boards show. `make observe` starts everything; `grafana/observe.py --once FOLDER`
draws.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

DASHBOARDS = Path(__file__).parent / "dashboards"
LIVE_RUN = (
    ("live", "Planned and actual rate"),
    ("live", "In flight over time"),
    ("live", "TTFT"),
    ("live", "TPOT"),
    ("live", "Outcomes"),
    ("live", "Error share"),
    ("live", "Client lag"),
    ("limits", "Hits by provider and kind"),
    ("limits", "Requests a minute"),
    ("cost", "Spent, in all"),
)
OTHER_BOARDS = (
    ("compared", "TTFT p95"),
    ("compared", "Within the SLO"),
    ("peak", "TTFT p95 by window"),
    ("peak", "TTFT p50, ratio"),
    ("cost", "1,000 ok requests"),
    ("cost", "A million output tokens"),
    ("long-context", "Accuracy by length"),
    ("long-context", "Accuracy by depth: at least"),
    ("long-context", "Effective context by other rules"),
    ("long-context", "TTFT by length"),
)
"""Pairs of board and title of a panel. Of panels with the same title the first one is drawn."""
COLORS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666")
WIDE, HIGH = 560, 240
LEFT, TOP, RIGHT, BOTTOM = 62, 34, 16, 62
BAR, BARS_LEFT = 20, 236
UNITS = {"s": " s", "reqps": "/s", "percentunit": " %", "currencyUSD": " USD"}
PLACED = {"__rate_interval": "10s", "peak": "peak", "offpeak": "offpeak"}


@dataclass(frozen=True)
class Line:
    """A series and its legend: points of time and value, one of them for a bar."""

    legend: str
    points: list[tuple[float, float]]


def draw(prometheus: str, shown: Sequence[tuple[str, str]], start_s: float, end_s: float) -> str:
    """The panels, two beside each other, over the time from start to end."""
    parts, width, height = [], 2 * WIDE, 0
    for left in range(0, len(shown), 2):
        below = 0
        for number, (board, title) in enumerate(shown[left : left + 2]):
            panel = _panel(board, title)
            lines = list(_lines(prometheus, panel, start_s, end_s))
            bars = panel["type"] == "bargauge"
            chart = _bars(panel, lines) if bars else _chart(panel, lines, end_s - start_s)
            parts.append(f'<g transform="translate({number * WIDE},{height})">{chart}</g>')
            below = max(below, TOP + BAR * len(lines) + 20 if bars else HIGH)
        height += below
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(board: str, title: str) -> dict[str, Any]:
    found = json.loads((DASHBOARDS / f"{board}.json").read_text(encoding="utf-8"))
    panel: dict[str, Any] = next(one for one in found["panels"] if one["title"] == title)
    return panel


def _lines(prometheus: str, panel: dict[str, Any], start_s: float, end_s: float) -> Iterator[Line]:
    placed = PLACED | {"__range": f"{math.ceil(end_s - start_s)}s"}
    for target in panel["targets"]:
        expr = re.sub(r"\$(\w+)", lambda name: placed.get(name[1], ".*"), target["expr"])
        path, asked = "query_range", {"query": expr, "start": start_s, "end": end_s, "step": 1}
        if target.get("instant"):
            path, asked = "query", {"query": expr, "time": end_s}
        with urlopen(f"{prometheus}/api/v1/{path}?{urlencode(asked)}", timeout=30) as answer:
            for series in json.load(answer)["data"]["result"]:
                told = series["values"] if "values" in series else [series["value"]]
                values = [(float(at) - start_s, float(value)) for at, value in told]
                points = [point for point in values if math.isfinite(point[1])]
                if any(value for _, value in points) or (points and len(panel["targets"]) > 1):
                    yield Line(_legend(target["legendFormat"], series["metric"]), points)


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)


def _heading(panel: dict[str, Any]) -> str:
    return f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{escape(panel["title"])}</text>'


def _said(panel: dict[str, Any], value: float) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return f"{value * 100 if unit == 'percentunit' else value:.3g}{UNITS.get(unit, '')}"


def _bars(panel: dict[str, Any], bars: list[Line]) -> str:
    """A bar for each series, the last value beside it."""
    most = max((bar.points[-1][1] for bar in bars), default=1.0) or 1.0
    parts = [_heading(panel)]
    for number, bar in enumerate(sorted(bars, key=lambda bar: bar.legend)):
        y, value = TOP + BAR * number, bar.points[-1][1]
        middle = f'y="{y + BAR // 2 + 2}"'
        wide = (WIDE - BARS_LEFT - RIGHT - 60) * max(0.0, value) / most
        color = COLORS[number % len(COLORS)]
        parts.append(f'<text x="{BARS_LEFT - 8}" {middle} text-anchor="end">{escape(bar.legend)}</text>')
        parts.append(f'<rect x="{BARS_LEFT}" y="{y}" width="{wide:.1f}" height="{BAR - 4}" fill="{color}"/>')
        parts.append(f'<text x="{BARS_LEFT + wide + 6:.1f}" {middle} fill="#555">{_said(panel, value)}</text>')
    return "".join(parts)


def _chart(panel: dict[str, Any], lines: list[Line], span_s: float) -> str:
    most = _round_up(max((value for line in lines for _, value in line.points), default=1.0) or 1.0)
    width, height = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
    parts = [_heading(panel)]
    for tick in range(5):
        y, value = TOP + height - height * tick / 4, most * tick / 4
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{_said(panel, value)}</text>')
    step = next(one for one in (5, 10, 15, 30, 60, 120, 300, 600, 3600, 86400) if span_s / one <= 8)
    for tick in range(int(span_s / step) + 1):
        x = LEFT + width * tick * step / span_s
        label = f"{tick * step} s"
        parts.append(f'<text x="{x:.1f}" y="{TOP + height + 15}" text-anchor="middle" fill="#555">{label}</text>')
    at = [LEFT, TOP + height + 32]
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        for run in _unbroken(line.points):
            path = " ".join(f"{LEFT + width * x / span_s:.1f},{TOP + height * (1 - y / most):.1f}" for x, y in run)
            dash = ' stroke-dasharray="6 4"' if line.legend.startswith("SLO") else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>')
        wide = 24 + 6.4 * len(line.legend)
        if at[0] + wide > WIDE - RIGHT:
            at = [LEFT, at[1] + 14]
        parts.append(f'<rect x="{at[0]}" y="{at[1] - 7}" width="12" height="4" fill="{color}"/>')
        parts.append(f'<text x="{at[0] + 16}" y="{at[1]}">{escape(line.legend)}</text>')
        at[0] += round(wide)
    return "".join(parts)


def _unbroken(points: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Runs of points without a gap of more than two steps between them."""
    run: list[tuple[float, float]] = []
    for point in points:
        if run and point[0] - run[-1][0] > 2.5:
            yield run
            run = []
        run.append(point)
    if run:
        yield run


def _round_up(value: float) -> float:
    """A round number that is not below the value: the top of an axis of four parts."""
    power = 10 ** math.floor(math.log10(value))
    return next(part * power for part in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if part * power >= value * 0.9999)
