"""Synthetic runs that never change: one step with everything in it, several steps, limits, and output modes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.analysis.groups import PromptInfo
from latbench.analysis.summary import summarise
from latbench.model.load import Closed, Poisson, Sessions, Step, ToolLoop
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Attempt, Sample, encode_gaps

S = 1_000_000_000
MS = 1_000_000
EVIL = "[red]evil[/red]\x1b[31m"
GOLDEN = Path(__file__).parent / "golden"

TASKS = {"generation": 60, "review": 8, "search": 35}
PROMPTS = {
    f"{task}-{number}": PromptInfo(task, "python" if number % 2 else "rust", ("short",), 90 * number, "h")
    for task, size in TASKS.items()
    for number in range(size)
}


def step(index: int, concurrency: int) -> StepRecord:
    start = index * 80 * S
    return StepRecord(index, "closed", concurrency, None, None, start, start + 10 * S, start + 70 * S)


def answer(
    rng: np.random.Generator,
    endpoint: str,
    of: StepRecord,
    seq: int,
    *,
    phase: str = "measure",
    sent_ns: int | None = None,
) -> Sample:
    """An `ok` sample with lognormal times."""
    from_ns = of.measure_from_ns if phase == "measure" else of.started_ns
    sent = from_ns + int(rng.uniform(0, 55 if phase == "measure" else 8) * S) if sent_ns is None else sent_ns
    first = sent + int(rng.lognormal(5.5, 0.4) * MS)
    tokens = int(rng.integers(20, 60))
    stamps = first + np.concatenate(([0], np.cumsum(rng.lognormal(2.8, 0.3, tokens - 1) * MS))).astype(np.int64)
    return Sample(
        endpoint,
        of.index,
        seq,
        list(PROMPTS)[seq % len(PROMPTS)],
        phase,
        "ok",
        due_ns=sent,
        sent_ns=sent,
        first_token_ns=first,
        first_text_ns=first,
        last_token_ns=int(stamps[-1]),
        done_ns=int(stamps[-1]) + MS,
        chunks=tokens,
        gaps=encode_gaps(stamps),
        input_tokens=100,
        output_tokens=tokens,
        token_source="usage",
        model="m-1",
        text_chars=4 * tokens,
        reference_tokens=tokens - 2,
    )


def refused(endpoint: str, of: StepRecord, seq: int, outcome: str, **fields: object) -> Sample:
    known: dict[str, Any] = {"endpoint": endpoint, "step": of.index, "seq": seq, "outcome": outcome, **fields}
    return Sample(prompt_id="review-1", phase="measure", **known)


def record(steps: list[StepRecord], **fields: object) -> RunRecord:
    endpoints = {
        "acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"},
        EVIL: {"provider": "ev|il", "api": "ollama", "model": "`m`<b>"},
    }
    known: dict[str, Any] = {"endpoints": endpoints, "state": "complete", "duration_s": 75.25, "workers": 2}
    known |= {
        "id": "3f2a9c",
        "name": "night",
        "scenario_name": "code-assistant",
        "scenario_sha256": "h",
        "scenario": {},
    }
    known |= {"started_at": "2026-11-22T14:00:00Z", "seed": 7, "steps": steps}
    return RunRecord(**(known | fields))


@pytest.fixture(scope="session")
def prompts() -> dict[str, PromptInfo]:
    return PROMPTS


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Two endpoints: one with plenty of answers, a hostile one with few and no figures."""
    rng = np.random.default_rng(11)
    only = step(0, 4)
    made = [answer(rng, "acme-large", only, seq) for seq in range(212)]
    made += [answer(rng, "acme-large", only, 300 + seq, phase="warmup") for seq in range(9)]
    for seq in range(3):
        wait = (seq + 1) * S
        made.append(refused("acme-large", only, 400 + seq, "rate_limited", kind="requests", wait_ns=wait))
    made.append(refused(EVIL, only, 0, "ok", model="\x1b]0;title\x07other|model"))
    made.append(refused(EVIL, only, 1, "malformed", error_message="=cmd()"))
    return made


@pytest.fixture(scope="session")
def one_step(samples: list[Sample]) -> dict[str, Any]:
    """The summary of `samples`."""
    notes = [
        {"code": "reduced_precision", "value": "hooks of the HTTP library are gone", "advice": "pin the version"},
        {"code": "clock", "value": 0.125, "limit": 0.5, "advice": "worth knowing"},
    ]
    stops = [(EVIL, "not one answer could be decoded")]
    run = record([step(0, 4)], notes=notes, stops=stops, window="peak", labels={"region": "eu"})
    return summarise(run, samples, PROMPTS)


