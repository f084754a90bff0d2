"""What the boards are made of: selectors, expressions, panels, a board. Every panel is typed by Grafana's SDK.

Expressions are PromQL with Grafana's variables in them; `tests/export/` puts values in their place and asks a real
Prometheus for every one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import barchart, bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    GraphGradientMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SCOPE = ", ".join(f'{label}=~"${label}"' for label in ("scenario", "window", "provider", "endpoint", "model"))
RUN = 'scenario=~"$scenario", window=~"$window"'
RATE = "$__rate_interval"

Kind = Literal["lines", "stack", "stat", "bars", "hours"]


def total(metric: str, by: str = "endpoint", over: str = RATE, more: str = "", how: str = "rate") -> str:
    """The sum of a counter's growth, a second (`rate`) or in all (`increase`), by some labels."""
    return f"sum by ({by}) ({how}({metric}{{{SCOPE}{more}}}[{over}]))"


def quantile(metric: str, q: float, by: str = "endpoint", over: str = RATE, more: str = "", how: str = "rate") -> str:
    """A quantile of a histogram, over all workers and tasks that the variables leave."""
    return f"histogram_quantile({q}, {total(f'{metric}_bucket', f'le, {by}', over, more, how)})"


def share(part: str, whole: str, by: str = "endpoint") -> str:
    """A part of a whole, both counters' growth; nothing where the whole did not grow."""
    return f"{part} / on ({by}) ({whole} > 0)"


@dataclass(frozen=True)
class Panel:
    """A panel: `targets` are pairs of expression and legend. Twelve wide is half a board."""

    title: str
    description: str
    unit: str
    targets: Sequence[tuple[str, str]]
    kind: Kind = "lines"
    width: int = 12
    height: int = 8
    colors: Sequence[tuple[float | None, str]] = ()
    words: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels under a heading."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    since: str = "now-30m"
    refresh: str = "5s"
    texts: Sequence[tuple[str, str, str]] = ()


# --- building ---------------------------------------------------------------------------------------------------------

VARIABLES = ("scenario", "window", "provider", "endpoint", "model")

# Name, color, expression, title. A point that is there now and was not there a moment ago is an event.
ANNOTATIONS = (
    (
        "Run starts",
        "green",
        f"(latbench_run_running{{{RUN}}} == 1) unless (latbench_run_running{{{RUN}}} offset 15s == 1)",
        "{{scenario}} {{window}} starts",
    ),
    ("Step", "blue", f"changes(latbench_run_step{{{RUN}}}[15s]) > 0", "{{scenario}} {{window}}: next step"),
    (
        "Run ends",
        "purple",
        f"latbench_run_ended_timestamp_seconds{{{RUN}}}"
        f" unless (latbench_run_ended_timestamp_seconds{{{RUN}}} offset 15s)",
        "{{scenario}} {{window}} is over",
    ),
    (
        "Model or fingerprint changes",
        "red",
        f"changes(latbench_reported_model_changes_total{{{SCOPE}}}[15s]) > 0",
        "{{endpoint}} reports another model or fingerprint",
    ),
)


def built(board: Board) -> dashboard.Dashboard:
    """The SDK's dashboard; `uid`s and numbers of panels are stable."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["latbench"])
        .editable()
        .refresh(board.refresh)
        .time(board.since, "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink("latbench")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["latbench"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for name in VARIABLES:
        made.with_variable(_variable(name))
    for name, label, value in board.texts:
        option = VariableOption(text=value, value=value, selected=True)
        made.with_variable(dashboard.TextBoxVariable(name).label(label).default_value(value).current(option))
    for name, color, expr, _ in ANNOTATIONS:
        made.annotation(
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).icon_color(color).enable(True).expr(expr)
        )
    number = 0
    for heading, panels in board.rows:
        made.with_row(dashboard.Row(heading).id(number := number + 1))
        for panel in panels:
            made.with_panel(_panel(panel, number := number + 1))
    return made


def finished(encoded: dict[str, Any]) -> dict[str, Any]:
    """The dashboard's JSON with what the SDK has no field for: how often annotations look, and what they say."""
    for annotation, (_, _, _, title) in zip(encoded["annotations"]["list"], ANNOTATIONS, strict=True):
        annotation |= {"step": "5s", "titleFormat": title}
    return encoded


def _variable(name: str) -> dashboard.QueryVariable:
    """A label's values; All is every value and none, as runs without a window have."""
    metric = "latbench_run_info" if name in ("scenario", "window") else "latbench_requests_total"
    every = VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": f"label_values({metric}, {name})", "refId": name, "qryType": 1})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(every)
    )


def _panel(panel: Panel, number: int) -> Any:  # noqa: ANN401  the SDK's panels share no type
    made: Any
    match panel.kind:
        case "stat":
            made = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        case "bars":
            made = (
                bargauge.Panel()
                .orientation(VizOrientation.HORIZONTAL)
                .display_mode(BarGaugeDisplayMode.BASIC)
                .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            )
        case "hours":
            made = (
                barchart.Panel()
                .legend(_legend())
                .with_transformation(DataTransformerConfig(id_val="reduce", options={"reducers": ["mean"]}))
                .with_transformation(DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": "Field"}]}))
            )
        case _:
            made = _lines(stacked=panel.kind == "stack")
    made = (
        made.id(number)
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
    )
    for letter, (expr, legend) in zip("ABCDEFGH", panel.targets, strict=False):
        query = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(expr).legend_format(legend)
        made.with_target(query.instant() if panel.kind == "bars" else query.range())
    if panel.colors:
        steps = [Threshold(value=value, color=color) for value, color in panel.colors]
        made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.words:
        options = {value: ValueMappingResult(text=text, color=color) for value, text, color in panel.words}
        made.mappings([ValueMap(options=options)])
    return made


def _lines(*, stacked: bool) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .min(0)
        .override_by_regexp("^SLO.*", [DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})])
    )
    if stacked:
        made.fill_opacity(40).gradient_mode(GraphGradientMode.NONE)
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return made


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
