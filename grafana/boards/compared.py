"""The board of endpoints side by side."""

from panels import RATE, Board, Panel, quantile, share, total

from boards.common import FAILED, OK, RANGE, REQUESTS, SENT, percentiles


def _by_endpoint(title: str, description: str, unit: str, expr: str) -> Panel:
    return Panel(title, description, unit, [(expr, "{{endpoint}}")], "bars", 8, 7)


def _otel(name: str) -> str:
    return (
        "histogram_quantile(0.95, sum by (le, gen_ai_provider_name, gen_ai_request_model) (rate("
        f'gen_ai_client_operation_{name}_seconds_bucket{{gen_ai_request_model=~"$model"}}[{RATE}])))'
    )


COMPARED = Board(
    "latbench-compared",
    "latbench: endpoints compared",
    "Side by side: the bars are over all of the time that is shown, the lines show when.",
    (
        (
            "Over all that is shown",
            (
                _by_endpoint("TTFT p50", "From sent to the first output.", "s",
                             quantile("latbench_ttft_seconds", 0.5, **RANGE)),
                _by_endpoint("TTFT p95", "The slow tail of it.", "s", quantile("latbench_ttft_seconds", 0.95, **RANGE)),
                _by_endpoint("TPOT p50", "Time for each output token after the first.", "s",
                             quantile("latbench_tpot_seconds", 0.5, **RANGE)),
                _by_endpoint("End to end p95", "From sent to the last output.", "s",
                             quantile("latbench_e2e_seconds", 0.95, **RANGE)),
                _by_endpoint("Error share", "Of what was sent and not cancelled.", "percentunit",
                             share(total(REQUESTS, more=FAILED, **RANGE), total(REQUESTS, more=SENT, **RANGE))),
                _by_endpoint("Within the SLO", "Share of requests that are ok and within every limit.", "percentunit",
                             share(total("latbench_good_requests_total", **RANGE), total(REQUESTS, **RANGE))),
                _by_endpoint("Cost of 1,000 ok requests", "By the price in the scenario.", "currencyUSD",
                             "1000 * " + share(total("latbench_cost_usd_total", **RANGE),
                                               total(REQUESTS, more=OK, **RANGE))),
                _by_endpoint("Requests", "How many each was sent: few requests say little.", "short",
                             total(REQUESTS, more=SENT, **RANGE)),
                _by_endpoint("TTFT within 1 s", "Share of answers that began within a second.", "percentunit",
                             share(total("latbench_ttft_seconds_bucket", more=', le="1.0"', **RANGE),
                                   total("latbench_ttft_seconds_count", **RANGE))),
            ),
        ),
        (
            "When",
            (
                Panel("TTFT p50", "From sent to the first output.", "s", percentiles("latbench_ttft_seconds", 0.5)),
                Panel("TTFT p95", "The slow tail of it.", "s", percentiles("latbench_ttft_seconds", 0.95)),
                Panel("TPOT p50 and p95", "Time for each output token after the first.", "s",
                      percentiles("latbench_tpot_seconds", 0.5, 0.95)),
                Panel("Throughput", "Answers that are ok, a second.", "reqps",
                      [(total(REQUESTS, more=OK), "{{endpoint}}")]),
                Panel("Error share", "Of what was sent and not cancelled.", "percentunit",
                      [(share(total(REQUESTS, more=FAILED), total(REQUESTS, more=SENT)), "{{endpoint}}")]),
                Panel("TTFT p95 by task and endpoint", "Prompts of different tasks differ in length.", "s",
                      [(quantile("latbench_ttft_seconds", 0.95, "endpoint, task"), "{{endpoint}} {{task}}")]),
            ),
        ),
        (
            "By OpenTelemetry's names",
            (
                Panel(
                    "Operation duration p95", "The same requests, failed ones included, beside other GenAI clients.",
                    "s",
                    [(_otel("duration"), "{{gen_ai_provider_name}} {{gen_ai_request_model}}")],
                ),
                Panel(
                    "First chunk and chunks p95",
                    "The first chunk of any kind, one without output included, and the time of each chunk after it.",
                    "s",
                    [
                        (_otel("time_to_first_chunk"), "{{gen_ai_provider_name}} {{gen_ai_request_model}} first"),
                        (_otel("time_per_output_chunk"), "{{gen_ai_provider_name}} {{gen_ai_request_model}} next"),
                    ],
                ),
                Panel(
                    "Tokens of a request, mean", "Input and output tokens, as providers count them.", "short",
                    [(
                        "sum by (gen_ai_request_model, gen_ai_token_type) (rate(gen_ai_client_token_usage_sum"
                        f'{{gen_ai_request_model=~"$model"}}[{RATE}])) / sum by (gen_ai_request_model,'
                        " gen_ai_token_type) (rate(gen_ai_client_token_usage_count"
                        f'{{gen_ai_request_model=~"$model"}}[{RATE}]))',
                        "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                    )],
                ),
            ),
        ),
    ),
)  # fmt: skip
