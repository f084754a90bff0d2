"""The verdict, reason by reason."""

from typing import Any

import numpy as np
import pytest

from latbench.analysis.validity import Lateness, judge, lateness
from latbench.model.load import Poisson, Step
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import LOAD_STOPPED, NO_BUDGET, WITHOUT_LEASE


def run(**fields: object) -> RunRecord:
    known: dict[str, Any] = {"state": "complete"}
    return RunRecord("id", "n", "s", "h", {}, "2026-11-22T14:00:00Z", 1, 0, **(known | fields))


GOOD = {("measure", "a"): {"ok": 99, "dropped": 1}, ("warmup", "a"): {"ok": 5}}


def test_a_run_without_fault_is_valid() -> None:
    planned = {("measure", "a"): 100, ("warmup", "a"): 5}
    assert judge(run(planned=105), GOOD, planned) == ("valid", [])


@pytest.mark.parametrize("planned", [{("measure", "a"): 101}, {("warmup", "a"): 4}, {("measure", "b"): 1}])
def test_conservation_is_checked_by_phase_and_endpoint(planned: dict[tuple[str, str], int]) -> None:
    verdict, reasons = judge(run(), GOOD, planned)
    assert verdict == "invalid"
    assert [reason["code"] for reason in reasons] == ["conservation"]
    (phase, endpoint), limit = next(iter(planned.items()))
    assert reasons[0]["limit"] == limit
    assert f"{phase}, {endpoint}" in reasons[0]["advice"]


def test_conservation_in_total_is_checked_where_only_the_total_is_known() -> None:
    verdict, reasons = judge(run(planned=106), GOOD, {})
    assert verdict == "invalid"
    assert (reasons[0]["code"], reasons[0]["value"], reasons[0]["limit"]) == ("conservation", 105, 106)


def test_more_than_one_per_cent_dropped_is_invalid() -> None:
    verdict, reasons = judge(run(), {("measure", "a"): {"ok": 98, "dropped": 2}}, {})
    assert verdict == "invalid"
    assert (reasons[0]["code"], reasons[0]["value"], reasons[0]["limit"]) == ("dropped", 0.02, 0.01)


def test_a_lost_request_is_invalid_in_either_phase() -> None:
    verdict, reasons = judge(run(), {("measure", "a"): {"ok": 9}, ("warmup", "a"): {"lost": 1}}, {})
    assert verdict == "invalid"
    assert [reason["code"] for reason in reasons] == ["lost"]


@pytest.mark.parametrize("counts", [{}, {("measure", "a"): {"timeout": 3}}, {("warmup", "a"): {"ok": 3}}])
def test_not_one_ok_is_invalid(counts: dict[tuple[str, str], dict[str, int]]) -> None:
    verdict, reasons = judge(run(), counts, {})
    assert verdict == "invalid"
    assert [reason["code"] for reason in reasons] == ["no_ok"]


@pytest.mark.parametrize(
    ("note", "verdict", "severity"),
    [
        ({"code": "worker_lost", "value": 1, "advice": "a"}, "invalid", "invalid"),
        ({"code": "reduced_precision", "value": "no hooks", "advice": "a"}, "suspect", "suspect"),
        ({"code": "odd", "severity": "suspect"}, "suspect", "suspect"),
        ({"code": "odd", "severity": "unheard of"}, "valid", "note"),
        ({"value": 3}, "valid", "note"),
    ],
)
def test_notes_become_reasons(note: dict[str, Any], verdict: str, severity: str) -> None:
    found, reasons = judge(run(notes=[note]), GOOD, {})
    assert found == verdict
    assert [(reason["severity"], reason["value"]) for reason in reasons] == [(severity, note.get("value"))]


def test_a_run_that_was_not_closed_is_suspect_and_the_gravest_reason_comes_first() -> None:
    notes = [{"code": "odd"}, {"code": "worker_lost", "value": 1, "advice": "a"}]
    verdict, reasons = judge(run(state="running", notes=notes), GOOD, {})
    assert verdict == "invalid"
    assert [reason["code"] for reason in reasons] == ["worker_lost", "unfinished", "odd"]


def test_a_run_that_is_going_on_is_not_held_against_its_plan() -> None:
    verdict, reasons = judge(run(state="running", planned=200), GOOD, {("measure", "a"): 150})
    assert (verdict, [reason["code"] for reason in reasons]) == ("suspect", ["unfinished"])
    assert "latbench runs recover id" in reasons[0]["advice"]


