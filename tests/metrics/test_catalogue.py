"""The metrics on samples whose figures are known."""

from typing import Any

import pytest

from latbench.metrics.catalogue import BY_NAME, METRICS, NEED_A_STREAM
from latbench.model.sample import Sample

MS = 1_000_000


def sample(**fields: object) -> Sample:
    stamps: dict[str, Any] = {
        "due_ns": 10 * MS,
        "sent_ns": 30 * MS,
        "first_token_ns": 130 * MS,
        "first_text_ns": 230 * MS,
        "last_token_ns": 1030 * MS,
        "done_ns": 1040 * MS,
        "output_tokens": 10,
        "chunks": 5,
        "text_chars": 40,
        "reference_tokens": 8,
    }
    return Sample("e", 0, 0, "p", "measure", "ok", **(stamps | fields))


def value(name: str, of: Sample) -> float | None:
    compute = BY_NAME[name].of
    assert compute is not None
    return compute(of)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ttft", 100 * MS),
        ("ttft_response", 120 * MS),
        ("time_to_first_text", 200 * MS),
        ("tpot", 100 * MS),
        ("e2e", 1000 * MS),
        ("e2e_response", 1020 * MS),
        ("generation_tokens_per_s", 10.0),
        ("e2e_tokens_per_s", 10.0),
        ("e2e_reference_tokens_per_s", 8.0),
        ("e2e_chars_per_s", 40.0),
    ],
)
def test_each_metric_follows_its_formula(name: str, expected: float) -> None:
    assert value(name, sample()) == expected


def test_e2e_is_ttft_and_tpot_for_each_further_token() -> None:
    one = sample(output_tokens=7)
    ttft, tpot, e2e = value("ttft", one), value("tpot", one), value("e2e", one)
    assert ttft is not None
    assert tpot is not None
    assert e2e == pytest.approx(ttft + tpot * 6)


@pytest.mark.parametrize(
    "fields",
    [
        {"output_tokens": None},
        {"output_tokens": 0},
        {"output_tokens": 1},
        {"reasoning_tokens": 4, "reasoning_streamed": False},
        {"first_token_ns": None},
    ],
)
def test_no_time_per_token_where_it_is_not_defined(fields: dict[str, Any]) -> None:
    assert value("tpot", sample(**fields)) is None
    assert value("generation_tokens_per_s", sample(**fields)) is None


@pytest.mark.parametrize("fields", [{"reasoning_tokens": 4, "reasoning_streamed": True}, {"reasoning_tokens": 0}])
def test_reasoning_that_was_streamed_or_absent_leaves_time_per_token(fields: dict[str, Any]) -> None:
    assert value("tpot", sample(**fields)) == 100 * MS


def test_all_output_in_one_read_has_no_generation_rate() -> None:
    burst = sample(last_token_ns=130 * MS)
    assert value("tpot", burst) == 0
    assert value("generation_tokens_per_s", burst) is None


def test_a_plain_answer_has_its_whole_time_and_nothing_of_its_start() -> None:
    plain = sample(first_token_ns=None)
    assert [value(name, plain) for name in ("ttft", "ttft_response", "time_to_first_text")] == [None] * 3
    assert value("e2e", plain) == 1000 * MS
    assert value("e2e_tokens_per_s", plain) == 10.0


def test_a_request_that_was_never_sent_has_no_metric() -> None:
    dropped = Sample("e", 0, 0, "p", "measure", "dropped", due_ns=5)
    assert [metric.of(dropped) for metric in METRICS if metric.of] == [None] * 10


def test_names_in_json_carry_the_unit() -> None:
    assert [metric.json_name for metric in METRICS] == [
        "ttft_ms",
        "ttft_response_ms",
        "time_to_first_text_ms",
        "tpot_ms",
        "inter_chunk_ms",
        "e2e_ms",
        "e2e_response_ms",
        "generation_tokens_per_s",
        "e2e_tokens_per_s",
        "e2e_reference_tokens_per_s",
        "e2e_chars_per_s",
        "fluidity",
    ]


def test_rates_of_visible_text_need_some() -> None:
    silent = sample(text_chars=0, reference_tokens=None)
    assert value("e2e_chars_per_s", silent) is None
    assert value("e2e_reference_tokens_per_s", silent) is None
    assert value("e2e_tokens_per_s", silent) == 10.0, "reasoning and tool calls are tokens, too"


def test_rates_show_their_slow_tail() -> None:
    assert BY_NAME["e2e_tokens_per_s"].shown == ("p50", "p10", "p5", "p1")
    assert BY_NAME["e2e"].shown == ("p50", "p90", "p95", "p99")
    assert BY_NAME["e2e"].scale == MS
    assert BY_NAME["e2e_tokens_per_s"].scale == 1


def test_a_plain_answer_has_every_metric_but_those_that_need_a_stream() -> None:
    plain = sample(first_token_ns=None, first_text_ns=None)
    missing = {metric.name for metric in METRICS if metric.of is None or metric.of(plain) is None}
    assert missing == NEED_A_STREAM
