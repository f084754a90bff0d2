"""What a run would send, as text within 80 columns or as a document for JSON."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from latbench.plan.estimate import Estimate, StepEstimate, dollars, price_line, short
from latbench.plan.power import Power
from latbench.report import figures, needle
from latbench.report.text import COLUMNS, clean

if TYPE_CHECKING:
    from latbench.analysis.needle.promise import Promise


def document(
    found: Estimate, power: Power, name: str, sha256: str, promised: "Sequence[Promise]" = ()
) -> dict[str, Any]:
    """The estimate with the scenario that it is of."""
    comparison = {"comparison": msgspec.to_builtins(power)}
    needle = {"needle": [asdict(one) | {"powered": one.powered} for one in promised]} if promised else {}
    return {"scenario": name, "scenario_sha256": sha256, **msgspec.to_builtins(found), **comparison, **needle}


def render(
    found: Estimate, power: Power, name: str, out: TextIO, promised: "Sequence[Promise]" = (), left: str = ""
) -> None:
    """Write the estimate of a scenario, of needle trials with what they will show; `left` if a budget cuts them."""
    cut = [f"the budget is {left}"] if left else []
    for line in (*_lines(found, name), *cut, *promises(promised), _comparison(power)):
        indent = line[: len(line) - len(line.lstrip())]
        for part in textwrap.wrap(clean(line), COLUMNS, initial_indent=indent, subsequent_indent=indent + "    "):
            out.write(f"{part}\n")


def promises(promised: "Sequence[Promise]") -> Iterator[str]:
    """What needle trials will be able to show, a line for all lengths of which the same is said."""
    said: dict[str, list[str]] = {}
    for one in promised:
        said.setdefault(f"{_promise(one)}\0{one.kind}", []).append(needle.tokens(one.length))
    for words, lengths in said.items():
        promise, _, kind = words.partition("\0")
        yield f"{kind} at {', '.join(lengths)}: {promise}"


def _promise(one: "Promise") -> str:
    width = f"{one.trials} trials: accuracy within {one.half_width * 100:.0f} points, if 90 % are right"
    if one.detectable is None:
        position = "not powered for position"
    else:
        dip = f"{math.ceil(one.detectable * 100)} points"
        position = (
            f"a dip of {dip} would usually be found"
            if one.powered
            else f"not powered for position (a dip smaller than {dip} would usually be missed)"
        )
    wrong = "too few to certify the length" if one.may_be_wrong is None else f"certified with {one.may_be_wrong} wrong"
    return f"{width}; {position}; {wrong}"


def _lines(found: Estimate, name: str) -> Iterator[str]:
    yield f"{name} would send {price_line(found)}"
    several = len(found.endpoints) > 1
    yield f"endpoint{'s' if several else ''}: {', '.join(found.endpoints)}"
    yield f"duration: {_duration(found.seconds)}"
    for index, step in enumerate(found.steps):
        yield f"step {index}: {step.load}"
        each = " to each endpoint" if several else ""
        yield f"  requests{each}: {_requests(step)}"
        yield f"  duration: {_duration(step.seconds)}"
        yield f"  a request: {_tokens(step.request_input_tokens, step.request_output_tokens)}{_prices(step)}"
        if step.input_tokens is not None and step.output_tokens is not None:
            usd = "" if step.usd is None else f", about {dollars(step.usd)} USD"
            yield f"  the step: {_tokens(step.input_tokens, step.output_tokens)}{usd}"
        yield f"  percentiles{' of each endpoint' if several else ''}: {_percentiles(step)}"


def _requests(step: StepEstimate) -> str:
    if step.requests is None:
        return "as many as the duration allows"
    parts = [figures.count(step.requests)]
    if step.arrivals != step.requests:
        at_most = "" if step.measured is not None else ", at most"
        parts.append(f"in {figures.count(step.arrivals)} {step.arrive}{at_most}")
    if step.measured is not None and step.measured != step.requests:
        parts.append(f"({figures.count(step.measured)} after the warm-up)")
    return " ".join(parts)


def _duration(seconds: float | None) -> str:
    return "as long as the answers take" if seconds is None else f"at most {seconds:,.4g} s, and the last answers"


def _tokens(input_tokens: float, output_tokens: float) -> str:
    return f"about {short(input_tokens)} input and at most {short(output_tokens)} output tokens"


def _prices(step: StepEstimate) -> str:
    if len(step.request_usd) == 1:
        return "".join(f", about {dollars(usd)} USD" for usd in step.request_usd.values())
    return "".join(f", {name} about {dollars(usd)} USD" for name, usd in step.request_usd.items())


def _percentiles(step: StepEstimate) -> str:
    if step.percentiles is None:
        return "depend on how many requests there will be"
    return ", ".join(step.percentiles) or "none: too few requests"


def _comparison(power: Power) -> str:
    """How many requests tell two runs apart, and what that takes for granted."""
    needs = " and ".join(f"{count:,} for {name}" for name, count in power.requests.items())
    return (
        f"to compare: a ratio of {power.ratio:g} between two such runs is found with {power.power * 100:g} % power by"
        f" {needs}, in each of them and of each endpoint (beyond a margin of {power.margin:g}; lognormal latencies of"
        f" log-sigma {power.log_sigma:g}, independent: where requests wait for one another it takes more)"
    )
