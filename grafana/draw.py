"""Draws the main panels of the live board from what a Prometheus holds, as one SVG.

This is not Grafana: it asks the expressions of the boards' JSON as Grafana would and draws lines, so that a reader of
the documents sees what the boards show. `make observe` starts everything; `grafana/observe.py --once FILE` draws.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

DASHBOARDS = Path(__file__).parent / "dashboards"
SHOWN = (
    ("live", "Planned and actual rate"),
    ("live", "In flight over time"),
    ("live", "TTFT"),
    ("live", "TPOT"),
    ("live", "Outcomes"),
    ("live", "Error share"),
    ("limits", "Hits by provider and kind"),
    ("cost", "Spent, in all"),
)
COLORS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666")
WIDE, HIGH = 560, 240
LEFT, TOP, RIGHT, BOTTOM = 62, 34, 16, 62
UNITS = {"s": " s", "reqps": "/s", "percentunit": "", "currencyUSD": " USD", "short": "", "none": ""}


@dataclass(frozen=True)
class Line:
    """A series and its legend: points of time and value."""

    legend: str
    points: list[tuple[float, float]]


def draw(prometheus: str, start_s: float, end_s: float) -> str:
    """The panels, two beside each other, over the time from start to end."""
    parts = []
    for number, (board, title) in enumerate(SHOWN):
        panel = _panel(board, title)
        lines = list(_lines(prometheus, panel, start_s, end_s))
        x, y = number % 2 * WIDE, number // 2 * HIGH
        parts.append(f'<g transform="translate({x},{y})">{_chart(panel, lines, end_s - start_s)}</g>')
    width, height = 2 * WIDE, math.ceil(len(SHOWN) / 2) * HIGH
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
    for target in panel["targets"]:
        expr = target["expr"].replace("$__rate_interval", "10s").replace("$__range", f"{math.ceil(end_s - start_s)}s")
        expr = re.sub(r"\$\w+", ".*", expr)
        query = urlencode({"query": expr, "start": start_s, "end": end_s, "step": 1})
        with urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as answer:
            for series in json.load(answer)["data"]["result"]:
                values = [(float(at) - start_s, float(value)) for at, value in series["values"]]
                points = [point for point in values if math.isfinite(point[1])]
                if any(value for _, value in points) or len(panel["targets"]) > 1:
                    yield Line(_legend(target["legendFormat"], series["metric"]), points)


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)


def _chart(panel: dict[str, Any], lines: list[Line], span_s: float) -> str:
    unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], "")
    most = _round_up(max((value for line in lines for _, value in line.points), default=1.0) or 1.0)
    width, height = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
    parts = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{escape(panel["title"])}</text>']
    for tick in range(5):
        y, value = TOP + height - height * tick / 4, most * tick / 4
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:g}{unit}</text>')
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
