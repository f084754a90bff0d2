"""The board of windows, and hours of the week."""

from panels import SCOPE, Board, Panel, quantile, share, total

from boards.common import FAILED, RANGE, REQUESTS, SENT


def _in_window(name: str, metric: str, level: float) -> str:
    """A quantile of one window's runs, whatever the window variable says."""
    selector = SCOPE.replace('window=~"$window"', f'window="${name}"')
    return f"histogram_quantile({level}, sum by (le, endpoint) (increase({metric}_bucket{{{selector}}}[$__range])))"


def _ratio(metric: str, level: float) -> str:
    return f"{_in_window('peak', metric, level)} / on (endpoint) {_in_window('offpeak', metric, level)}"


def _by_time(expr: str, label: str, place: str) -> str:
    """An expression, each moment's points labelled with the place of that moment in the day or the week."""
    return f'({expr}) * on () group_left ({label}) count_values("{label}", {place})'


HOURLY = quantile("latbench_ttft_seconds", 0.95, over="1h", how="increase")
HOURLY_ERRORS = share(
    total(REQUESTS, more=FAILED, over="1h", how="increase"), total(REQUESTS, more=SENT, over="1h", how="increase")
)

PEAK = Board(
    "latbench-peak",
    "latbench: peak and off-peak",
    "The same figures by window and by hour of the week. Times are UTC. For the past, write the store's runs into "
    "Prometheus: `latbench export openmetrics`.",
    (
        (
            "By window, over all that is shown",
            (
                Panel("TTFT p95 by window", "Windows are those that runs are labelled with.", "s",
                      [(quantile("latbench_ttft_seconds", 0.95, "endpoint, window", **RANGE),
                        "{{endpoint}} {{window}}")], "bars", 8, 7),
                Panel("TPOT p95 by window", "Time for each output token after the first.", "s",
                      [(quantile("latbench_tpot_seconds", 0.95, "endpoint, window", **RANGE),
                        "{{endpoint}} {{window}}")], "bars", 8, 7),
                Panel("Error share by window", "Of what was sent and not cancelled.", "percentunit",
                      [(share(total(REQUESTS, "endpoint, window", more=FAILED, **RANGE),
                              total(REQUESTS, "endpoint, window", more=SENT, **RANGE), "endpoint, window"),
                        "{{endpoint}} {{window}}")], "bars", 8, 7),
            ),
        ),
        (
            "Peak by off-peak",
            (
                Panel("TTFT p50, ratio", "Above 1: slower at peak. A ratio of few runs says little.", "short",
                      [(_ratio("latbench_ttft_seconds", 0.5), "{{endpoint}}")], "bars", 8, 7),
                Panel("TTFT p95, ratio", "The same for the slow tail.", "short",
                      [(_ratio("latbench_ttft_seconds", 0.95), "{{endpoint}}")], "bars", 8, 7),
                Panel("TPOT p50, ratio", "The same for the time of a token.", "short",
                      [(_ratio("latbench_tpot_seconds", 0.5), "{{endpoint}}")], "bars", 8, 7),
            ),
        ),
        (
            "By the clock",
            (
                Panel("TTFT p95 by hour of the day", "Mean of the hours' p95, 0 to 23, UTC.", "s",
                      [(_by_time(HOURLY, "hour", "hour()"), "{{hour}} {{endpoint}}")], "hours", 24),
                Panel("TTFT p95 by hour of the week",
                      "Mean of the hours' p95. 109 is Monday, 9 o'clock UTC; Sunday is 0.", "s",
                      [(_by_time(HOURLY, "slot", "day_of_week() * 100 + hour()"), "{{slot}} {{endpoint}}")],
                      "hours", 24),
                Panel("Error share by hour of the day", "Mean of the hours' shares, 0 to 23, UTC.", "percentunit",
                      [(_by_time(HOURLY_ERRORS, "hour", "hour()"), "{{hour}} {{endpoint}}")], "hours", 24),
                Panel("TTFT p95, hour by hour", "Over an hour each, as time went on.", "s",
                      [(quantile("latbench_ttft_seconds", 0.95, "endpoint, window", "1h", how="increase"),
                        "{{endpoint}} {{window}}")], "lines", 24),
            ),
        ),
    ),
    since="now-7d",
    refresh="5m",
    texts=(("peak", "Peak window", "peak"), ("offpeak", "Off-peak window", "offpeak")),
)  # fmt: skip
