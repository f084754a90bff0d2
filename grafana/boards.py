"""The boards. One is a list of rows of panels: see `panels.py` for what those are made of.

To add a board, write one more `Board` here and name it in `BOARDS`; `make dashboards` writes its JSON, and the tests
of `tests/export/` check its form and run its expressions.
"""

from panels import RATE, RUN, SCOPE, Board, Panel, quantile, share, total

VERDICT = (("0", "valid", "green"), ("1", "suspect", "orange"), ("2", "INVALID", "red"))
SENT = ', outcome!="dropped"'
OK = ', outcome="ok"'
FAILED = ', outcome!~"ok|dropped|cancelled"'
REQUESTS = "latbench_requests_total"
RANGE = {"over": "$__range", "how": "increase"}


def _percentiles(metric: str, *levels: float, by: str = "endpoint") -> list[tuple[str, str]]:
    return [(quantile(metric, level, by), f"{{{{{by}}}}} p{level * 100:g}") for level in levels]


def _slo(metric: str) -> tuple[str, str]:
    return f'max by (type) (latbench_slo_seconds{{{RUN}, type="{metric}"}})', "SLO limit"


LIVE = Board(
    "latbench-live",
    "latbench: live run",
    "What is happening now: load, latency, errors, and whether the figures can be believed.",
    (
        (
            "Can it be believed?",
            (
                Panel(
                    "Verdict",
                    "Of the run as far as it is known; the last word is said at its end. Suspect and invalid figures "
                    "do not measure what the scenario asks for: the report says why.",
                    "none",
                    [(f"max(latbench_validity_verdict{{{RUN}}})", "verdict")],
                    "stat", 5, 4, ((None, "green"), (1, "orange"), (2, "red")), VERDICT,
                ),
                Panel(
                    "Running", "1 while a run is going on.", "none",
                    [(f"max(latbench_run_running{{{RUN}}})", "running")],
                    "stat", 3, 4, (), (("0", "over", "blue"), ("1", "running", "green")),
                ),
                Panel(
                    "Step", "The step that is under way, of how many.", "none",
                    [(f"max(latbench_run_step{{{RUN}}})", "step"), (f"max(latbench_run_steps{{{RUN}}})", "of")],
                    "stat", 4, 4,
                ),
                Panel(
                    "In flight", "Requests that are unanswered now.", "short",
                    [(f"sum(latbench_requests_in_flight{{{RUN}}})", "in flight")], "stat", 4, 4,
                ),
                Panel(
                    "Engine CPU", "Share of a core that the busiest engine uses. Above 0.85 latbench itself is late.",
                    "percentunit", [(f"max(latbench_engine_cpu_ratio{{{RUN}}})", "busiest engine")],
                    "stat", 4, 4, ((None, "green"), (0.6, "orange"), (0.85, "red")),
                ),
                Panel(
                    "Requests", "Requests of the measured phase so far.", "short",
                    [(f"sum({REQUESTS}{{{SCOPE}}})", "requests")], "stat", 4, 4,
                ),
            ),
        ),
        (
            "Load",
            (
                Panel(
                    "Throughput", "Answers that are ok, a second.", "reqps",
                    [(total(REQUESTS, more=OK), "{{endpoint}}")],
                ),
                Panel(
                    "Planned and actual rate",
                    "What became due and what ended. Where they part, the load is not delivered.",
                    "reqps",
                    [
                        (f"sum(rate(latbench_planned_requests_total{{{SCOPE}}}[{RATE}]))", "planned"),
                        (f"sum(rate({REQUESTS}{{{SCOPE}{SENT}}}[{RATE}]))", "actual"),
                        (f'sum(rate({REQUESTS}{{{SCOPE}, outcome="dropped"}}[{RATE}]))', "dropped"),
                    ],
                ),
                Panel(
                    "Output tokens", "Tokens of ok answers, a second, counted when an answer is complete.", "short",
                    [(total("latbench_tokens_total", more=', type="output"'), "{{endpoint}}")],
                ),
                Panel(
                    "In flight over time", "Requests that were unanswered, over all endpoints.", "short",
                    [(f"sum by (scenario) (latbench_requests_in_flight{{{RUN}}})", "{{scenario}}")],
                ),
                Panel(
                    "What the step asks for",
                    "Requests at a time (closed loop) or requests a second (open loop), to each endpoint.",
                    "short",
                    [
                        (f"max by (scenario) (latbench_step_concurrency{{{RUN}}})", "{{scenario}} at a time"),
                        (f"max by (scenario) (latbench_step_rate_per_second{{{RUN}}})", "{{scenario}} a second"),
                    ],
                ),
                Panel(
                    "Goodput", "Answers within every limit of the SLO, a second. Empty without an SLO.", "reqps",
                    [(total("latbench_good_requests_total"), "{{endpoint}}")],
                ),
                Panel(
                    "Warm-up", "Requests of the warm-up, a second: they enter none of the other panels.", "reqps",
                    [(total("latbench_warmup_requests_total"), "{{endpoint}}")],
                ),
            ),
        ),
        (
            "Latency",
            (
                Panel(
                    "TTFT", "From sent to the first output of any kind.", "s",
                    [*_percentiles("latbench_ttft_seconds", 0.5, 0.95, 0.99), _slo("ttft")],
                ),
                Panel(
                    "TPOT", "Time for each output token after the first.", "s",
                    [*_percentiles("latbench_tpot_seconds", 0.5, 0.95, 0.99), _slo("tpot")],
                ),
                Panel(
                    "End to end", "From sent to the last output.", "s",
                    _percentiles("latbench_e2e_seconds", 0.5, 0.95),
                ),
                Panel(
                    "Gaps between chunks", "A chunk is not a token.", "s",
                    _percentiles("latbench_inter_chunk_seconds", 0.5, 0.99),
                ),
                Panel(
                    "TTFT from due",
                    "The same from the moment a request was due: what a user waits whose request could not be sent in "
                    "time. Equal to TTFT in a closed loop.",
                    "s",
                    [*_percentiles("latbench_ttft_response_seconds", 0.5, 0.95)],
                ),
                Panel(
                    "TTFT p95 by task", "Prompts of different tasks differ in length.", "s",
                    _percentiles("latbench_ttft_seconds", 0.95, by="task"),
                ),
                Panel(
                    "Time to first text and the end, from due",
                    "First visible text from sent, last output from due: p95.",
                    "s",
                    [
                        (quantile("latbench_time_to_first_text_seconds", 0.95), "{{endpoint}} first text"),
                        (quantile("latbench_e2e_response_seconds", 0.95), "{{endpoint}} end, from due"),
                    ],
                ),
            ),
        ),
        (
            "Errors and limits",
            (
                Panel(
                    "Outcomes", "What became of requests, a second.", "reqps",
                    [(total(REQUESTS, "outcome"), "{{outcome}}")], "stack",
                ),
                Panel(
                    "Error share", "Of what was sent and not cancelled, rate limits included.", "percentunit",
                    [(share(total(REQUESTS, more=FAILED), total(REQUESTS, more=SENT)), "{{endpoint}}")],
                ),
                Panel(
                    "Rate-limit hits", "Attempts that a limit refused, a second.", "reqps",
                    [(total("latbench_rate_limit_hits_total", "provider, kind"), "{{provider}} {{kind}}")],
                ),
                Panel(
                    "Odd answers", "Empty ones, and connections that broke and were opened again, in all.", "short",
                    [
                        (f"sum(latbench_empty_answers_total{{{SCOPE}}})", "empty answers"),
                        (f"sum(latbench_reconnects_total{{{SCOPE}}})", "reconnects"),
                        (f"sum(latbench_reported_model_changes_total{{{SCOPE}}})", "model changes"),
                    ],
                ),
            ),
        ),
        (
            "latbench itself",
            (
                Panel(
                    "Send lateness", "How late requests of open loops were sent.", "s",
                    [
                        (
                            f"histogram_quantile({q}, sum by (le) (rate(latbench_send_lateness_seconds_bucket{{{RUN}}}"
                            f"[{RATE}])))",
                            f"p{q * 100:g}",
                        )
                        for q in (0.5, 0.99)
                    ],
                ),
                Panel(
                    "Client lag",
                    "How late latbench saw what had arrived, since the run began: what of the latencies is its own. "
                    "Null test: the same against a stub that knows when it sent, before the run.",
                    "s",
                    [
                        (f"max by (type) (latbench_client_lag_seconds{{{RUN}}})", "lag {{type}}"),
                        (f"max by (type) (latbench_null_test_lag_seconds{{{RUN}}})", "null test, lag {{type}}"),
                        (
                            f"max by (type) (latbench_null_test_ttft_error_seconds{{{RUN}}})",
                            "null test, TTFT error {{type}}",
                        ),
                    ],
                ),
                Panel(
                    "Engine CPU over time", "Share of a core that the busiest engine uses.", "percentunit",
                    [(f"max by (scenario) (latbench_engine_cpu_ratio{{{RUN}}})", "{{scenario}}")],
                ),
                Panel(
                    "Workers", "Workers that have joined.", "short",
                    [(f"max by (scenario) (latbench_workers{{{RUN}}})", "{{scenario}}")],
                ),
            ),
        ),
        (
            "Beside the server's own metrics",
            (
                Panel(
                    "TTFT: client and server, p95",
                    "Where the server is scraped, too. Its TTFT begins when it accepts a request: what lies between "
                    "the lines is network, HTTP and tokenizing.",
                    "s",
                    [
                        (quantile("latbench_ttft_seconds", 0.95), "{{endpoint}}, client"),
                        (
                            "histogram_quantile(0.95, sum by (le, model_name) (rate("
                            f"vllm:time_to_first_token_seconds_bucket[{RATE}])))",
                            "{{model_name}}, vLLM",
                        ),
                        (
                            "histogram_quantile(0.95, sum by (le, model_name) (rate("
                            f"sglang:time_to_first_token_seconds_bucket[{RATE}])))",
                            "{{model_name}}, SGLang",
                        ),
                    ],
                ),
                Panel(
                    "Queues: client and server",
                    "Requests that are unanswered here, and those that wait or run there.",
                    "short",
                    [
                        (f"sum(latbench_requests_in_flight{{{RUN}}})", "in flight, client"),
                        ("sum(vllm:num_requests_waiting)", "waiting, vLLM"),
                        ("sum(vllm:num_requests_running)", "running, vLLM"),
                        ("sum(llamacpp:requests_deferred)", "waiting, llama.cpp"),
                        ("sum(llamacpp:requests_processing)", "running, llama.cpp"),
                        ("sum(sglang:num_queue_reqs)", "waiting, SGLang"),
                    ],
                ),
            ),
        ),
    ),
)  # fmt: skip


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
                Panel("TTFT p50", "From sent to the first output.", "s", _percentiles("latbench_ttft_seconds", 0.5)),
                Panel("TTFT p95", "The slow tail of it.", "s", _percentiles("latbench_ttft_seconds", 0.95)),
                Panel("TPOT p50 and p95", "Time for each output token after the first.", "s",
                      _percentiles("latbench_tpot_seconds", 0.5, 0.95)),
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
                      _percentiles("latbench_rate_limit_asked_wait_seconds", 0.5, 0.95)),
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


