"""The mock tools of a tool loop: what a model's calls give back, and how long that takes.

Nothing is executed. A call takes the delay that the scenario sets for its tool and gives back the tool's result,
whatever its arguments; one of a tool that does not exist is told so, and takes no time.
"""

from collections.abc import Sequence

from latbench.model.answer import Answer, ToolCall
from latbench.model.request import Call, Message, Tool


def calls(answer: Answer) -> list[ToolCall]:
    """The calls to execute, in their order; none where the limit of tokens cut the answer off in the midst of them."""
    return [] if answer.finish_reason == "length" else [answer.tool_calls[index] for index in sorted(answer.tool_calls)]


def times_ns(tools: Sequence[Tool], made: Sequence[ToolCall]) -> tuple[int, int]:
    """How long the calls of one turn take: all at once, which is as long as the longest, and one after the other."""
    delays = {tool.name: tool.delay_ns for tool in tools}
    taken = [delays.get(call.name, 0) for call in made]
    return max(taken, default=0), sum(taken)


def answered(tools: Sequence[Tool], answer: Answer) -> Message:
    """The model's turn with the results of its calls: what the next request adds to the conversation."""
    results = {tool.name: tool.result for tool in tools}
    found = tuple(
        Call(
            call.id,
            call.name,
            "".join(call.arguments),
            results.get(call.name, "There is no such tool."),
            call.signature,
        )
        for call in calls(answer)
    )
    return Message("assistant", "".join(answer.text), found)
