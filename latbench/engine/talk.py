"""What is said next in a conversation, once an answer is there, and how long that takes."""

from dataclasses import dataclass

from latbench.engine.exchange import Exchange
from latbench.model.load import Sessions, ToolLoop
from latbench.model.request import Message
from latbench.plan import toolbox


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer as a message of the conversation, and nanoseconds from its end to the next request."""

    message: Message
    after_ns: int


def reply(shape: Sessions | ToolLoop, exchange: Exchange) -> Reply | None:
    """What follows an answer that is `ok`; None where a tool loop is over: the model has called no tool."""
    answer = exchange.answer
    if isinstance(shape, Sessions):
        return Reply(Message("assistant", "".join(answer.text)), shape.think_ns)
    made = toolbox.calls(answer)
    if not made:
        return None
    parallel_ns, sequential_ns = toolbox.times_ns(exchange.tools, made)
    return Reply(toolbox.answered(exchange.tools, answer), parallel_ns if shape.parallel else sequential_ns)
