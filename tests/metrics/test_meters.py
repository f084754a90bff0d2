"""Samples become series: the same as the summary says, by any number of workers, and no more than were declared."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.analysis.summary import summarise
from latbench.metrics import series
from latbench.metrics.distribution import Distribution
from latbench.metrics.meters import _LONG, Meters
from latbench.metrics.series import LIMIT_KINDS, REFUSALS, SERIES, Snapshot
from latbench.model.load import Poisson, Step
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Attempt, Outcome, Sample, encode_gaps
from latbench.providers.headroom import KINDS

SECOND = 1_000_000_000
SCOPE = ("chat", "", "acme", "a", "m")


def record(**more: object) -> RunRecord:
    about = {
        "endpoints": {"a": {"provider": "acme", "api": "openai-chat", "model": "m"}},
        "scenario": {"endpoints": [{"name": "a"}]},
        "steps": [
            StepRecord(0, "poisson", None, 1.0, None, 0, 0, 100 * SECOND, Step(Poisson(1.0), None, 100 * SECOND))
        ],
        "prices": {"a": {"input": 3.0, "output": 15.0, "cached_input": 0.3}},
        "state": "complete",
    }
    return RunRecord("id", "n", "chat", "h", started_at="2026-11-02T09:00:00Z", workers=1, seed=0, **(about | more))


def sample(seq: int, outcome: str = "ok", **more: object) -> Sample:
    """An answer of three chunks: TTFT 100 ms, TPOT 20 ms."""
    due = seq * 1_000_000
    stamps = {
        "due_ns": due,
        "sent_ns": due + 2_000,
        "first_byte_ns": due + 90_002_000,
        "first_token_ns": due + 100_002_000,
        "first_text_ns": due + 100_002_000,
        "last_token_ns": due + 140_002_000,
        "done_ns": due + 141_000_000,
    }
    told = {
        "chunks": 3,
        "gaps": encode_gaps(np.asarray([0, 20_000_000, 40_000_000])),
        "input_tokens": 100,
        "output_tokens": 3,
        "cached_tokens": 40,
        "token_source": "usage",
        "model": "m-1",
    }
    return Sample("a", 0, seq, "p", "measure", outcome, **{**stamps, **told, **more})


def meters(run: RunRecord | None = None, expected: tuple[str, ...] = ()) -> Meters:
    made = Meters(run or record(), {"p": "review", "q": "debug"}, expected)
    made.open_steps.add(0)
    return made


def snapshot(of: Meters) -> Snapshot:
    found = Snapshot()
    of.into(found)
    return found


def test_one_answer() -> None:
    one = meters()
    one.add([sample(1)])
    found = snapshot(one).points
    ttft = found[series.TTFT][*SCOPE, "review"]
    assert isinstance(ttft, Distribution)
    assert (ttft.n, ttft.sum) == (1, 100_000_000)
    assert dict(ttft.cumulative())[0.1] == 1
    assert dict(ttft.cumulative())[0.075] == 0
    gaps = found[series.INTER_CHUNK][SCOPE]
    assert isinstance(gaps, Distribution)
    assert (gaps.n, gaps.sum) == (2, 40_000_000)
    assert found[series.TOKENS][*SCOPE, "review", "output"] == 3
    assert found[series.COST][SCOPE] == pytest.approx((60 * 3 + 40 * 0.3 + 3 * 15) / 1e6)
    late = found[series.LATE]["chat", ""]
    assert isinstance(late, Distribution)
    assert late.sum == 2_000
    first = found[series.OTEL_FIRST]["chat", "acme", "m"]
    assert isinstance(first, Distribution)
    assert first.sum == 90_000_000


def test_what_comes_twice_or_has_only_begun_counts_once_or_not() -> None:
    one = meters()
    one.add([sample(1, "lost"), sample(1), sample(1), sample(5000)])
    assert one.outcomes["measure", "a"] == {"ok": 2}
    one.add_lost("a", 3)
    one.add_lost("a", 0)
    assert one.outcomes["measure", "a"] == {"ok": 2, "lost": 3}


def test_the_warm_up_is_counted_apart() -> None:
    one = meters()
    one.add([Sample("a", 0, 1, "p", "warmup", "ok", sent_ns=1, done_ns=2)])
    found = snapshot(one).points
    assert found[series.WARMUP] == {(*SCOPE, "ok"): 1}
    assert series.REQUESTS not in found


def test_what_is_expected_is_there_from_the_start_at_nothing() -> None:
    found = snapshot(meters(expected=("review", "unheard"))).points
    assert found[series.REQUESTS][*SCOPE, "review", "ok"] == 0
    assert (*SCOPE, "other", "ok") in found[series.REQUESTS]
    empty = found[series.TTFT][*SCOPE, "review"]
    assert isinstance(empty, Distribution)
    assert empty.n == 0
    assert found[series.HITS] == {(*SCOPE, kind): 0 for kind in REFUSALS}


def test_refusals_are_counted_by_attempt() -> None:
    tries = [Attempt(0, 1, 2, "rate_limited", 429, "tokens", None, 2 * SECOND), Attempt(0, 3, 4, "overloaded", 503)]
    one = meters()
    one.add([sample(1, tries=tries, waited_ns=3 * SECOND), sample(2, "rate_limited", kind="made up", wait_ns=SECOND)])
    found = snapshot(one).points
    assert found[series.HITS][*SCOPE, "tokens"] == 1
    assert found[series.HITS][*SCOPE, "unknown"] == 1
    assert found[series.WAITED][SCOPE] == 3.0
    asked = found[series.ASKED_WAIT][SCOPE]
    assert isinstance(asked, Distribution)
    assert asked.total == 3.0


def test_headroom_is_that_of_the_latest_answer() -> None:
    one = meters()
    one.add([sample(2, headroom={"requests": (500, 9, None)}), sample(1, headroom={"requests": (500, 10, None)})])
    one.add([sample(3, headroom={"tokens": (None, 7, None)})])
    found = snapshot(one).points
    assert found[series.REMAINING] == {(*SCOPE, "requests"): 9, (*SCOPE, "tokens"): 7}
    assert found[series.REPORTED] == {(*SCOPE, "requests"): 500}
    assert set(KINDS) <= LIMIT_KINDS


def test_ten_thousand_inventions_make_no_series() -> None:
    def invented(number: int) -> Sample:
        return sample(
            number,
            ("ok", "rate_limited", "http_error")[number % 3],
            model=f"model-{number}",
            fingerprint=f"fp{number}",
            kind=f"kind-{number}",
            error_code=f"code-{number}",
            error_message=f"{number} is no number",
            finish_reason=f"stop-{number}",
            headroom={f"thing-{number}": (1, 1, 1)},
        )

    few, many = meters(), meters()
    few.add(invented(number) for number in range(3))
    many.add(invented(number) for number in range(10_000))
    few_keys, many_keys = ({(one.name, labels) for one, labels, _ in snapshot(of)} for of in (few, many))
    assert few_keys == many_keys
    assert snapshot(many).points[series.MODEL_CHANGES][SCOPE] == 999
    assert not re.search("invented|model-|fp|kind-|thing", str(many_keys))


def test_a_label_has_few_values_whatever_a_prompt_file_says() -> None:
    tasks = {f"p{number}": f"task {number}" for number in range(500)}
    one = Meters(record(), tasks)
    one.add(Sample("a", 0, number, f"p{number}", "measure", "ok", done_ns=1) for number in range(500))
    assert len({labels[5] for labels in snapshot(one).points[series.REQUESTS]}) <= 13


SAMPLES = st.lists(
    st.builds(
        sample,
        st.integers(0, 10**6),
        st.sampled_from([outcome.value for outcome in Outcome]),
        first_token_ns=st.none() | st.integers(10**7, 10**11),
        output_tokens=st.none() | st.integers(0, 100),
    ),
    unique_by=lambda one: one.seq,
    max_size=40,
)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_one_two_and_three_workers_make_the_same_snapshot(samples: list[Sample], chance: random.Random) -> None:
    whole = meters()
    whole.add(samples)
    for workers in (1, 2, 3):
        parts = [meters() for _ in range(workers)]
        for one in samples:
            parts[chance.randrange(workers)].add([one])
        merged = Snapshot()
        for part in parts:
            merged.merge(snapshot(part))
        expected = snapshot(whole)
        for one in (series.REMAINING, series.REPORTED, series.MODEL_CHANGES):  # a moment's, or not a sum
            merged.points.pop(one, None)
            expected.points.pop(one, None)
        for one, points in expected.points.items():
            if one.kind == "histogram":
                assert merged.points[one] == points
            else:
                assert merged.points[one] == pytest.approx(points)


@settings(max_examples=max(10, settings().max_examples // 3))  # a summary takes its time
@given(SAMPLES)
def test_good_requests_and_cost_are_those_of_the_summary(samples: list[Sample]) -> None:
    run = record(slo={"ttft": 90.0, "inter_chunk": 20.0, "e2e_tokens_per_s": 20.0}, planned=len(samples))
    one = meters(run)
    one.add(samples)
    found = snapshot(one).points
    block = summarise(run, [one for one in samples if one.outcome != "lost"], {})["endpoints"]["a"]
    assert sum(found.get(series.GOOD, {}).values()) == block["good"]
    assert found[series.COST][SCOPE] == pytest.approx(block["cost"]["usd"] or 0)
    assert found[series.EMPTY][SCOPE] == block["empty"]


def test_what_was_not_sent_or_is_not_known_is_no_value() -> None:
    one = meters()
    unknown = {"input_tokens": None, "output_tokens": None, "cached_tokens": None, "first_byte_ns": None}
    one.add([sample(1, "dropped", sent_ns=None, done_ns=None, model=None), sample(2, **unknown, gaps=b"")])
    one.add(
        [
            sample(3, reasoning_tokens=1),
            sample(4, "timeout", model=None),
            Sample("stranger", 0, 1, "p", "measure", "ok"),
        ]
    )
    found = snapshot(one).points
    told = found[series.OTEL_FIRST]["chat", "acme", "m"]
    assert isinstance(told, Distribution)
    assert told.n == 1
    assert found[series.TOKENS][*SCOPE, "review", "reasoning"] == 1
    assert found[series.REQUESTS][*SCOPE, "review", "dropped"] == 1
    assert found[series.MODEL_CHANGES][SCOPE] == 0


def test_without_a_price_nothing_costs_anything() -> None:
    one = meters(record(prices={}))
    one.add([sample(1)])
    assert series.COST not in snapshot(one).points


def test_an_endpoint_that_never_streams_is_not_held_to_what_only_a_stream_has() -> None:
    plain = {"endpoints": [{"name": "a", "stream": False}]}
    run = record(slo={"ttft": 90.0}, scenario=plain)
    one = meters(run)
    one.add([sample(1, first_token_ns=None, gaps=b"")])
    assert snapshot(one).points[series.GOOD] == {(*SCOPE, "review"): 1}


@pytest.mark.long
def test_long_arrays_are_counted_before_anybody_asks() -> None:
    one = meters()
    gaps = encode_gaps(np.arange(_LONG + 2) * 1_000_000)
    one.add([sample(number) for number in range(_LONG)])
    one.add([sample(_LONG, gaps=gaps), sample(_LONG + 1, gaps=encode_gaps(np.asarray([0, 5 * SECOND])))])
    found = snapshot(one).points
    ttft, between = found[series.TTFT][*SCOPE, "review"], found[series.INTER_CHUNK][SCOPE]
    assert isinstance(ttft, Distribution)
    assert isinstance(between, Distribution)
    assert ttft.n == _LONG + 2
    assert between.n == 2 * _LONG + _LONG + 1 + 1


def test_declarations() -> None:
    assert len({one.name for one in SERIES}) == len(SERIES)
    for one in SERIES:
        assert one.kind != "counter" or one.name.endswith("_total")
        assert one.kind == "counter" or not one.name.endswith("_total")
        assert re.fullmatch(r"[a-z][a-z0-9_]*", one.name)
        assert one.help.endswith(".")
        assert "_ms" not in one.name


def test_of_gauges_the_later_one_stands_and_counts_add_up() -> None:
    early, late = Snapshot(), Snapshot()
    for of, number in ((early, 1), (late, 2)):
        of.set(series.STEP, ("chat", ""), number)
        of.set(series.COST, SCOPE, number)
        of.set(series.COST, SCOPE, None)
    early.merge(late)
    assert early.points[series.STEP]["chat", ""] == 2
    assert early.points[series.COST][SCOPE] == 3
