"""Runs our own templates, and nothing else: the code that makes sure that a bug is one, and that an answer is right.

Never given filler. The templates have no loop that could run for long and reach only the names below, which keeps a
mistake of ours small; this is no fence against code of others.
"""

import inspect
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import lru_cache
from io import StringIO
from types import CodeType
from typing import Any

_BUILTINS: dict[str, Any] = {
    builtin.__name__: builtin
    for builtin in (divmod, enumerate, int, len, list, max, min, range, reversed, sorted, str, sum, tuple, zip)
}


class _Loop:
    """What the examples call `asyncio`: drives a coroutine that waits for nothing but others like it."""

    @staticmethod
    def run(coroutine: Any) -> Any:  # noqa: ANN401 - whatever the coroutine returns
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("a template waits for something")


@lru_cache(maxsize=4096)
def _compiled(function: str) -> CodeType:
    return compile(function, "<template>", "exec")


@lru_cache(maxsize=256)
def _compiled_call(source: str) -> CodeType:
    return compile(source, "<example>", "eval")


def calls_of(sources: Sequence[str]) -> list[CodeType]:
    """Calls, compiled, for `results`."""
    return [_compiled_call(source) for source in sources]


def results(function: str, calls: Sequence[CodeType]) -> list[str]:
    """What each call shows when the function has been defined: the value as Python prints it, or the error's name.

    A coroutine that nobody awaited shows as `<coroutine>`; what differs from run to run never shows.
    """
    space: dict[str, Any] = {
        "__builtins__": _BUILTINS,
        "asyncio": _Loop,
        "StringIO": StringIO,
        "closing": closing,
        "nullcontext": nullcontext,
    }
    exec(_compiled(function), space)
    return [_shown(call, space) for call in calls]


def _shown(call: CodeType, space: dict[str, Any]) -> str:
    try:
        value = eval(call, space)
    except (ArithmeticError, IndexError, TypeError, UnboundLocalError, ValueError) as error:
        return f"!{type(error).__name__}"
    if inspect.iscoroutine(value):
        value.close()
        return "<coroutine>"
    return repr(value)


def sound(shown: Sequence[str]) -> bool:
    """Whether every call gave a plain value that is short enough to be an example."""
    return all(one[0] not in "!<" and len(one) <= 60 for one in shown)
