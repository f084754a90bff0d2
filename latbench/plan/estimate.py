"""What a load will send, and what that costs, said before anything is sent.

Arrivals of an open loop are counted exactly: they are computed from the seed as the engines compute them. Nobody knows
how many requests a closed loop by duration makes: its totals are None, and the cost of a request stands for itself.

Input tokens are the mean over the prompts by their weights, in o200k tokens: a provider counts with a tokenizer of its
own and adds its template: a price is an estimate, and no bound, though it takes every answer as long as it may be.
Output tokens are the most that may be asked for. A turn of a session is counted with all
turns before it, prompts and answers, the answers as long as they may be. A tool loop is counted with all the round
trips that it may have, and in each of them the definitions of the tools and, for each turn before, one result, the
longest: most loops are over much earlier.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from latbench.analysis.stats import NEED
from latbench.model.load import Sessions, Step, ToolLoop, Trace
from latbench.model.request import Ask, Endpoint, Prompt, Tool
from latbench.plan.arrivals import arrivals, sequence
from latbench.plan.budget import Amount, Limits, Price, worst_case
from latbench.plan.draw import NONCE_CHARS, open_with
from latbench.providers.registry import DIALECTS
from latbench.scenario.tokens import count as tokens_of

_NANO = 1e9
_Number = TypeVar("_Number", int, float)


class StepEstimate(msgspec.Struct, frozen=True):
    """One step; None is not known before the start. `arrive` says what arrives: requests, sessions or tool loops.

    `arrivals` (sessions, tool loops, else requests), `requests` and `measured` are for each endpoint, the rest of the
    totals over all endpoints; all but `measured` include the warm-up. `request_*` are for one request, and
    `request_usd` for that of each endpoint that has a price. `seconds` ends before the last answers are awaited.
    `percentiles` are those that `measured` requests of an endpoint suffice for, if all of them are `ok`.
    """

    load: str
    arrive: str
    arrivals: int | None
    requests: int | None
    measured: int | None
    request_input_tokens: float
    request_output_tokens: float
    request_usd: dict[str, float]
    total_requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    seconds: float | None
    percentiles: list[str] | None


class Estimate(msgspec.Struct, frozen=True):
    """The whole load. `usd` counts endpoints with a price only, `unpriced` names the others.

    `over` names the limits of the budget (`requests`, `tokens`, `usd`) that the plan would exceed; where its totals are
    not known, none.
    """

    endpoints: list[str]
    unpriced: list[str]
    steps: list[StepEstimate]
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    seconds: float | None
    budget: Limits
    over: list[str]


def estimate(
    steps: Sequence[Step],
    endpoints: Sequence[str],
    prices: Mapping[str, Mapping[str, float]],
    prompts: Sequence[Prompt],
    weights: Mapping[str, float],
    max_tokens: int,
    budget: Limits,
    seed: int,
    tools: Sequence[Tool] = (),
) -> Estimate:
    """What `steps` send to `endpoints` (names), with the prices and weights of the run and the scenario's `max_tokens`.

    Raises ValueError for a step with more arrivals than a run can have.
    """
    priced = {name: price for name in endpoints if (price := Price.of(prices.get(name))) is not None}
    sizes = _Sizes(prompts, weights, max_tokens, tools)
    found = [_step(step, _offsets(step, seed, index), sizes, endpoints, priced) for index, step in enumerate(steps)]
    requests = _sum([step.total_requests for step in found])
    tokens = [_sum([step.input_tokens for step in found]), _sum([step.output_tokens for step in found])]
    usd = _sum([step.usd for step in found])
    needs = {"requests": requests, "tokens": _sum(tokens), "usd": usd}
    limits = {
        "requests": budget.requests,
        "tokens": budget.tokens,
        "usd": None if budget.nano_usd is None else budget.nano_usd / _NANO,
    }
    return Estimate(
        endpoints=list(endpoints),
        unpriced=[name for name in endpoints if name not in priced],
        steps=found,
        requests=requests,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        usd=usd,
        seconds=_sum([step.seconds for step in found]),
        budget=budget,
        over=[name for name, need in needs.items() if need is not None and need > _or_infinity(limits[name])],
    )


def _or_infinity(limit: float | None) -> float:
    return float("inf") if limit is None else limit


def _sum(parts: Sequence[_Number | None]) -> _Number | None:
    """The sum, None where a part is."""
    known = [part for part in parts if part is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(parts) else None


class _Sizes:
    """How long requests are and how long their answers may be, in tokens."""

    def __init__(
        self, prompts: Sequence[Prompt], weights: Mapping[str, float], max_tokens: int, tools: Sequence[Tool]
    ) -> None:
        there = Counter(prompt.task for prompt in prompts)
        share = {task: weight / sum(weights.values()) / there[task] for task, weight in weights.items()}
        drawn = [prompt for prompt in prompts if prompt.task in share]
        self._input = {prompt.id: prompt.tokens for prompt in prompts}
        self._output = {prompt.id: min(max_tokens, prompt.max_tokens or max_tokens) for prompt in prompts}
        self.mean_input = sum(share[prompt.task] * prompt.tokens for prompt in drawn)
        self.most_output = max(self._output[prompt.id] for prompt in drawn)
        self._tools = sum(tokens_of(tool.name + tool.description + json.dumps(tool.parameters)) for tool in tools)
        self._result = max((tokens_of(tool.result) for tool in tools), default=0)

    def mean_of(self, step: Step, offsets: np.ndarray | None) -> tuple[float, float]:
        """Input and output tokens of a request of the step, on average."""
        match step.shape:
            case Trace() as trace if offsets is not None and len(offsets):
                return self._mean_of_trace(trace, len(offsets))
            case Sessions(turns=turns):
                # Turn t has t + 1 prompts and t answers in it: over all turns (turns + 1) / 2 and (turns - 1) / 2.
                earlier = self.most_output * (turns - 1) / 2
                return self.mean_input * (turns + 1) / 2 + earlier, self.most_output
            case ToolLoop(max_rounds=rounds):
                earlier = (self.most_output + self._result) * (rounds - 1) / 2
                return self.mean_input + self._tools + earlier, self.most_output
        return self.mean_input, self.most_output

    def _mean_of_trace(self, trace: Trace, count: int) -> tuple[float, float]:
        """A trace may name the prompt and the longest answer of each arrival."""
        chosen = np.frombuffer(trace.prompt, dtype="<i4")[:count]
        asked = np.frombuffer(trace.max_tokens, dtype="<i4")[:count]
        # The last entry is what -1 finds: a prompt that the seed draws.
        inputs = np.array([*(self._input[name] for name in trace.prompt_ids), self.mean_input])
        outputs = np.array([*(self._output[name] for name in trace.prompt_ids), self.most_output])
        return float(inputs[chosen].mean()), float(np.where(asked, asked, outputs[chosen]).mean())


def _offsets(step: Step, seed: int, index: int) -> np.ndarray | None:
    """The arrivals of an open loop, None in a closed one."""
    return arrivals(step, seed, index) if step.open else None


def _step(
    step: Step, offsets: np.ndarray | None, sizes: _Sizes, endpoints: Sequence[str], priced: Mapping[str, Price]
) -> StepEstimate:
    """One step, to all `endpoints`."""
    requests = step.requests if offsets is None else len(offsets) * sequence(step)
    measured = _measured(step, offsets)
    each_input, each_output = sizes.mean_of(step, offsets)
    total_input = None if requests is None else round(requests * each_input)
    total_output = None if requests is None else round(requests * each_output)
    usd = None
    if priced and total_input is not None and total_output is not None:
        usd = sum(price.nano_usd(total_input, total_output) for price in priced.values()) / _NANO
    return StepEstimate(
        load=step.words,
        arrive=step.arrive,
        arrivals=requests if offsets is None else len(offsets),
        requests=requests,
        measured=measured,
        request_input_tokens=each_input,
        request_output_tokens=each_output,
        request_usd={
            name: price.nano_usd(round(each_input), round(each_output)) / _NANO for name, price in priced.items()
        },
        total_requests=_times(requests, len(endpoints)),
        input_tokens=_times(total_input, len(endpoints)),
        output_tokens=_times(total_output, len(endpoints)),
        usd=usd,
        seconds=_seconds(step, offsets, 1 if step.slice_ns is None else len(endpoints)),
        percentiles=None if measured is None else [name for name, need in NEED.items() if need <= measured],
    )


def _times(each: int | None, count: int) -> int | None:
    return None if each is None else each * count


def _measured(step: Step, offsets: np.ndarray | None) -> int | None:
    """Requests of an endpoint that are due after the warm-up; of a session all turns are, if its first one is.

    None where nobody knows: of tool loops, and of a closed loop with a warm-up.
    """
    if isinstance(step.shape, ToolLoop):
        return None
    if offsets is not None:
        return int(np.count_nonzero(offsets >= step.warmup_ns)) * sequence(step)
    return None if step.warmup_ns else step.requests


def _seconds(step: Step, offsets: np.ndarray | None, turns: int) -> float | None:
    """From the start of the step to its end; `turns` endpoints are loaded one after the other."""
    end_ns = None if step.duration_ns is None else step.end_ns
    if offsets is not None and (end_ns is None or len(offsets) == step.requests):
        end_ns = int(offsets[-1]) if len(offsets) else 0
    return None if end_ns is None else end_ns * turns / _NANO


# --- whether a budget is enough for one request ----------------------------------------------------------------------


def smallest_request(
    endpoint: Endpoint,
    price: Mapping[str, float] | None,
    steps: Sequence[Step],
    prompts: Sequence[Prompt],
    weights: Mapping[str, float],
    max_tokens: int,
    *,
    cold: bool,
    tools: Sequence[Tool] = (),
) -> Amount:
    """The least, in each dimension, that a budget has to have left before any request may go to an endpoint.

    It is counted as the engine counts it: the bytes of the body for its input tokens, and the longest answer. A run
    whose budget is smaller cannot send anything.
    """
    named = {name for step in steps if isinstance(step.shape, Trace) for name in step.shape.prompt_ids}
    asked = {int(most) for step in steps if isinstance(step.shape, Trace) for most in _asked(step.shape)} - {0}
    loops = all(isinstance(step.shape, ToolLoop) for step in steps)
    rate = Price.of(price)
    least: Amount | None = None
    for prompt in prompts:
        if prompt.task not in weights and prompt.id not in named:
            continue
        longest = min(max_tokens, prompt.max_tokens or max_tokens, *asked)
        messages = open_with("0" * NONCE_CHARS, prompt.messages) if cold else prompt.messages
        body = DIALECTS[endpoint.api].build(endpoint, Ask(messages, longest, tools=tuple(tools) if loops else ())).body
        worst = worst_case(rate, len(body), longest)
        least = worst if least is None else least.least(worst)
    return least or Amount()


def _asked(trace: Trace) -> np.ndarray:
    return np.unique(np.frombuffer(trace.max_tokens, dtype="<i4"))


def too_small(limits: Limits, least: Amount) -> tuple[str, str] | None:
    """Which limit of a budget is smaller than any request, and why, if one is."""
    if limits.nano_usd is not None and least.nano_usd > limits.nano_usd:
        most, whole = (f"{dollars(amount / _NANO)} USD" for amount in (least.nano_usd, limits.nano_usd))
        return "usd", f"even the smallest request may cost {most}, more than the whole budget of {whole}"
    if limits.tokens is not None and least.tokens > limits.tokens:
        most, whole = f"{least.tokens:,}", f"{limits.tokens:,}"
        return "tokens", f"even the smallest request may take {most} tokens, more than the whole budget of {whole}"
    return None


# --- the price in one line -------------------------------------------------------------------------------------------


def price_line(found: Estimate) -> str:
    """What is said before the start, in one line: how many requests at most, their tokens, their price, the budget.

    "At most" is said of bounds only: of the price and the input tokens, which are estimates, "about".
    """
    if found.requests is None or found.input_tokens is None or found.output_tokens is None:
        return _price_of_one(found)
    tokens = f"about {short(found.input_tokens)} input and at most {short(found.output_tokens)} output tokens"
    budget = _budget(found.budget)
    ends = ", which ends it earlier" if found.over else ""
    after = f" (budget: {budget}{ends})" if budget else ""
    return f"at most {short(found.requests)} requests, {tokens}, {_price(found, found.usd)}{after}"


def _price_of_one(found: Estimate) -> str:
    """The line of a load whose number of requests nobody knows: its dearest request."""
    input_tokens = max(step.request_input_tokens for step in found.steps)
    output_tokens = max(step.request_output_tokens for step in found.steps)
    dearest = max((usd for step in found.steps for usd in step.request_usd.values()), default=None)
    budget = _budget(found.budget)
    limit = f"the duration and the budget ({budget})" if budget else "the duration"
    return (
        f"about {short(input_tokens)} input and at most {short(output_tokens)} output tokens a request, "
        f"{_price(found, dearest)}{'' if dearest is None else ' each'}; no limit on their number but {limit}"
    )


def _price(found: Estimate, usd: float | None) -> str:
    if usd is None:
        return "price unknown"
    without = f" without {', '.join(found.unpriced)}, of unknown price" if found.unpriced else ""
    return f"about {dollars(usd)} USD{without}"


def _budget(budget: Limits) -> str:
    parts = [] if budget.nano_usd is None else [f"{dollars(budget.nano_usd / _NANO)} USD"]
    parts += [] if budget.requests is None else [f"{short(budget.requests)} requests"]
    parts += [] if budget.tokens is None else [f"{short(budget.tokens)} tokens"]
    return ", ".join(parts)


def short(number: float) -> str:
    """Three digits and a unit as sizes have it: `951k`, `12.8k`, `3M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def dollars(usd: float) -> str:
    """Cents from 1 USD on, two digits below: `3.05`, `0.011`."""
    return (
        f"{usd:,.2f}".removesuffix(".00")
        if usd >= 1
        else np.format_float_positional(usd, 2, fractional=False, trim="-")
    )
