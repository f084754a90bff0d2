"""What the loads add to the summary: good requests, levels, cost, sessions, leading figures, turns of endpoints."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.summary import summarise
from latbench.analysis.windows import loaded_ns, window
from latbench.model.load import Closed, Poisson, Sessions, Shape, Step, Trace
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample, encode_gaps
from latbench.model.slices import Slices

S = 1_000_000_000
MS = 1_000_000


def step(index: int = 0, shape: Shape | None = None, **fields: object) -> StepRecord:
    """Sixty measured seconds after ten of warm-up, every hundred seconds."""
    load: Any = fields.pop("load", Step(shape or Closed(4), duration_ns=60 * S, warmup_ns=10 * S))
    start = index * 100 * S
    known: dict[str, Any] = {"measure_from_ns": start + 10 * S, "measure_to_ns": start + 70 * S, "requests": None}
    known |= {"index": index, "shape": load.name, "concurrency": load.concurrency, "rate": load.rate}
    return StepRecord(started_ns=start, load=load, **(known | fields))


def run(*steps: StepRecord, names: tuple[str, ...] = ("a",), **fields: object) -> RunRecord:
    known: dict[str, Any] = {"state": "complete", "steps": list(steps), "endpoints": {name: {} for name in names}}
    known["scenario"] = {"endpoints": [{"name": name} for name in names]}
    known |= {"id": "i", "name": "n", "scenario_name": "s", "scenario_sha256": "h", "started_at": "t"}
    return RunRecord(**(known | {"workers": 1, "seed": 0} | fields))


def ok(
    seq: int = 0, *, at_s: float = 20.0, ttft_ms: int = 100, gaps_ms: tuple[int, ...] = (20,), **fields: Any
) -> Sample:
    due = int(at_s * S)
    stamps = due + np.cumsum([ttft_ms, *gaps_ms]) * MS
    known: dict[str, Any] = {"endpoint": "a", "step": 0, "prompt_id": "p", "phase": "measure", "outcome": "ok"}
    known |= {"due_ns": due, "sent_ns": due, "first_token_ns": int(stamps[0]), "first_text_ns": int(stamps[0])}
    known |= {"last_token_ns": int(stamps[-1]), "done_ns": int(stamps[-1]), "chunks": len(stamps)}
    known |= {"gaps": encode_gaps(stamps), "input_tokens": 50, "output_tokens": 11, "token_source": "usage"}
    return Sample(seq=seq, **(known | fields))


def failed(seq: int, outcome: str, *, at_s: float = 20.0, **fields: Any) -> Sample:
    known: dict[str, Any] = {"endpoint": "a", "step": 0, "prompt_id": "p", "phase": "measure", "due_ns": int(at_s * S)}
    return Sample(seq=seq, outcome=outcome, **(known | fields))


PLAIN: dict[str, Any] = {"first_token_ns": None, "first_text_ns": None, "chunks": 0, "gaps": b""}


@pytest.mark.parametrize(
    ("limits", "answer", "good"),
    [
        ({"ttft": 100.0}, ok(), True),
        ({"ttft": 99.9}, ok(), False),
        ({"ttft": 100.0, "e2e": 119.0}, ok(), False),
        ({"ttft": 100.0, "e2e": 120.0}, ok(), True),
        ({"generation_tokens_per_s": 500.0}, ok(), True),
        ({"generation_tokens_per_s": 501.0}, ok(), False),
        ({"inter_chunk": 30.0}, ok(gaps_ms=(10, 30, 5)), True),
        ({"inter_chunk": 29.0}, ok(gaps_ms=(10, 30, 5)), False),
        ({"inter_chunk": 30.0}, ok(gaps_ms=()), False),
        ({"ttft": 100.0}, ok(**PLAIN), False),
        ({"tpot": 100.0}, ok(output_tokens=None), False),
        ({"ttft": 900.0}, ok(outcome="truncated"), False),
    ],
)
def test_a_request_is_good_within_every_limit_that_it_can_be_held_to(
    limits: dict[str, float], answer: Sample, good: bool
) -> None:
    endpoint = summarise(run(step(), slo=limits), [answer], {})["endpoints"]["a"]
    assert (endpoint["good"], endpoint["good_share"], endpoint["meets_slo"]) == (int(good), float(good), good)
    assert endpoint["throughput"]["goodput_per_s"] == good / 60
    assert endpoint["by_task"]["unknown"]["good"] == int(good)


def test_an_endpoint_that_never_streams_is_not_held_to_what_only_a_stream_has() -> None:
    scenario = {"endpoints": [{"name": "a", "stream": False}, {"name": "b", "stream": True}]}
    samples = [ok(**PLAIN), ok(endpoint="b"), ok(1, endpoint="b", **PLAIN)]
    limits = {"ttft": 200.0, "tpot": 40.0, "inter_chunk": 50.0, "e2e": 120.0}
    found = summarise(run(step(), names=("a", "b"), scenario=scenario, slo=limits), samples, {})["endpoints"]
    assert (found["a"]["good_share"], found["b"]["good_share"]) == (1.0, 0.5)
    slow = summarise(run(step(), scenario=scenario, slo=limits | {"e2e": 119.0}), samples[:1], {})
    assert slow["endpoints"]["a"]["good"] == 0


def test_warmup_answers_that_end_in_the_window_are_goodput_and_not_good() -> None:
    samples = [ok(0, at_s=9.95, phase="warmup"), ok(1)]
    endpoint = summarise(run(step(), slo={"ttft": 100.0}), samples, {})["endpoints"]["a"]
    assert (endpoint["good"], endpoint["throughput"]["goodput_per_s"]) == (1, 2 / 60)
    assert endpoint["metrics"]["ttft_ms"]["n"] == 1


def test_without_an_slo_nothing_is_good_or_bad() -> None:
    found = summarise(run(step()), [ok()], {})
    endpoint = found["endpoints"]["a"]
    assert [endpoint[name] for name in ("good", "good_share", "meets_slo", "cost", "sessions", "by_turn")] == [None] * 6
    assert (found["slo"], found["levels"], endpoint["throughput"]["goodput_per_s"]) == (None, None, None)
    assert endpoint["lead"] == []


@pytest.mark.parametrize(("bad", "cancelled", "meets"), [(1, 0, True), (2, 0, False), (1, 40, True), (2, 40, False)])
def test_a_step_holds_the_slo_with_95_per_cent_of_what_we_did_not_cancel(bad: int, cancelled: int, meets: bool) -> None:
    outcomes = itertools.cycle(("timeout", "dropped", "lost"))
    samples = [ok(seq) for seq in range(20 - bad)]
    samples += [failed(50 + seq, outcome) for seq, outcome in zip(range(bad), outcomes, strict=False)]
    samples += [failed(100 + seq, "cancelled") for seq in range(cancelled)]
    assert summarise(run(step(), slo={"ttft": 100.0}), samples, {})["endpoints"]["a"]["meets_slo"] is meets


@pytest.mark.parametrize(
    ("good", "last", "first"),
    [((1, 1, 0), 1, 2), ((1, 1, 1), 2, None), ((0, 0, 0), None, 0), ((1, 0, 1), 2, 1), ((1, None, 0), 0, 2)],
)
def test_levels_name_the_last_step_within_and_the_first_beyond(
    good: tuple[int | None, ...], last: int | None, first: int | None
) -> None:
    samples = [
        ok(at_s=20 + 100 * index, step=index, ttft_ms=100 if fine else 900)
        for index, fine in enumerate(good)
        if fine is not None
    ]
    record = run(*(step(index) for index in range(3)), slo={"ttft": 100.0})
    found = summarise(record, samples, {})
    assert found["levels"] == {"a": {"last_within_slo": last, "first_beyond_slo": first}}
    assert [each["endpoints"]["a"]["meets_slo"] for each in found["steps"]] == [
        None if fine is None else bool(fine) for fine in good
    ]


def test_speed_up_is_throughput_against_the_first_step() -> None:
    samples = [ok(seq, at_s=20 + 100 * index, step=index) for index in (0, 1) for seq in range(2 + 3 * index)]
    found = summarise(run(step(0), step(1), names=("a", "b")), samples, {})
    assert [each["endpoints"]["a"]["speed_up"] for each in found["steps"]] == [1.0, 2.5]
    assert [each["endpoints"]["b"]["speed_up"] for each in found["steps"]] == [None, None]
    assert summarise(run(step(0)), samples[:2], {})["endpoints"]["a"]["speed_up"] is None


PRICE = {"input": 2.0, "output": 10.0}


def test_cost_is_of_all_measured_requests_with_known_tokens() -> None:
    samples = [
        ok(0, input_tokens=1000, output_tokens=100),
        ok(1, input_tokens=1000, output_tokens=100, outcome="truncated"),
        ok(2, output_tokens=None),
        ok(3, phase="warmup"),
        failed(4, "rate_limited"),
    ]
    found = summarise(run(step(), prices={"a": PRICE}), samples, {})["endpoints"]["a"]
    assert found["cost"] == {
        "usd": pytest.approx(0.006),
        "usd_per_ok_request": pytest.approx(0.006),
        "usd_per_1k_tokens": pytest.approx(0.006 / 2.2),
        "usd_per_1k_good": None,
        "usd_per_completed_task": pytest.approx(0.006),
        "known": 0.5,
        "unbilled_unknown": 1,
    }
    assert found["by_task"]["unknown"]["cost"] == found["cost"]


@pytest.mark.parametrize(
    ("price", "cached", "usd"),
    [
        (PRICE, 600, 0.0030),
        (PRICE | {"cached_input": 0.5}, 600, 0.0021),
        (PRICE | {"cached_input": 0.5}, None, 0.0030),
        (PRICE | {"cached_input": 0.5}, 5000, 0.0015),
    ],
)
def test_cached_tokens_are_part_of_the_input(price: dict[str, float], cached: int | None, usd: float) -> None:
    answer = ok(input_tokens=1000, output_tokens=100, cached_tokens=cached)
    found = summarise(run(step(), prices={"a": price}), [answer], {})["endpoints"]["a"]["cost"]
    assert found["usd"] == pytest.approx(usd)


@pytest.mark.parametrize(("samples", "known"), [([], None), ([ok(output_tokens=None)], 0.0)])
def test_cost_is_null_where_no_tokens_are_known(samples: list[Sample], known: float | None) -> None:
    found = summarise(run(step(), prices={"a": PRICE}), samples, {})["endpoints"]["a"]["cost"]
    per = ("usd_per_ok_request", "usd_per_1k_tokens", "usd_per_1k_good", "usd_per_completed_task")
    assert found == {"usd": None, **dict.fromkeys(per), "known": known, "unbilled_unknown": len(samples)}


def test_the_whole_cost_is_held_against_what_it_bought() -> None:
    """Six answers at 0.003 each are paid for: two of them are good, three tasks are completed."""
    samples = [
        ok(0, input_tokens=1000, output_tokens=100, met=True),
        ok(1, input_tokens=1000, output_tokens=100),
        ok(2, input_tokens=1000, output_tokens=100, ttft_ms=900),
        ok(3, input_tokens=1000, output_tokens=100, ttft_ms=900, met=False),
        ok(4, input_tokens=1000, output_tokens=100, ttft_ms=900, valid=False),
        ok(5, input_tokens=1000, output_tokens=100, outcome="stalled"),
        ok(6, output_tokens=None),  # good and completed, but nobody knows what it cost
    ]
    found = summarise(run(step(), prices={"a": PRICE}, slo={"ttft": 100.0}), samples, {})["endpoints"]["a"]
    assert (found["good"], found["completed"]) == (3, 4)
    assert found["cost"]["usd"] == pytest.approx(0.018)
    assert found["cost"]["usd_per_ok_request"] == pytest.approx(0.0036)
    assert found["cost"]["usd_per_1k_good"] == pytest.approx(9.0)
    assert found["cost"]["usd_per_completed_task"] == pytest.approx(0.006)
    none = summarise(run(step(), prices={"a": PRICE}, slo={"ttft": 1.0}), samples[3:6], {})["endpoints"]["a"]["cost"]
    assert (none["usd"], none["usd_per_1k_good"], none["usd_per_completed_task"]) == (pytest.approx(0.009), None, None)


@pytest.mark.parametrize(
    ("outcome", "sent", "counted"),
    [
        *((outcome, True, 1) for outcome in ("truncated", "stalled", "stream_error", "malformed", "timeout")),
        *(("cancelled", True, 1), ("cancelled", False, 0), ("lost", False, 1), ("dropped", False, 0)),
        *((outcome, True, 0) for outcome in ("rate_limited", "overloaded", "http_error", "invalid_request")),
    ],
)
def test_what_may_be_billed_and_is_not_known_is_counted_and_not_guessed(outcome: str, sent: bool, counted: int) -> None:
    samples = [ok(0, input_tokens=1000, output_tokens=100), failed(1, outcome, sent_ns=20 * S if sent else None)]
    found = summarise(run(step(), prices={"a": PRICE}), samples, {})["endpoints"]["a"]["cost"]
    assert (found["usd"], found["unbilled_unknown"]) == (pytest.approx(0.003), counted)


def test_cost_and_good_requests_add_up_over_steps() -> None:
    samples = [ok(at_s=20 + 100 * index, step=index, ttft_ms=100 + 50 * index) for index in (0, 1)]
    found = summarise(run(step(0), step(1), prices={"a": PRICE}, slo={"ttft": 100.0}), samples, {})
    top, parts = found["endpoints"]["a"], [each["endpoints"]["a"] for each in found["steps"]]
    assert top["cost"]["usd"] == pytest.approx(sum(part["cost"]["usd"] for part in parts))
    assert (top["good"], top["good_share"], top["meets_slo"]) == (1, 0.5, None)


# --- sessions ---------------------------------------------------------------------------------------------------------


def conversation(session: int, outcomes: list[str], *, turns: int = 3, **fields: Any) -> list[Sample]:
    """A turn every ten seconds from the twentieth on."""
    made = []
    for turn, outcome in enumerate(outcomes):
        seq, at_s = session * turns + turn, 20 + 10 * turn
        one = ok(seq, at_s=at_s, **fields) if outcome == "ok" else failed(seq, outcome, at_s=at_s, **fields)
        made.append(one)
    return made


def of_sessions(samples: list[Sample], *, turns: int = 3, **fields: Any) -> dict[str, Any]:
    record = run(step(shape=Sessions(1.0, turns, S)), **fields)
    found: dict[str, Any] = summarise(record, samples, {})["endpoints"]["a"]
    return found


def test_a_session_ends_as_its_first_turn_that_was_not_ok() -> None:
    samples = [
        *conversation(0, ["ok", "ok", "ok"]),
        *conversation(1, ["ok", "timeout"]),
        *conversation(2, ["ok", "ok"]),
        *conversation(3, ["dropped"]),
        *conversation(4, ["ok", "ok", "cancelled"]),
        *conversation(5, ["ok", "ok", "ok"], phase="warmup"),
    ]
    found = of_sessions(samples)
    sessions = found["sessions"]
    assert {name: number for name, number in sessions["outcomes"].items() if number} == {
        "ok": 1,
        "timeout": 1,
        "cancelled": 2,
        "dropped": 1,
    }
    assert [sessions[name] for name in ("planned", "ok", "completion_rate", "turns_ok")] == [5, 1, 1 / 5, 8]
    assert (sessions["duration_s"]["n"], sessions["duration_s"]["max"]) == (1, pytest.approx(20.12))
    assert {turn: part["outcomes"]["ok"] for turn, part in found["by_turn"].items()} == {"0": 4, "1": 3, "2": 1}
    assert found["by_turn"]["2"]["metrics"]["inter_chunk_ms"]["n"] == 1
    assert found["by_turn"]["0"]["thin"]


def test_a_session_belongs_to_the_phase_of_its_first_turn() -> None:
    first, *others = conversation(0, ["ok", "ok", "ok"])
    first.phase = "warmup"
    assert of_sessions([first, *others])["sessions"]["planned"] == 0
    first.phase, others[1].phase = "measure", "warmup"
    assert of_sessions([first, *others])["sessions"]["turns_ok"] == 3


def test_no_sessions_and_no_turns() -> None:
    found = of_sessions([])
    assert (found["sessions"]["planned"], found["sessions"]["completion_rate"], found["by_turn"]) == (0, None, {})


def test_sessions_of_a_run_that_is_going_on_are_left_out_until_they_end() -> None:
    samples = [
        *conversation(0, ["ok", "ok", "ok"]),
        *conversation(1, ["ok", "ok", "lost"]),
        *conversation(2, ["ok"]),
        *conversation(3, ["ok", "timeout"]),
        *conversation(4, ["lost"]),
    ]
    sessions = of_sessions(samples, state="running")["sessions"]
    assert {name: number for name, number in sessions["outcomes"].items() if number} == {"ok": 1, "timeout": 1}
    assert (sessions["planned"], sessions["turns_ok"]) == (2, 4)


@given(
    st.integers(1, 4).flatmap(
        lambda turns: st.tuples(
            st.just(turns),
            st.lists(
                st.lists(st.sampled_from(["ok", "ok", "timeout", "dropped"]), min_size=1, max_size=turns), max_size=8
            ),
        )
    ),
    st.randoms(use_true_random=False),
)
def test_sessions_are_those_of_a_plain_loop(case: tuple[int, list[list[str]]], order: Any) -> None:
    turns, outcomes = case
    samples = [one for number, of in enumerate(outcomes) for one in conversation(number, of, turns=turns)]
    order.shuffle(samples)
    expected: dict[str, int] = {}
    for of in outcomes:
        fate = next((outcome for outcome in of if outcome != "ok"), "ok" if len(of) == turns else "cancelled")
        expected[fate] = expected.get(fate, 0) + 1
    found = of_sessions(samples, turns=turns)["sessions"]
    assert {name: number for name, number in found["outcomes"].items() if number} == expected
    assert found["duration_s"]["n"] == found["ok"] == expected.get("ok", 0)
    assert found["turns_ok"] == sum(of.count("ok") for of in outcomes)


# --- what leads, endpoints in turns, a run that is going on -----------------------------------------------------------


def test_what_leads_comes_in_the_order_of_the_scenario() -> None:
    names = ["usd_per_1k_tokens", "ttft", "total_time", "requests_per_min", "e2e_tokens_per_s"]
    record = run(step(), lead=names, slo={"ttft": 800.0}, prices={"a": PRICE})
    samples = [ok(seq, ttft_ms=100 + seq) for seq in range(6)]
    found = summarise(record, samples, {})
    entries = {entry["name"]: entry for entry in found["endpoints"]["a"]["lead"]}
    assert list(entries) == names
    assert entries["ttft"] == {
        "name": "ttft",
        "label": "TTFT",
        "unit": "ms",
        "n": 6,
        "limit": 800.0,
        "percentiles": {"p50": 102.0, "p95": None},
        "need": {"p95": [72, 6]},
        "ci95": {"p50": [100.0, 105.0], "p95": None},
    }
    assert list(entries["e2e_tokens_per_s"]["percentiles"]) == ["p50", "p5"]
    assert entries["total_time"]["value"] == pytest.approx(20.125)
    assert entries["requests_per_min"]["value"] == pytest.approx(6)
    assert entries["usd_per_1k_tokens"]["value"] == found["endpoints"]["a"]["cost"]["usd_per_1k_tokens"]
    assert "lead" not in found["endpoints"]["a"]["by_task"]["unknown"]


def test_over_steps_only_what_is_defined_there_leads() -> None:
    names = ["ttft", "total_time", "requests_per_min", "usd_per_1k_tokens"]
    samples = [ok(at_s=20 + 100 * index, step=index) for index in (0, 1)]
    found = summarise(run(step(0), step(1), lead=names), samples, {})
    top = found["endpoints"]["a"]["lead"]
    assert [(entry["name"], entry["value"]) for entry in top] == [
        ("total_time", pytest.approx(120.12)),
        ("usd_per_1k_tokens", None),
    ]
    assert [entry["name"] for entry in found["steps"][1]["endpoints"]["a"]["lead"]] == names


def test_nothing_answered_leads_with_nothing() -> None:
    record = run(step(measure_to_ns=0), lead=["total_time", "requests_per_min"])
    lead = summarise(record, [failed(0, "timeout")], {})["endpoints"]["a"]["lead"]
    assert [entry["value"] for entry in lead] == [None, None]


def test_endpoints_in_turns_are_measured_by_their_own_loaded_time() -> None:
    samples = [ok(seq, endpoint=name) for name in ("a", "b") for seq in range(6)]
    found = summarise(run(step(slices=2), names=("a", "b")), samples, {})
    for name in ("a", "b"):
        assert found["endpoints"][name]["throughput"]["requests_per_s"] == pytest.approx(6 / 30)
    assert found["steps"][0]["slices"] == 2


def test_each_endpoint_in_turns_has_a_window_of_its_own() -> None:
    # Own seconds 10 to 70 in slices of 20: the first endpoint has them from 10 to 130, the second from 30 to 150.
    load = Step(Poisson(1.0), duration_ns=60 * S, warmup_ns=10 * S, slice_ns=20 * S)
    turns = step(load=load, slices=2, measure_from_ns=30 * S, measure_to_ns=150 * S)
    samples = [
        ok(seq, endpoint=name, at_s=at_s)
        for seq, (name, at_s) in enumerate(
            [("a", 9), ("a", 11), ("a", 129), ("a", 131), ("b", 29), ("b", 31), ("b", 149), ("b", 151)]
        )
    ]
    found = summarise(run(turns, names=("a", "b")), samples, {})["endpoints"]
    for name in ("a", "b"):
        throughput = found[name]["throughput"]
        assert throughput["requests_per_s"] == pytest.approx(2 / 60)
        assert throughput["output_tokens_per_s"] == pytest.approx(22 / 60)


def test_a_run_in_turns_that_was_cut_short_is_measured_up_to_the_cut() -> None:
    load = Step(Poisson(1.0), duration_ns=60 * S, slice_ns=20 * S)
    turns = step(load=load, slices=2, measure_from_ns=0, measure_to_ns=50 * S)
    samples = [ok(0, at_s=5), ok(1, at_s=45), ok(2, endpoint="b", at_s=25)]
    found = summarise(run(turns, names=("a", "b")), samples, {})["endpoints"]
    assert found["a"]["throughput"]["requests_per_s"] == pytest.approx(2 / 30)
    assert found["b"]["throughput"]["requests_per_s"] == pytest.approx(1 / 20)


@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 5))
def test_turns_are_counted_as_the_plan_deals_them(wall: int, slice_ns: int, count: int) -> None:
    record = step(load=Step(Closed(1), slice_ns=slice_ns), slices=count)
    dealt = Slices(slice_ns, count)
    for place in range(count):
        assert loaded_ns(record, place, (0, wall)) == (wall if count == 1 else dealt.own_at(wall, place)[0])
        own = step(load=Step(Closed(1), warmup_ns=wall, slice_ns=slice_ns), slices=count)
        if count > 1:
            assert window(own, place)[0] == dealt.wall_at(wall, place)


@pytest.mark.parametrize(("name", "at_s", "loaded_s"), [("a", 4.9, 5.0), ("b", 14.9, 5.0), ("b", 34.9, 15.0)])
def test_by_requests_the_slices_up_to_the_last_answer_are_counted(name: str, at_s: float, loaded_s: float) -> None:
    load = Step(Closed(4), requests=1, slice_ns=10 * S)
    record = run(step(load=load, slices=2, requests=1, measure_from_ns=0, measure_to_ns=100 * S), names=("a", "b"))
    # The answer ends at the end of its slice's first half; the window holds its last nanosecond.
    answer = ok(endpoint=name, at_s=at_s, ttft_ms=80)
    found = summarise(record, [answer], {})["endpoints"][name]["throughput"]
    assert found["requests_per_s"] == pytest.approx(1 / loaded_s)


def test_a_run_that_is_going_on_leaves_out_what_is_in_flight() -> None:
    samples = [ok(0), failed(1, "lost"), failed(2, "lost", sent_ns=20 * S)]
    found = summarise(run(step(), state="running"), samples, {})
    assert (found["endpoints"]["a"]["outcomes"]["lost"], found["validity"]["lost"]) == (0, 0)
    assert [reason["code"] for reason in found["validity"]["reasons"]] == ["unfinished"]
    ended = summarise(run(step(), state="partial"), samples, {})
    assert (ended["validity"]["lost"], ended["validity"]["verdict"]) == (2, "invalid")


def test_lateness_is_of_the_measured_phase_of_open_loops() -> None:
    def sent(index: int, late_ms: int) -> Sample:
        one = ok(step=index, at_s=20 + 100 * index)
        one.due_ns -= late_ms * MS
        return one

    warming = sent(1, 500)
    warming.phase = "warmup"
    found = summarise(run(step(0), step(1, Poisson(1.0))), [sent(0, 900), sent(1, 7), warming], {})["validity"]
    assert found["send_lateness_ms"] == {"p50": 7.0, "p99": 7.0, "max": 7.0}
    assert [reason["code"] for reason in found["reasons"]] == ["send_lateness_ms"]
    assert summarise(run(step(0)), [sent(0, 900)], {})["validity"]["send_lateness_ms"] is None


def test_of_a_conversation_only_the_first_turn_arrives() -> None:
    """Later turns are due when they are sent: twenty of them must not hide that every conversation began late."""
    samples = [one for session in range(5) for one in conversation(session, ["ok"] * 20, turns=20)]
    for one in samples[::20]:
        one.due_ns -= 10 * S
    found = summarise(run(step(shape=Sessions(1.0, 20, S), measure_to_ns=900 * S)), samples, {})["validity"]
    assert found["verdict"] == "invalid"
    assert {"sent_late": 1.0, "send_lateness_ms": 10_000.0}.items() <= {
        one["code"]: one["value"] for one in found["reasons"]
    }.items()


def test_a_step_says_what_was_planned_without_the_arrivals_of_its_trace() -> None:
    trace = Trace("peak.csv", b"\0" * 8, b"\0" * 4, b"\0" * 4, ("p",))
    load = Step(trace, max_in_flight=7)
    found = summarise(run(step(load=load), step(1, Poisson(4.0))), [], {})["steps"]
    assert found[0]["load"]["shape"] == {"type": "trace", "path": "peak.csv"}
    assert (found[0]["load"]["max_in_flight"], found[0]["words"]) == (7, "trace peak.csv")
    assert (found[1]["words"], found[1]["load"]["shape"]["rate"]) == ("poisson 4/s", 4.0)
