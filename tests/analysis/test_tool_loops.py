"""Tool loops taken together: what became of each, and where its time went."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_loads import MS, failed, ok, run, step

from latbench.analysis.summary import summarise
from latbench.analysis.tool_loops import ENDINGS
from latbench.model.load import Sessions, ToolLoop
from latbench.model.sample import Sample

MOST = 4
TTFT_MS, GAP_MS, TOOL_MS = 100, 20, 250


def loop_step(*, parallel: bool = True) -> Any:
    return step(0, ToolLoop(1.0, MOST, parallel))


def called(seq: int, calls: int, *, at_s: float = 20.0, **fields: Any) -> Sample:
    """An answer with so many calls, each of a tool that takes `TOOL_MS`."""
    times = {"tools_parallel_ns": TOOL_MS * MS, "tools_sequential_ns": calls * TOOL_MS * MS}
    return ok(seq, at_s=at_s, ttft_ms=TTFT_MS, gaps_ms=(GAP_MS,), tool_calls=calls, **(times | fields))


def block(*samples: Sample, parallel: bool = True, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = summarise(run(loop_step(parallel=parallel), **fields), samples, {})["endpoints"]["a"]
    return found


def ended(*samples: Sample, **fields: Any) -> dict[str, int]:
    return {name: count for name, count in block(*samples, **fields)["tool_loop"]["outcomes"].items() if count}


@pytest.mark.parametrize(
    ("samples", "outcomes"),
    [
        ([ok(0)], {"ok": 1}),
        ([called(0, 1), ok(1)], {"ok": 1}),
        ([called(0, 1), called(1, 2), called(2, 1), ok(3)], {"ok": 1}),
        ([called(0, 1), called(1, 2), called(2, 1), called(3, 1)], {"max_rounds": 1}),
        ([called(0, 1), called(1, 2)], {"cancelled": 1}),
        ([called(0, 1), failed(1, "http_error")], {"http_error": 1}),
        ([failed(0, "dropped")], {"dropped": 1}),
        ([called(0, 1), failed(1, "lost")], {"lost": 1}),
        ([called(0, 2, tools_parallel_ns=None, tools_sequential_ns=None)], {"length": 1}),
        ([called(0, 1), called(5, 1), ok(4), ok(1), ok(6)], {"ok": 2}),
        ([ok(0, phase="warmup", at_s=5), ok(4)], {"ok": 1}),
        ([called(0, 1, phase="warmup", at_s=9.9), ok(1)], {}),
    ],
)
def test_what_became_of_a_loop(samples: list[Sample], outcomes: dict[str, int]) -> None:
    assert ended(*samples) == outcomes


def test_every_ending_is_named() -> None:
    found = block(ok(0))["tool_loop"]
    assert list(found["outcomes"]) == list(ENDINGS)
    assert (found["execution"], found["max_rounds"]) == ("parallel", MOST)


def test_a_running_loop_has_come_to_no_end() -> None:
    assert ended(called(0, 1), state="running") == {}
    assert ended(called(0, 1), failed(4, "http_error"), ok(8), state="running") == {"http_error": 1, "ok": 1}


@pytest.mark.parametrize("parallel", [True, False])
def test_where_the_time_of_a_loop_went(parallel: bool) -> None:
    """Two turns with three and one calls, each begun 30 ms after its tools were done."""
    waited_ms = TOOL_MS + (TOOL_MS if parallel else 3 * TOOL_MS)
    each_ms = TTFT_MS + GAP_MS
    second = 20.0 + (each_ms + (TOOL_MS if parallel else 3 * TOOL_MS) + 30) / 1000
    third = second + (each_ms + TOOL_MS + 30) / 1000
    samples = [called(0, 3), called(1, 1, at_s=second), ok(2, at_s=third, ttft_ms=TTFT_MS, gaps_ms=(GAP_MS,))]
    found = block(*samples, parallel=parallel)["tool_loop"]
    means = {name: found[name]["mean"] for name in found if isinstance(found[name], dict) and "mean" in found[name]}
    assert means == {
        "round_trips": 3.0,
        "calls_per_turn": 2.0,
        "total_s": pytest.approx((3 * each_ms + waited_ms + 60) / 1000),
        "model_s": pytest.approx(3 * each_ms / 1000),
        "tools_s": pytest.approx(waited_ms / 1000),
        "critical_path_s": pytest.approx((3 * each_ms + 2 * TOOL_MS) / 1000),
        "sequential_s": pytest.approx((3 * each_ms + 4 * TOOL_MS) / 1000),
    }
    assert found["calls"] == 4
    assert found["speed_up"] == pytest.approx((3 * each_ms + 4 * TOOL_MS) / (3 * each_ms + 2 * TOOL_MS))
    assert sum(found["share"].values()) == pytest.approx(1)
    assert found["share"]["neither"] == pytest.approx(60 / (3 * each_ms + waited_ms + 60))


def test_times_are_of_loops_that_came_to_an_answer() -> None:
    found = block(called(0, 5), failed(1, "http_error"), ok(4))["tool_loop"]
    assert (found["planned"], found["ok"], found["completion_rate"]) == (2, 1, 0.5)
    assert (found["round_trips"]["mean"], found["calls"], found["calls_per_turn"]["n"]) == (1.0, 0, 0)
    assert found["speed_up"] == 1.0


def test_without_a_loop_that_is_ok_there_are_no_times() -> None:
    for samples in ([], [failed(0, "dropped")]):
        found = block(*samples)["tool_loop"]
        assert (found["ok"], found["speed_up"], found["total_s"]["mean"]) == (0, None, None)
        assert set(found["share"].values()) == {None}


def test_a_loop_that_ends_with_nothing_has_no_times() -> None:
    nothing = {"first_token_ns": None, "first_text_ns": None, "last_token_ns": None, "chunks": 0, "gaps": b""}
    found = block(called(0, 1), ok(1, **nothing))["tool_loop"]
    assert (found["ok"], found["total_s"]["n"], found["speed_up"]) == (1, 0, None)
    assert block(called(0, 1), ok(1, **nothing), ok(4))["tool_loop"]["total_s"]["n"] == 1


def test_a_task_is_completed_by_the_answer_that_ends_its_loop() -> None:
    once = called(0, 1, tools_parallel_ns=0, tools_sequential_ns=0)
    found = block(once, ok(1), called(4, 1), prices={"a": {"input": 1.0, "output": 1.0}})
    assert (found["outcomes"]["ok"], found["completed"]) == (3, 1)
    assert found["cost"]["usd_per_completed_task"] == pytest.approx(found["cost"]["usd"])


def test_other_shapes_have_no_loops_and_loops_no_sessions() -> None:
    found = block(called(0, 1), ok(1))
    assert found["sessions"] is None
    assert list(found["by_turn"]) == ["0", "1"]
    assert found["by_turn"]["1"]["outcomes"]["ok"] == 1
    for shape in (None, Sessions(1.0, 2)):
        assert summarise(run(step(0, shape)), [ok(0)], {})["endpoints"]["a"]["tool_loop"] is None


def test_with_several_steps_each_has_its_loops() -> None:
    steps = [step(index, ToolLoop(1.0, most)) for index, most in enumerate((4, 2))]
    samples = [called(0, 1), ok(1), called(0, 1, step=1, at_s=120.0), called(1, 1, step=1, at_s=121.0)]
    found = summarise(run(*steps), samples, {})
    assert found["endpoints"]["a"]["tool_loop"] is None
    loops = [one["endpoints"]["a"]["tool_loop"] for one in found["steps"]]
    assert [loop["ok"] for loop in loops] == [1, 0]
    assert loops[1]["outcomes"]["max_rounds"] == 1
    assert [one["words"] for one in found["steps"]] == [
        "tool_loop 1/s parallel, up to 4 round trips",
        "tool_loop 1/s parallel, up to 2 round trips",
    ]


@dataclass(frozen=True)
class Turn:
    """An answer: how it ended, its calls, and whether the limit cut it off."""

    outcome: str
    calls: int
    cut: bool


TURNS = st.builds(Turn, st.sampled_from(["ok"] * 6 + ["http_error", "stalled"]), st.integers(0, 3), st.booleans())


def by_hand(turns: list[Turn]) -> tuple[list[Turn], str]:
    """The turns that are really made, and how the loop ends."""
    made = []
    for turn in turns[:MOST]:
        made.append(turn)
        if turn.outcome != "ok":
            return made, turn.outcome
        if not turn.calls:
            return made, "ok"
        if turn.cut:
            return made, "length"
    return made, "max_rounds" if len(made) == MOST else "cancelled"


@given(st.lists(st.lists(TURNS, min_size=1, max_size=MOST), max_size=6), st.randoms())
def test_loops_are_what_they_are_by_hand(loops: list[list[Turn]], order: Any) -> None:
    samples, endings, trips, calls = [], [], [], 0
    for number, turns in enumerate(loops):
        made, ending = by_hand(turns)
        endings.append(ending)
        if ending == "ok":
            trips.append(len(made))
            calls += sum(turn.calls for turn in made)
        for place, turn in enumerate(made):
            seq = number * MOST + place
            if turn.outcome != "ok":
                samples.append(failed(seq, turn.outcome))
            elif not turn.calls:
                samples.append(ok(seq))
            else:
                none = {"tools_parallel_ns": None, "tools_sequential_ns": None}
                samples.append(called(seq, turn.calls, **(none if turn.cut else {})))
    samples.sort(key=lambda _: order.random())
    found = block(*samples)["tool_loop"]
    assert {name: count for name, count in found["outcomes"].items() if count} == {
        name: endings.count(name) for name in set(endings)
    }
    assert found["planned"] == len(loops) == sum(found["outcomes"].values())
    assert (found["round_trips"]["n"], found["calls"]) == (len(trips), calls)
    if trips:
        assert found["round_trips"]["mean"] == pytest.approx(sum(trips) / len(trips))
