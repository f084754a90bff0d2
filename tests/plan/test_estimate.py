"""What is promised before the start is what the plan holds, and says so where nobody can know."""

from typing import Any

import numpy as np
import pytest

from latbench.model.load import Burst, Closed, Constant, Poisson, Sessions, Step, ToolLoop, Trace
from latbench.model.request import Ask, Endpoint, Message, Prompt, Tool
from latbench.plan.arrivals import arrivals
from latbench.plan.budget import TEMPLATE_TOKENS, Amount, Limits
from latbench.plan.draw import NONCE_CHARS, open_with
from latbench.plan.estimate import Estimate, dollars, estimate, price_line, short, smallest_request, too_small
from latbench.providers.registry import DIALECTS
from latbench.scenario.tokens import count

S = 1_000_000_000
PRICES = {"a": {"input": 3.0, "output": 15.0}, "b": {"input": 1.0, "output": 2.0, "cached_input": 0.1}}


def prompt(name: str, task: str, tokens: int, max_tokens: int | None = None) -> Prompt:
    return Prompt(name, task, "go", (Message("user", name),), tokens, name, max_tokens=max_tokens)


PROMPTS = [
    prompt("r1", "review", 1000),
    prompt("r2", "review", 3000),
    prompt("s1", "search", 400),
    prompt("x", "no", 9),
]
WEIGHTS = {"review": 0.75, "search": 0.25}
MEAN = 0.75 * 2000 + 0.25 * 400


def of(*steps: Step, **changed: Any) -> Estimate:
    given = {"endpoints": ["a"], "prices": PRICES, "prompts": PROMPTS, "weights": WEIGHTS, "max_tokens": 100}
    return estimate(steps, **(given | {"budget": Limits(), "seed": 7} | changed))


def test_a_closed_loop_by_requests() -> None:
    found = of(Step(Closed(4), requests=50))
    (step,) = found.steps
    assert (step.load, step.arrivals, step.requests, step.measured, step.seconds) == ("closed 4", 50, 50, 50, None)
    assert (step.request_input_tokens, step.request_output_tokens) == (MEAN, 100)
    assert (found.requests, found.input_tokens, found.output_tokens) == (50, 80_000, 5_000)
    assert found.usd == pytest.approx(0.08 * 3 + 0.005 * 15)
    assert step.request_usd == {"a": pytest.approx(0.0048 + 0.0015)}
    assert step.percentiles == ["p10", "p50", "p90"]
    assert price_line(found) == "at most 50 requests, about 80k input and at most 5k output tokens, about 0.32 USD"


def test_a_closed_loop_by_requests_with_a_warm_up() -> None:
    (step,) = of(Step(Closed(4), requests=50, duration_ns=60 * S, warmup_ns=S)).steps
    assert (step.requests, step.measured, step.percentiles, step.seconds) == (50, None, None, 61)


def test_nobody_knows_how_many_a_closed_loop_by_duration_sends() -> None:
    found = of(Step(Closed(4), duration_ns=60 * S, warmup_ns=10 * S), Step(Closed(1), requests=5))
    assert (found.requests, found.input_tokens, found.output_tokens, found.usd, found.seconds) == (None,) * 5
    first = found.steps[0]
    assert (first.arrivals, first.requests, first.input_tokens, first.usd, first.percentiles) == (None,) * 5
    assert first.seconds == 70
    assert price_line(found) == (
        "about 1.6k input and at most 100 output tokens a request, about 0.0063 USD each; "
        "no limit on their number but the duration"
    )


def test_the_budget_is_named_as_a_limit() -> None:
    budget = Limits.of(usd=5.0, requests=5000, tokens=3_000_000)
    assert price_line(of(Step(Closed(4), duration_ns=S), budget=budget)).endswith(
        "no limit on their number but the duration and the budget (5 USD, 5k requests, 3M tokens)"
    )


def test_an_open_loop_is_counted_as_it_will_be_sent() -> None:
    step = Step(Poisson(8.0), duration_ns=60 * S, warmup_ns=10 * S)
    offsets = [arrivals(step, 7, index) for index in (0, 1)]
    found = of(step, step)
    assert [one.requests for one in found.steps] == [len(one) for one in offsets]
    assert [one.measured for one in found.steps] == [int(np.count_nonzero(one >= 10 * S)) for one in offsets]
    assert found.requests == sum(len(one) for one in offsets)
    assert found.seconds == 140
    assert of(step, seed=8).requests != of(step).requests


