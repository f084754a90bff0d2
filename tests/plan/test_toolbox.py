"""Mock tools: how long the calls of one turn take, and what the model gets back."""

from hypothesis import given
from hypothesis import strategies as st

from latbench.model.answer import Answer
from latbench.model.request import Call, Message, Tool
from latbench.plan import toolbox

TOOLS = (Tool("quick", "", {}, "q", 10), Tool("slow", "", {}, "s", 300))


def answer(*names: str, finish: str = "tool") -> Answer:
    found = Answer(finish_reason=finish)
    for index, name in reversed(list(enumerate(names))):
        found.add_tool_call(index, name, "{}", 1)
        found.name_call(index, f"id-{index}", f"sig-{index}")
    return found


@given(st.lists(st.sampled_from(["quick", "slow", "unknown"]), max_size=9))
def test_at_once_is_the_longest_and_one_by_one_the_sum(names: list[str]) -> None:
    delays = [{"quick": 10, "slow": 300, "unknown": 0}[name] for name in names]
    parallel, sequential = toolbox.times_ns(TOOLS, toolbox.calls(answer(*names)))
    assert (parallel, sequential) == (max(delays, default=0), sum(delays))
    assert parallel <= sequential <= parallel * max(1, len(names))


def test_each_call_gets_the_result_of_its_tool_in_the_order_of_the_calls() -> None:
    given = answer("slow", "nothing", "quick")
    given.add_text("I look.", 1)
    assert toolbox.answered(TOOLS, given) == Message(
        "assistant",
        "I look.",
        (
            Call("id-0", "slow", "{}", "s", "sig-0"),
            Call("id-1", "nothing", "{}", "There is no such tool.", "sig-1"),
            Call("id-2", "quick", "{}", "q", "sig-2"),
        ),
    )


def test_calls_that_the_limit_cut_off_are_not_executed() -> None:
    assert toolbox.calls(answer("slow", finish="length")) == []
    assert len(toolbox.calls(answer("slow", finish="stop"))) == 1, "Gemini says stop beside a call"
