"""Entries of `load`: which keys a shape has, and the steps that an entry comes to.

A field holds one value or several; the product of all lists, in the order written, is the steps. A key that the shape
does not have is an error, and so is a step whose end is too far away to be planned.
"""

import re
from collections.abc import Mapping
from itertools import product
from math import sqrt
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from latbench.model.load import Burst, Closed, Constant, Gamma, Poisson, Ramp, Sessions, Shape, Step, ToolLoop, Trace
from latbench.scenario.grammar import (
    LONGEST_NS,
    ONE_OR_MORE,
    UNITS_NS,
    Count,
    Duration,
    KeyPath,
    PositiveDuration,
    Rate,
    Record,
    Text,
    format_duration,
    format_rate,
    problems_at,
)

MOST_ARRIVALS = 20_000_000
"""Of one endpoint in one step of an open loop: they are computed before the step starts."""


MAX_ROUNDS = 8
"""Round trips after which a tool loop is given up, where the scenario does not say."""


class Keys(NamedTuple):
    """The keys of a shape, besides those that every shape has."""

    needed: tuple[str, ...]
    further: tuple[str, ...] = ()


_EVERY = ("duration", "requests", "warmup")
SHAPES = {
    "closed": Keys(("concurrency",), ("think",)),
    "constant": Keys(("rate",), ("max_in_flight",)),
    "poisson": Keys(("rate",), ("max_in_flight",)),
    "gamma": Keys(("rate", "cv"), ("max_in_flight",)),
    "ramp": Keys(("from", "to", "duration"), ("max_in_flight",)),
    "burst": Keys(("size", "every"), ("max_in_flight",)),
    "trace": Keys(("path",), ("sha256", "max_in_flight")),
    "sessions": Keys(("turns", "rate"), ("think", "max_in_flight")),
    "tool_loop": Keys(("rate",), ("execution", "max_rounds", "max_in_flight")),
}


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("must be the SHA-256 of the file, 64 hexadecimal digits")
    return value