def test_requests_end_an_open_loop_before_its_duration() -> None:
    (step,) = of(Step(Constant(2.0), requests=11, duration_ns=60 * S)).steps
    assert (step.requests, step.seconds) == (11, 5)
    assert of(Step(Burst(5, 10 * S), requests=10)).seconds == 10
    assert of(Step(Constant(1.0), requests=0)).seconds == 0


def test_several_endpoints_each_get_everything() -> None:
    step = Step(Constant(1.0), duration_ns=60 * S, slice_ns=20 * S)
    found = of(step, endpoints=["a", "b", "c"])
    assert found.steps[0].requests == 60
    assert (found.requests, found.input_tokens, found.output_tokens) == (180, 288_000, 18_000)
    assert found.seconds == 180, "they take turns"
    assert of(Step(Constant(1.0), duration_ns=60 * S), endpoints=["a", "b"]).seconds == 60
    assert found.usd == pytest.approx(0.096 * 4 + 0.006 * 17)
    assert found.unpriced == ["c"]
    assert price_line(found).endswith("about 0.49 USD without c, of unknown price")


def test_a_price_that_nobody_gave_is_unknown() -> None:
    found = of(Step(Constant(1.0), duration_ns=60 * S), prices={})
    assert (found.usd, found.unpriced, found.steps[0].request_usd) == (None, ["a"], {})
    assert price_line(found).endswith("output tokens, price unknown")
    assert "a request, price unknown; no limit" in price_line(of(Step(Closed(1), duration_ns=S), prices={}))


def test_a_turn_carries_the_earlier_ones() -> None:
    found = of(Step(Sessions(1.0, 3), requests=10))
    (step,) = found.steps
    assert (step.arrivals, step.requests, step.measured) == (10, 30, 30)
    # Prompts: 1 + 2 + 3 of them; answers before them: 0 + 1 + 2.
    assert found.input_tokens == 10 * (6 * MEAN + 3 * 100)
    assert found.output_tokens == 30 * 100


def test_prompts_may_ask_for_less() -> None:
    prompts = [prompt("r1", "review", 10, 20), prompt("s1", "search", 10, 500), prompt("x", "no", 9, 90)]
    assert of(Step(Closed(1), requests=2), prompts=prompts).output_tokens == 200
    prompts[1] = prompt("s1", "search", 10, 30)
    assert of(Step(Closed(1), requests=2), prompts=prompts).output_tokens == 60


def trace(prompts: list[int], asked: list[int], requests: int) -> Step:
    offsets = np.arange(len(prompts), dtype="<i8") * S
    shape = Trace(
        "t.csv", offsets.tobytes(), np.array(prompts, "<i4").tobytes(), np.array(asked, "<i4").tobytes(), ("s1", "r2")
    )
    return Step(shape, requests=requests)


def test_a_trace_says_what_it_sends() -> None:
    found = of(trace([0, 1, -1, 1], [0, 7, 300, 0], 4))
    assert found.input_tokens == 400 + 3000 + MEAN + 3000
    assert found.output_tokens == 100 + 7 + 300 + 100
    assert found.seconds == 3
    assert of(trace([0, 1, -1, 1], [0, 7, 300, 0], 2)).input_tokens == 3400
    assert of(trace([0], [0], 0)).input_tokens == 0


@pytest.mark.parametrize(
    ("budget", "over"),
    [
        (Limits(), []),
        (Limits.of(usd=1.0, requests=50, tokens=85_000), []),
        (Limits(requests=49), ["requests"]),
        (Limits(tokens=84_999), ["tokens"]),
        (Limits.of(usd=0.31, requests=1), ["requests", "usd"]),
    ],
)
def test_what_the_budget_will_not_bear(budget: Limits, over: list[str]) -> None:
    found = of(Step(Closed(4), requests=50), budget=budget)
    assert found.over == over
    assert price_line(found).endswith("which ends it earlier)") == bool(over)


def test_a_budget_may_be_enough() -> None:
    line = price_line(of(Step(Closed(4), requests=50), budget=Limits.of(usd=5.0)))
    assert line.endswith("0.32 USD (budget: 5 USD)")


