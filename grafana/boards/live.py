"""The board of what is happening now."""

from panels import RATE, RUN, SCOPE, Board, Panel, quantile, share, total

from boards.common import FAILED, OK, REQUESTS, SENT, VERDICT, percentiles, slo

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
                    [*percentiles("latbench_ttft_seconds", 0.5, 0.95, 0.99), slo("ttft")],
                ),
                Panel(
                    "TPOT", "Time for each output token after the first.", "s",
                    [*percentiles("latbench_tpot_seconds", 0.5, 0.95, 0.99), slo("tpot")],
                ),
                Panel(
                    "End to end", "From sent to the last output.", "s",
                    percentiles("latbench_e2e_seconds", 0.5, 0.95),
                ),
                Panel(
                    "Gaps between chunks", "A chunk is not a token.", "s",
                    percentiles("latbench_inter_chunk_seconds", 0.5, 0.99),
                ),
                Panel(
                    "TTFT from due",
                    "The same from the moment a request was due: what a user waits whose request could not be sent in "
                    "time. Equal to TTFT in a closed loop.",
                    "s",
                    [*percentiles("latbench_ttft_response_seconds", 0.5, 0.95)],
                ),
                Panel(
                    "TTFT p95 by task", "Prompts of different tasks differ in length.", "s",
                    percentiles("latbench_ttft_seconds", 0.95, by="task"),
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
