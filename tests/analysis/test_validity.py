"""The verdict, reason by reason."""

from typing import Any

import pytest

from latbench.analysis.validity import judge
from latbench.model.run import RunRecord


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