def default_warmup_ns(requests: int | None, duration_ns: int | None) -> int:
    """Nothing for a step that counts requests; else max(10 s, 10 %), but at most a third of the duration."""
    if requests is not None or duration_ns is None:
        return 0
    return min(max(10 * UNITS_NS["s"], duration_ns // 10), duration_ns // 3)


class LoadEntry(Record):
    """An entry of `load`. Each field holds one value or several; their product, in the order written, is the steps."""

    shape: Annotated[
        tuple[
            Literal["closed", "constant", "poisson", "gamma", "ramp", "burst", "trace", "sessions", "tool_loop"], ...
        ],
        ONE_OR_MORE,
    ]
    concurrency: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    think: Annotated[tuple[Duration, ...], ONE_OR_MORE] = ()
    rate: Annotated[tuple[Rate, ...], ONE_OR_MORE] = ()
    cv: Annotated[tuple[Annotated[float, Field(ge=0.01, le=10, strict=True)], ...], ONE_OR_MORE] = ()
    from_: Annotated[tuple[Rate, ...], ONE_OR_MORE] = Field(default=(), alias="from")
    to: Annotated[tuple[Rate, ...], ONE_OR_MORE] = ()
    size: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    every: Annotated[tuple[PositiveDuration, ...], ONE_OR_MORE] = ()
    path: Annotated[tuple[Text, ...], ONE_OR_MORE] = ()
    sha256: Annotated[str, Field(strict=True), AfterValidator(_digest)] | None = None
    turns: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    execution: Annotated[tuple[Literal["parallel", "sequential"], ...], ONE_OR_MORE] = ()
    max_rounds: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    duration: Annotated[tuple[PositiveDuration, ...], ONE_OR_MORE] = ()
    requests: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    warmup: Annotated[tuple[Duration, ...], ONE_OR_MORE] = ()
    max_in_flight: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    _written: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        entry = handler(data)
        assert isinstance(data, Mapping)  # the handler has refused everything else
        entry._written = tuple(data)
        problems = entry._misfits() or entry._too_long()
        if problems:
            raise problems_at(problems)
        return entry

    def _values(self, key: str) -> tuple[Any, ...]:
        value = getattr(self, "from_" if key == "from" else key)
        return value if isinstance(value, tuple) else (value,) if value is not None else ()

    def _misfits(self) -> list[tuple[KeyPath, str]]:
        """What does not fit the shape, or each of the shapes."""
        if not self.shape:
            return [(("shape",), "is empty; give it a value")]
        found: dict[KeyPath, str] = {}
        for shape in self.shape:
            keys = SHAPES[shape]
            its = (*keys.needed, *(key for key in (*_EVERY, *keys.further) if key not in keys.needed))
            for key in self._written:
                if key != "shape" and key not in its and self._values(key):
                    found.setdefault((key,), f"{shape} does not have it; its keys are: {', '.join(its)}")
            for key in keys.needed:
                if not self._values(key):
                    what = "is empty; give it a value" if key in self._written else "missing; add it"
                    found.setdefault((key,), f"{what}: {shape} needs {', '.join(keys.needed)}")
            if shape != "trace" and not self.duration and not self.requests and "duration" not in keys.needed:
                found.setdefault((), "needs duration or requests")
        return list(found.items())

    def _too_long(self) -> list[tuple[KeyPath, str]]:
        messages = (_endless(step) for step in self.steps())
        first = next((message for message in messages if message is not None), None)
        return [] if first is None else [((), first)]

    def steps(self) -> list[Step]:
        """The product of all lists; the first written varies slowest. A trace is without its arrivals."""
        lists = {key: values for key in self._written if (values := self._values(key))}
        return [_step(dict(zip(lists, values, strict=True))) for values in product(*lists.values())]


def _step(given: Mapping[str, Any]) -> Step:
    requests, duration_ns = given.get("requests"), given.get("duration")
    warmup_ns = given.get("warmup")
    if warmup_ns is None:
        warmup_ns = 0 if given["shape"] == "trace" else default_warmup_ns(requests, duration_ns)
    return Step(_shape(given), requests, duration_ns, warmup_ns, given.get("max_in_flight"))


def _shape(given: Mapping[str, Any]) -> Shape:
    think_ns = given.get("think", 0)
    match given["shape"]:
        case "closed":
            return Closed(given["concurrency"], think_ns)
        case "constant":
            return Constant(given["rate"])
        case "poisson":
            return Poisson(given["rate"])
        case "gamma":
            return Gamma(given["rate"], given["cv"])
        case "ramp":
            return Ramp(given["from"], given["to"])
        case "burst":
            return Burst(given["size"], given["every"])
        case "sessions":
            return Sessions(given["rate"], given["turns"], think_ns)
        case "tool_loop":
            return ToolLoop(given["rate"], given.get("max_rounds", MAX_ROUNDS), given.get("execution") != "sequential")
    return Trace(given["path"], b"", b"", b"")


def written(step: Step) -> dict[str, Any]:
    """The entry that expands to this step alone."""
    entry = {"shape": step.name} | _written(step.shape)
    if step.max_in_flight is not None:
        entry["max_in_flight"] = step.max_in_flight
    return entry | end_of(step) | {"warmup": format_duration(step.warmup_ns)}


def _written(shape: Shape) -> dict[str, Any]:
    match shape:
        case Closed(concurrency=concurrency, think_ns=think_ns):
            return {"concurrency": concurrency, "think": format_duration(think_ns)}
        case Constant(rate=rate) | Poisson(rate=rate):
            return {"rate": format_rate(rate)}
        case Gamma(rate=rate, cv=cv):
            return {"rate": format_rate(rate), "cv": cv}
        case Ramp(start=start, end=end):
            return {"from": format_rate(start), "to": format_rate(end)}
        case Burst(size=size, every_ns=every_ns):
            return {"size": size, "every": format_duration(every_ns)}
        case Sessions(rate=rate, turns=turns, think_ns=think_ns):
            return {"turns": turns, "rate": format_rate(rate), "think": format_duration(think_ns)}
        case ToolLoop(rate=rate, max_rounds=rounds):
            return {"rate": format_rate(rate), "execution": shape.execution, "max_rounds": rounds}
    return {"path": shape.path}


def end_of(step: Step) -> dict[str, Any]:
    """What ends a step, as it is written."""
    duration = None if step.duration_ns is None else format_duration(step.duration_ns)
    return {key: value for key, value in (("requests", step.requests), ("duration", duration)) if value is not None}


def _endless(step: Step) -> str | None:
    """Why a step cannot be planned, if it cannot: it has too many arrivals, or takes too long."""
    if step.rate is None:
        return None  # a closed loop has no arrivals to plan, and a trace is as long as its file
    turns = step.most_turns or 1
    if step.duration_ns is None:
        assert step.requests is not None
        arrivals = float(step.requests)
        if step.requests / step.rate * UNITS_NS["s"] > LONGEST_NS:
            return f"{step.words}: {step.requests:,} would take longer than 8760h; raise the rate or ask for fewer"
    else:
        arrivals = _most_within(step)
        if step.requests is not None:
            arrivals = min(arrivals, step.requests)
    if arrivals * turns > MOST_ARRIVALS:
        return (
            f"{step.words}: about {arrivals * turns:,.0f} requests, more than {MOST_ARRIVALS:,} cannot be planned; "
            "lower its rate, requests or duration"
        )
    return None


def _most_within(step: Step) -> float:
    """How many arrivals the duration may hold: what is expected, and six standard deviations of what is drawn."""
    assert step.rate is not None
    seconds = step.end_ns / UNITS_NS["s"]
    expected, cv = step.rate * seconds, 1.0
    match step.shape:
        case Constant():
            cv = 0.0
        case Burst(size=size, every_ns=every_ns):
            return float(-(-step.end_ns // every_ns) * size)
        case Gamma(cv=cv):
            pass
        case Ramp(start=start, end=end):
            expected = (start * step.warmup_ns + (start + end) / 2 * (step.end_ns - step.warmup_ns)) / UNITS_NS["s"]
    return expected + 6 * cv * sqrt(expected)