@pytest.fixture(scope="session")
def three_steps() -> dict[str, Any]:
    """The summary of two closed steps and an open one."""
    rng = np.random.default_rng(12)
    made = []
    steps = [step(0, 1), step(1, 4), StepRecord(2, "poisson", None, 2.5, None, 160 * S, 170 * S, 230 * S)]
    for each in steps:
        made += [answer(rng, "acme-large", each, seq) for seq in range(40 + 40 * each.index)]
        made += [refused("acme-large", each, 500 + seq, "overloaded") for seq in range(each.index)]
    endpoints = {"acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"}}
    run = record(steps, endpoints=endpoints, state="partial", workers=1, duration_s=None)
    return summarise(run, made, PROMPTS)


def turns(rng: np.random.Generator, of: StepRecord, session: int, number: int) -> list[Sample]:
    """A conversation: each turn is due two seconds after the answer before it, and sent a little later."""
    due_ns, made = of.measure_from_ns + int(rng.uniform(0, 40) * S), []
    for turn in range(number):
        one = answer(rng, "acme-large", of, session * number + turn, sent_ns=due_ns + (1 + turn) * MS)
        made.append(msgspec.structs.replace(one, due_ns=due_ns))
        assert one.last_token_ns is not None
        due_ns = one.last_token_ns + 2 * S
    return made


@pytest.fixture(scope="session")
def conversations() -> dict[str, Any]:
    """The summary of one step of sessions, with an SLO, a price and figures that lead."""
    rng = np.random.default_rng(13)
    load = Step(Sessions(0.5, 3, 2 * S), duration_ns=60 * S, warmup_ns=10 * S, max_in_flight=20)
    only = StepRecord(0, "sessions", None, 0.5, None, 0, 10 * S, 70 * S, load)
    made = [one for session in range(30) for one in turns(rng, only, session, 3)]
    made += [refused("acme-large", only, 90, "overloaded"), refused("acme-large", only, 93, "dropped")]
    run = record(
        [only],
        endpoints={"acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"}},
        slo={"ttft": 400.0, "e2e_tokens_per_s": 20.0},
        prices={"acme-large": {"input": 3.0, "output": 15.0}},
        lead=["ttft", "e2e", "generation_tokens_per_s", "total_time", "requests_per_min", "usd_per_1k_tokens"],
    )
    return summarise(run, made, PROMPTS)


@pytest.fixture(scope="session")
def tool_loops() -> dict[str, Any]:
    """The summary of one step of tool loops: three round trips each, two calls of a second in the first two."""
    rng = np.random.default_rng(16)
    load = Step(ToolLoop(0.5, 4), duration_ns=60 * S, warmup_ns=10 * S)
    only = StepRecord(0, "tool_loop", None, 0.5, None, 0, 10 * S, 70 * S, load)
    made = []
    for loop in range(80):
        due_ns = only.measure_from_ns + int(rng.uniform(0, 40) * S)
        for turn in range(3):
            one = answer(rng, "acme-large", only, loop * 4 + turn, sent_ns=due_ns)
            times = {} if turn == 2 else {"tools_parallel_ns": S, "tools_sequential_ns": 2 * S}
            calls = 0 if turn == 2 else 2
            made.append(msgspec.structs.replace(one, due_ns=due_ns, tool_calls=calls, **times))
            due_ns = (one.done_ns or 0) + S
    made.append(refused("acme-large", only, 4 * 80, "overloaded"))
    run = record([only], endpoints={"acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"}})
    return summarise(run, made, PROMPTS)


@pytest.fixture(scope="session")
def levels() -> dict[str, Any]:
    """The summary of three levels, the last of which does not hold the SLO; the middle one is of sessions."""
    rng = np.random.default_rng(14)
    shapes = (Closed(4), Sessions(1.0, 4), Poisson(4.0))
    steps, made = [], []
    for index, shape in enumerate(shapes):
        load = Step(shape, duration_ns=60 * S, warmup_ns=10 * S)
        start = index * 80 * S
        steps.append(
            StepRecord(index, load.name, load.concurrency, load.rate, None, start, start + 10 * S, start + 70 * S, load)
        )
        if isinstance(shape, Sessions):
            made += [one for session in range(40) for one in turns(rng, steps[-1], session, shape.turns)]
        else:
            made += [answer(rng, "acme-large", steps[-1], seq) for seq in range(80 + 80 * index)]
    made += [refused("acme-large", steps[2], 500 + seq, "overloaded") for seq in range(20)]
    run = record(
        steps,
        endpoints={"acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"}},
        slo={"e2e": 2000.0},
        prices={"acme-large": {"input": 3.0, "output": 15.0}},
        lead=["e2e", "total_time"],
    )
    return summarise(run, made, PROMPTS)