def test_too_many_arrivals_are_refused() -> None:
    with pytest.raises(ValueError, match="arrivals"):
        of(Step(Constant(1e6), duration_ns=3600 * S))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.7, "1k"), (12_800, "12.8k"), (951_000, "951k"), (3e6, "3M"), (2.5e9, "2.5G")],
)
def test_sizes_have_three_digits(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(3.05, "3.05"), (5, "5"), (1234.5, "1,234.50"), (0.0114, "0.011"), (1.2e-7, "0.00000012"), (0, "0")],
)
def test_dollars(usd: float, text: str) -> None:
    assert dollars(usd) == text


AT = Endpoint("a", "a", "openai-chat", "sim", "m")


def size(name: str, max_tokens: int, *, cold: bool = False) -> int:
    messages = (Message("user", name),)
    sent = open_with("0" * NONCE_CHARS, messages) if cold else messages
    return len(DIALECTS["openai-chat"].build(AT, Ask(sent, max_tokens)).body) + TEMPLATE_TOKENS


def least(*steps: Step, cold: bool = False, max_tokens: int = 100, prompts: list[Prompt] = PROMPTS) -> Amount:
    return smallest_request(AT, PRICES["a"], steps, prompts, WEIGHTS, max_tokens, cold=cold)


def test_the_smallest_request_is_counted_as_the_engine_counts_it() -> None:
    closed = Step(Closed(1), requests=5)
    tokens = size("r1", 100)
    assert least(closed) == Amount(1, tokens + 100, tokens * 3000 + 100 * 15000)
    assert least(closed, cold=True).tokens == size("r1", 100, cold=True) + 100 > tokens + 100
    shorter = [prompt("r1", "review", 9), prompt("s1", "search", 9, 20)]
    assert least(closed, prompts=shorter).tokens == size("s1", 20) + 20
    assert least(trace([0, 1], [7, 0], 2)).tokens == size("s1", 7) + 7
    odd = [*PROMPTS, prompt("y", "other", 9, 1)]
    assert least(closed, prompts=odd) == least(closed), "a prompt that nobody draws is not sent"
    assert smallest_request(AT, None, [closed], PROMPTS, WEIGHTS, 100, cold=False).nano_usd == 0
    assert least(closed, prompts=[]) == Amount()


@pytest.mark.parametrize(
    ("limits", "which"),
    [
        (Limits(), None),
        (Limits(requests=1), None),
        (Limits(tokens=500, nano_usd=3_000_000), None),
        (Limits(tokens=499), ("tokens", "may take 500 tokens, more than the whole budget of 499")),
        (Limits(nano_usd=2_999_999), ("usd", "may cost 0.003 USD, more than the whole budget of 0.003 USD")),
        (Limits(tokens=1, nano_usd=1_000_000), ("usd", "may cost 0.003 USD, more than the whole budget of 0.001 USD")),
    ],
)
def test_a_budget_that_no_request_fits_into(limits: Limits, which: tuple[str, str] | None) -> None:
    found = too_small(limits, Amount(1, 500, 3_000_000))
    assert (found is None) == (which is None)
    if found is not None and which is not None:
        assert found[0] == which[0]
        assert which[1] in found[1]


TOOLS = [Tool("f", "Finds it.", {"type": "object"}, "found " * 20, 0), Tool("g", "Goes.", {"type": "object"}, "no", 0)]


def test_a_tool_loop_is_counted_with_all_its_round_trips() -> None:
    """Each carries the tools, and from turn to turn one more answer and the longest result."""
    found = of(Step(ToolLoop(1.0, 5), requests=10), tools=TOOLS)
    (step,) = found.steps
    assert (step.arrive, step.arrivals, step.requests) == ("tool loops", 10, 50)
    assert (step.measured, step.percentiles) == (None, None)
    tools = sum(count(tool.name + tool.description + '{"type": "object"}') for tool in TOOLS)
    assert step.request_input_tokens == MEAN + tools + (100 + count(TOOLS[0].result)) * 2
    assert step.request_output_tokens == 100
    assert found.requests == 50
    assert of(Step(Sessions(1.0, 3), requests=1)).steps[0].arrive == "sessions"
    assert of(Step(Poisson(1.0), requests=1)).steps[0].arrive == "requests"


def test_the_smallest_request_of_tool_loops_offers_the_tools() -> None:
    to = Endpoint("e", "p", "openai-chat", "http://h", "m")
    loop, other = Step(ToolLoop(1.0), requests=1), Step(Poisson(1.0), requests=1)

    def least(*steps: Step) -> int:
        return smallest_request(to, None, steps, PROMPTS, WEIGHTS, 100, cold=True, tools=TOOLS).tokens

    assert least(loop) > least(other) == least(loop, other)
