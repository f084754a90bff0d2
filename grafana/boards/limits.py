"""The board of what endpoints refuse."""

from panels import SCOPE, Board, Panel, total

from boards.common import OK, RANGE, REQUESTS, percentiles

HITS = "latbench_rate_limit_hits_total"
LIMITS = Board(
    "latbench-limits",
    "latbench: rate limits",
    "What was refused, what is left, and what was promised against what was measured.",
    (
        (
            "Refusals",
            (
                Panel("Hits by provider and kind", "Attempts that a limit refused, a second.", "reqps",
                      [(total(HITS, "provider, kind"), "{{provider}} {{kind}}")], "stack"),
                Panel("Hits by endpoint, in all", "Over all that is shown.", "short",
                      [(total(HITS, "endpoint, kind", **RANGE), "{{endpoint}} {{kind}}")], "bars"),
                Panel("Waits that were asked for", "By `Retry-After` and its like.", "s",
                      percentiles("latbench_rate_limit_asked_wait_seconds", 0.5, 0.95)),
                Panel("Time waited", "Before trying again (`rate_limits: respect`): seconds of waiting a second.",
                      "short", [(total("latbench_rate_limit_waited_seconds_total"), "{{endpoint}}")]),
            ),
        ),
        (
            "Headroom",
            (
                Panel("Left", "What the latest answer said is left of each limit.", "short",
                      [(f"min by (endpoint, kind) (latbench_rate_limit_remaining{{{SCOPE}}})",
                        "{{endpoint}} {{kind}}")]),
                Panel("Left, as a share of the reported limit", "Both as the latest answer said.", "percentunit",
                      [(f"min by (endpoint, kind) (latbench_rate_limit_remaining{{{SCOPE}}} /"
                        f" latbench_rate_limit_reported{{{SCOPE}}})", "{{endpoint}} {{kind}}")]),
            ),
        ),
        (
            "Promised against measured",
            (
                Panel("Requests a minute",
                      "What the provider promised, what was measured at the end of a run that hit the limit, and what "
                      "was answered.", "short",
                      [(f'max by (endpoint) (latbench_rate_limit_promised{{{SCOPE}, kind="requests"}})',
                        "{{endpoint}} promised"),
                       (f'max by (endpoint) (latbench_rate_limit_ceiling_per_minute{{{SCOPE}, kind="requests"}})',
                        "{{endpoint}} measured"),
                       ("60 * " + total(REQUESTS, more=OK), "{{endpoint}} answered")]),
                Panel("Tokens a minute", "The same for tokens, in and out.", "short",
                      [(f'max by (endpoint) (latbench_rate_limit_promised{{{SCOPE}, kind="tokens"}})',
                        "{{endpoint}} promised"),
                       (f'max by (endpoint) (latbench_rate_limit_ceiling_per_minute{{{SCOPE}, kind=~".*tokens"}})',
                        "{{endpoint}} measured"),
                       ("60 * " + total("latbench_tokens_total", more=', type=~"input|output"'),
                        "{{endpoint}} answered")]),
            ),
        ),
    ),
)  # fmt: skip