@pytest.fixture(scope="session")
def limited() -> dict[str, Any]:
    """Two endpoints of one provider at a bucket of 2/s and burst 20, with keys, promises and a demand."""
    rng = np.random.default_rng(15)
    load = Step(Poisson(4.0), duration_ns=120 * S)
    only = StepRecord(0, "poisson", None, 4.0, None, 0, 0, 120 * S, load)
    made, level, last_s = [], 20.0, 0.0
    for seq, at_s in enumerate(np.cumsum(rng.exponential(0.25, 470)).tolist()):
        level, last_s = min(20.0, level + 2 * (at_s - last_s)), at_s
        sent, seen = int(at_s * S), {"requests": (120, int(level), None)}
        if level >= 1:
            level -= 1
            one = answer(rng, "acme-large", only, seq, sent_ns=sent)
            made.append(msgspec.structs.replace(one, key_index=seq % 2, headroom=seen))
        else:
            known: dict[str, Any] = {"sent_ns": sent, "done_ns": sent + MS, "wait_ns": S, "kind": "requests"}
            made.append(refused("acme-large", only, seq, "rate_limited", **known, key_index=seq % 2, headroom=seen))
    again = [Attempt(0, 5 * S, 6 * S, "rate_limited", 429, "tokens", wait_ns=2 * S)]
    late = msgspec.structs.replace(answer(rng, "acme-small", only, 0, sent_ns=9 * S), tries=again, waited_ns=3 * S)
    made += [late, refused("acme-small", only, 1, "rate_limited", kind="daily", sent_ns=10 * S)]
    endpoints = {
        name: {"provider": "acme", "api": "openai-chat", "model": "m-1"} for name in ("acme-large", "acme-small")
    }
    run = record(
        [only],
        endpoints=endpoints,
        promised={"acme-large": {"rpm": 240, "tpm": 200_000}, "acme-small": {"rpd": 1000}},
        demand={"rpm": 300, "tokens_per_request": 2100},
    )
    return summarise(run, made, PROMPTS)


@pytest.fixture(scope="session")
def compared() -> dict[str, Any]:
    """The summary of one prompt after the other in three output modes, with a price."""
    rng = np.random.default_rng(16)
    only, made = step(0, 4), []
    modes = ["text", "prompted", "tool"]
    for seq in range(180):
        pair, place = divmod(seq, 3)
        mode = modes[(place + pair) % 3]
        one = answer(rng, "acme-large", only, seq)
        assert one.sent_ns is not None
        assert one.first_token_ns is not None
        assert one.last_token_ns is not None
        longer = {"text": 1.0, "prompted": 1.02, "tool": 1.4}[mode]
        first = one.sent_ns + int((one.first_token_ns - one.sent_ns) * longer)
        last = one.sent_ns + int((one.last_token_ns - one.sent_ns) * longer)
        changed: dict[str, Any] = {"first_token_ns": first, "first_text_ns": first, "last_token_ns": last}
        valid = {"text": None, "prompted": pair % 3 > 0, "tool": pair != 7}[mode]
        prompt = list(PROMPTS)[pair % len(PROMPTS)]
        made.append(msgspec.structs.replace(one, **changed, prompt_id=prompt, output_mode=mode, valid=valid))
    made.append(refused("acme-large", only, 180, "stalled", sent_ns=20 * S, output_mode="text"))
    run = record(
        [only],
        endpoints={"acme-large": {"provider": "acme", "api": "openai-chat", "model": "m-1"}},
        scenario={"output": {"mode": modes}},
        prices={"acme-large": {"input": 3.0, "output": 15.0}},
        slo={"e2e": 2000.0},
    )
    return summarise(run, made, PROMPTS)


@pytest.fixture(scope="session")
def held_against() -> Callable[[str, str], None]:
    """Compare with a golden file; LATBENCH_GOLDEN=write makes it anew."""

    def compare(name: str, found: str) -> None:
        path = GOLDEN / name
        if os.environ.get("LATBENCH_GOLDEN") == "write":
            path.write_text(found, encoding="utf-8")
        assert found == path.read_text(encoding="utf-8")

    return compare