def _latest(series: str, by: str, more: str = "", how: str = "max") -> str:
    """What the latest needle run said, however long ago: such runs are rare, and other runs say nothing of needles."""
    return f"{how} by ({by}) (last_over_time(latbench_needle_{series}{{{SCOPE}{more}}}[$__range]))"


def _context(rule: str) -> str:
    return _latest("effective_context_tokens", "endpoint, kind", f', rule="{rule}"')


def _of_depth(series: str, depth: str, by: str = "endpoint, kind, length") -> str:
    return _latest(series, by, f", depth{depth}")


LONG_CONTEXT = Board(
    "latbench-long-context",
    "latbench: long context",
    "What is found in long code, how sure that is, and where it is not. Known when a needle run has ended.",
    (
        (
            "How much can be relied on?",
            (
                Panel(
                    "Effective context, certified",
                    "The longest prompt up to which the lower bound of accuracy is above the threshold at every tested "
                    "length. 0: at none of them; it may be that there were too few trials.",
                    "none",
                    [(_context("certified"), "{{endpoint}} {{kind}}")],
                    "bars",
                ),
                Panel(
                    "Effective context by other rules",
                    "Point: by the accuracy that was measured, however few trials that is. Worst stratum: certified "
                    "wherever in the file the needle stands. Relative: against the model's own without filler.",
                    "none",
                    [
                        (_context("point"), "{{endpoint}} {{kind}} point"),
                        (_context("worst_stratum"), "{{endpoint}} {{kind}} worst stratum"),
                        (_context("relative"), "{{endpoint}} {{kind}} relative"),
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "Accuracy",
            (
                Panel(
                    "Accuracy by length",
                    "Right answers of those that were given, over all depths, with what they prove at least and leave "
                    "possible at most (one-sided 95 %).",
                    "percentunit",
                    [
                        (_of_depth("accuracy_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}}"),
                        (_of_depth("accuracy_lower_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}} at least"),
                        (_of_depth("accuracy_upper_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}} at most"),
                    ],
                    "bars",
                ),
                Panel(
                    "Accuracy by depth: at least",
                    "What the answers prove for each part of the code, by its ends in per cent. Differences between "
                    "parts are chance until the report calls them a dip or a trend.",
                    "percentunit",
                    [
                        (
                            _of_depth("accuracy_lower_ratio", '!="all"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
                Panel(
                    "Accuracy over time",
                    "At the end of each run, over all depths.",
                    "percentunit",
                    [
                        (
                            f'max by (endpoint, kind, length) (latbench_needle_accuracy_ratio{{{SCOPE}, depth="all"}})',
                            "{{endpoint}} {{kind}} {{length}}",
                        )
                    ],
                ),
                Panel(
                    "Accuracy by depth: measured",
                    "The share itself. What it rests on is in the panel beside and in the run's heat maps.",
                    "percentunit",
                    [
                        (
                            _of_depth("accuracy_ratio", '!="all"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "TTFT by length",
                    "Of the trials over all depths: the mean, and p50 and p95 where there were enough of them.",
                    "s",
                    [
                        (
                            _of_depth("ttft_seconds", '="all"', "endpoint, kind, length, type"),
                            "{{endpoint}} {{kind}} {{length}} {{type}}",
                        )
                    ],
                    "bars",
                ),
                Panel(
                    "TTFT by depth",
                    "The mean by the part of the code that the needle stands in. It should not matter; where it does, "
                    "a cache may have been at work.",
                    "s",
                    [
                        (
                            _of_depth("ttft_seconds", '!="all", type="mean"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "What went wrong",
            (
                Panel(
                    "Trials by outcome", "All that ask for something that is there.", "short",
                    [(_latest("trials_total", "outcome", how="sum"), "{{outcome}}")], "bars",
                ),
                Panel(
                    "Trials by outcome and depth", "Where the trials ended how.", "short",
                    [
                        (
                            _latest("trials_total", "depth, outcome", how="sum"),
                            "{{depth}} % {{outcome}}",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
    ),
    since="now-30d",
    refresh="1m",
)  # fmt: skip


BOARDS = (LIVE, COMPARED, PEAK, LIMITS, COST, LONG_CONTEXT)
