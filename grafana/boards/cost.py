"""The board of what it costs."""

from panels import SCOPE, Board, Panel, share, total

from boards.common import OK, RANGE, REQUESTS

USD = "latbench_cost_usd_total"
COST = Board(
    "latbench-cost",
    "latbench: cost",
    "By the prices in the scenario, for requests whose tokens are known. A provider's bill may be higher.",
    (
        (
            "Over all that is shown",
            (
                Panel("Spent", "US dollars, by the price of each endpoint.", "currencyUSD",
                      [(total(USD, **RANGE), "{{endpoint}}")], "bars", 6, 7),
                Panel("1,000 ok requests", "All that was spent by what was answered.", "currencyUSD",
                      [("1000 * " + share(total(USD, **RANGE), total(REQUESTS, more=OK, **RANGE)), "{{endpoint}}")],
                      "bars", 6, 7),
                Panel("1,000 good requests", "The same by what was answered within the SLO.", "currencyUSD",
                      [("1000 * " + share(total(USD, **RANGE), total("latbench_good_requests_total", **RANGE)),
                        "{{endpoint}}")], "bars", 6, 7),
                Panel("A million output tokens", "All that was spent, input included.", "currencyUSD",
                      [("1e6 * " + share(total(USD, **RANGE),
                                         total("latbench_tokens_total", more=', type="output"', **RANGE)),
                        "{{endpoint}}")], "bars", 6, 7),
            ),
        ),
        (
            "When",
            (
                Panel("Dollars an hour", "At the pace of the moment.", "currencyUSD",
                      [("3600 * " + total(USD), "{{endpoint}}")]),
                Panel("Spent, in all", "Since the exporter was started.", "currencyUSD",
                      [(f"sum by (endpoint) ({USD}{{{SCOPE}}})", "{{endpoint}}")]),
                Panel("Tokens by type", "A second. Cached is part of input, reasoning part of output.", "short",
                      [(total("latbench_tokens_total", "type"), "{{type}}")]),
                Panel("Cached share of input", "Cached input is cheaper where the scenario says so.", "percentunit",
                      [(share(total("latbench_tokens_total", more=', type="cached"'),
                              total("latbench_tokens_total", more=', type="input"')), "{{endpoint}}")]),
            ),
        ),
    ),
    since="now-24h",
    refresh="1m",
)  # fmt: skip
