"""What reports say of an endpoint besides its tables, in their order, one line each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latbench.report import figures, limits, modes


def lines(
    name: str, endpoint: Mapping[str, Any], summary: Mapping[str, Any], *, every_step: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """A word or two, and a line.

    `every_step` are the steps whose own figures are not shown elsewhere: none where there is one step only.
    """
    yield "tokens", figures.tokens(endpoint["tokens"])
    if endpoint["cost"] is not None:
        yield "cost", figures.cost(endpoint["cost"])
    if endpoint["throughput"] is not None:
        yield "throughput", figures.throughput(endpoint["throughput"])
    if summary["slo"] is not None:
        yield "SLO", figures.slo(endpoint, summary["slo"])
        held = figures.levels(summary["levels"][name], every_step)
        if held:
            yield "levels", held
    if endpoint["sessions"] is not None:
        yield "sessions", figures.sessions(endpoint["sessions"])
    for step in every_step:
        found = step["endpoints"][name]["sessions"]
        if found is not None:
            yield f"sessions in step {step['index']}", figures.sessions(found)
    yield from _tool_loops(name, endpoint, every_step)
    yield from _modes(name, endpoint, every_step)
    yield from _repeats(name, endpoint, every_step)
    yield from limits.lines(endpoint["rate_limits"])


def _tool_loops(
    name: str, endpoint: Mapping[str, Any], every_step: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    loops = [("", endpoint["tool_loop"])]
    loops += [(f" in step {step['index']}", step["endpoints"][name]["tool_loop"]) for step in every_step]
    for where, found in loops:
        if found is not None:
            yield f"tool loops{where}", figures.tool_loop(found)
            if found["ok"]:
                yield f"time of a loop{where}", figures.tool_loop_times(found)


def _modes(
    name: str, endpoint: Mapping[str, Any], every_step: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """What was asked of answers, and what asking it cost."""
    compared = [("output modes", endpoint["modes"])]
    compared += [(f"output modes in step {step['index']}", step["endpoints"][name]["modes"]) for step in every_step]
    if all(found is None for _, found in compared):
        if endpoint["valid"] is not None:
            yield "valid", modes.validity(endpoint["valid"])
        if endpoint["expected"]:
            met, expected = figures.count(endpoint["met"]), figures.count(endpoint["expected"])
            yield "expected", f"{met} of {expected} answers with an expectation met it"
    for what, found in compared:
        for verdict in () if found is None else modes.verdicts(found):
            yield what, verdict


def _repeats(
    name: str, endpoint: Mapping[str, Any], every_step: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """The parts of the spread, where prompts were sent several times."""
    if endpoint["repeats"] is not None:
        yield "each prompt repeated", figures.repeats(endpoint["repeats"])
    for step in every_step:
        found = step["endpoints"][name]["repeats"]
        if found is not None:
            yield f"each prompt repeated in step {step['index']}", figures.repeats(found)


def shared(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The limits that providers of several endpoints were hit at: provider, a word or two, and a line."""
    named = [endpoint["provider"] for endpoint in summary["endpoints"].values()]
    for provider, found in summary["providers"].items():
        if named.count(provider) > 1 and found["rate_limits"]["hits"]:
            for what, line in limits.lines(found["rate_limits"] | {"demand": None}):
                yield provider, what, line