@pytest.mark.parametrize(("cap", "advice"), [(8, "raise max_in_flight"), (None, "a worker that had lost its master")])
def test_what_to_do_about_drops_depends_on_the_cap(cap: int | None, advice: str) -> None:
    step = StepRecord(0, "poisson", None, 1.0, None, 0, 0, 9, Step(Poisson(1.0), max_in_flight=cap))
    _, reasons = judge(run(steps=[step]), {("measure", "a"): {"ok": 9, "dropped": 1}}, {})
    assert advice in reasons[0]["advice"]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ({"max_in_flight: this worker's part of it, 8, was unanswered": 3, WITHOUT_LEASE: 2}, "raise max_in_flight"),
        ({"max_in_flight: this worker's part of it, 8, was unanswered": 3, WITHOUT_LEASE: 4}, "look at its log"),
        ({LOAD_STOPPED: 1}, "look at what stopped it"),
        ({NO_BUDGET: 2, LOAD_STOPPED: 1}, "the budget had nothing left"),
        ({"words of another time": 9}, "raise max_in_flight"),
    ],
)
def test_what_the_dropped_requests_say_goes_before_the_cap(said: dict[str, int], advice: str) -> None:
    step = StepRecord(0, "poisson", None, 1.0, None, 0, 0, 9, Step(Poisson(1.0), max_in_flight=8))
    counts = {("measure", "a"): {"ok": 9, "dropped": 1}}
    _, (reason,) = judge(run(steps=[step]), counts, {}, dropped={0: said})
    assert advice in reason["advice"]
    assert reason["advice"].startswith("the load was not delivered: ")
    assert len(reason["advice"]) < 200


def test_a_budget_that_was_used_up_is_to_blame_where_the_drops_say_nothing() -> None:
    step = StepRecord(0, "poisson", None, 1.0, None, 0, 0, 9, Step(Poisson(1.0), max_in_flight=8))
    spent = run(steps=[step], stops=[("budget", "used up before the plan was done")])
    _, reasons = judge(spent, {("measure", "a"): {"ok": 9, "dropped": 1}}, {})
    assert "the budget had nothing left" in reasons[0]["advice"]


MS = 1_000_000


@pytest.mark.parametrize(
    ("p99", "ttft_ms", "limit"),
    [(5.0, None, None), (5.1, None, 5.0), (5.1, 102.0, None), (5.1, 100.0, 5.0), (20.0, 300.0, 15.0)],
)
def test_late_sends_are_suspect(p99: float, ttft_ms: float | None, limit: float | None) -> None:
    verdict, reasons = judge(run(), GOOD, {}, {0: Lateness({"p50": 0.1, "p99": p99, "max": p99}, 0.0, ttft_ms)})
    assert verdict == ("valid" if limit is None else "suspect")
    assert [(each["code"], each["limit"]) for each in reasons] == (
        [] if limit is None else [("send_lateness_ms", limit)]
    )


@pytest.mark.parametrize(("share", "found"), [(0.05, "suspect"), (0.051, "invalid")])
def test_very_late_sends_are_invalid(share: float, found: str) -> None:
    verdict, _ = judge(run(), GOOD, {}, {0: Lateness({"p50": 0.1, "p99": 150.0, "max": 200.0}, share, 50.0)})
    assert verdict == found


@pytest.mark.parametrize(("budget", "held_back"), [(None, False), ({"usd": 5.0}, True)])
def test_what_to_do_about_late_sends_depends_on_the_budget(budget: dict[str, float] | None, held_back: bool) -> None:
    late = run()
    late.scenario["budget"] = budget
    _, reasons = judge(late, GOOD, {}, {0: Lateness({"p50": 0.1, "p99": 150.0, "max": 200.0}, 0.9, 50.0)})
    assert reasons
    assert all(("a budget holds requests back" in each["advice"]) == held_back for each in reasons)


def test_a_step_that_was_not_delivered_is_not_made_up_for_by_a_larger_one() -> None:
    prompt, tardy = (
        Lateness({"p50": 0.1, "p99": p99, "max": p99}, share, 50.0) for p99, share in ((1.0, 0.0), (150.0, 0.9))
    )
    steps = [StepRecord(index, "poisson", None, 1.0, None, 0, 0, 9, Step(Poisson(1.0))) for index in range(2)]
    verdict, reasons = judge(run(steps=steps), GOOD, {}, {0: prompt, 1: tardy})
    assert (verdict, [one["code"] for one in reasons]) == ("invalid", ["sent_late", "send_lateness_ms"])
    assert all(one["advice"].startswith("step 1: ") for one in reasons)
    by_step = {0: {"ok": 50, "dropped": 50}, 1: {"ok": 9_900}}
    counts = {("measure", "a"): {"ok": 9_950, "dropped": 50}}
    verdict, (reason,) = judge(run(steps=steps), counts, {}, by_step=by_step)
    assert (verdict, reason["code"], reason["value"]) == ("invalid", "dropped", 0.5)
    assert reason["advice"].startswith("step 0: the load was not delivered")


def test_lateness_counts_what_was_sent_against_what_was_due() -> None:
    late_ns = np.array([1.0, 2.0, 101.0, 100.0, np.nan]) * MS
    found = lateness(late_ns, [80.0 * MS, 60.0 * MS])
    assert found == Lateness({"p50": 2.0, "p99": 101.0, "max": 101.0}, 1 / 5, 60.0)
    unanswered = lateness(late_ns, [])
    assert unanswered is not None
    assert unanswered.ttft_ms is None
    assert lateness(np.array([np.nan]), []) is None
