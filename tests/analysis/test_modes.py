"""Output modes: each has a block of its own, overhead is measured inside pairs, valid answers are counted."""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from latbench.analysis import modes
from latbench.analysis.groups import PromptInfo
from latbench.analysis.summary import summarise
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample, encode_gaps
from latbench.plan.modes import arm

S = 1_000_000_000
MS = 1_000_000
PROMPTS = {f"p{number}": PromptInfo("generation", "python", (), 90, "h") for number in range(500)}
MODES = ("text", "prompted", "tool")
LONGER = {"text": 1.0, "prompted": 1.02, "json_schema": 1.1, "tool": 1.4}


def run(listed: Sequence[str] | str = MODES, *, steps: int = 1) -> RunRecord:
    records = [StepRecord(index, "closed", 4, None, None, 0, 0, 1000 * S) for index in range(steps)]
    scenario = {"output": {"mode": listed if isinstance(listed, str) else list(listed)}}
    endpoints = {"a": {"provider": "acme", "api": "openai-chat", "model": "m"}, "b": {}}
    return RunRecord(
        "i", "n", "s", "h", scenario, "t", 1, 0, endpoints=endpoints, steps=records, state="complete", duration_s=9.0
    )


def answer(seq: int, listed: Sequence[str] = MODES, *, prompts: int = 500, **fields: object) -> Sample:
    """An answer whose time depends on its pair, and by `LONGER` on its mode: 100 to 350 ms, then 10 gaps."""
    pair, mode = arm(seq, listed)
    unit_ms = (100 + pair * 37 % 251) * LONGER[mode]
    sent = seq * 5 * MS
    stamps = sent + (unit_ms * MS * (1 + np.arange(11) / 10)).astype(np.int64)
    known: dict[str, Any] = {
        "sent_ns": sent,
        "due_ns": sent,
        "first_token_ns": int(stamps[0]),
        "last_token_ns": int(stamps[-1]),
        "done_ns": int(stamps[-1]),
        "chunks": 11,
        "gaps": encode_gaps(stamps),
        "output_tokens": 11,
        "output_mode": mode,
        "valid": None if mode == "text" else True,
        "outcome": "ok",
    }
    return Sample("a", 0, seq, f"p{pair % prompts}", "measure", **(known | fields))


def compared(samples: Sequence[Sample], listed: Sequence[str] = MODES) -> dict[str, Any]:
    found = summarise(run(listed), samples, PROMPTS)["endpoints"]["a"]["modes"]
    assert isinstance(found, dict)
    return found


def test_each_mode_has_its_own_block() -> None:
    samples = [answer(seq) for seq in range(90)]
    samples[4] = msgspec.structs.replace(samples[4], outcome="stalled")
    samples[5] = msgspec.structs.replace(samples[5], phase="warmup")
    whole = summarise(run(), samples, PROMPTS)["endpoints"]["a"]
    found = whole["modes"]
    assert (found["baseline"], list(found["arms"]), list(found["overhead"])) == ("text", list(MODES), [*MODES[1:]])
    ok = {mode: part["outcomes"]["ok"] for mode, part in found["arms"].items()}
    assert {arm(4, MODES)[1], arm(5, MODES)[1]} == {"tool", "text"}
    assert ok == {"text": 29, "prompted": 30, "tool": 29}
    assert found["arms"]["text"]["valid"] is None, "nobody asked it for a schema"
    assert {mode: found["arms"][mode]["valid"]["n"] for mode in MODES[1:]} == {"prompted": 30, "tool": 29}
    assert whole["valid"]["n"] == 59
    assert sum(ok.values()) == whole["outcomes"]["ok"]
    for part in found["arms"].values():
        assert part["metrics"]["ttft_ms"]["n"] == part["outcomes"]["ok"]
        assert part["metrics"]["inter_chunk_ms"]["n"] == 10 * part["outcomes"]["ok"]
    gaps = [found["arms"][mode]["metrics"]["inter_chunk_ms"]["mean"] for mode in ("text", "tool")]
    assert gaps[1] > 1.3 * gaps[0]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("listed", [MODES, ("tool", "text"), ("tool", "json_schema", "prompted", "text")])
def test_overhead_is_found_whatever_the_pairs_differ_in(listed: tuple[str, ...]) -> None:
    found = compared([answer(seq, listed) for seq in range(40 * len(listed))], listed)
    assert found["baseline"] == "text"
    assert set(found["overhead"]) == set(listed) - {"text"}
    for mode, overhead in found["overhead"].items():
        for name in ("ttft", "tpot", "e2e"):
            assert overhead[name] == {
                "n": 40,
                "prompts": 40,
                "unit": "prompt",
                "ratio": pytest.approx(LONGER[mode], rel=1e-6),
                "ci95": [pytest.approx(LONGER[mode], rel=1e-6)] * 2,
            }


def test_the_length_of_answers_is_held_against_one_another_in_pairs() -> None:
    longer = {"text": 10, "prompted": 20, "tool": 5}
    samples = [answer(seq, output_tokens=longer[arm(seq, MODES)[1]] * (1 + seq // 3)) for seq in range(90)]
    samples[0] = msgspec.structs.replace(samples[0], output_tokens=None)
    samples[3] = msgspec.structs.replace(samples[3], outcome="stalled")
    samples[89] = msgspec.structs.replace(samples[89], phase="warmup")
    found = compared(samples)
    ratios = {mode: overhead["output_tokens"]["ratio"] for mode, overhead in found["overhead"].items()}
    assert ratios == {"prompted": pytest.approx(2.0), "tool": pytest.approx(0.5)}
    for mode, part in found["arms"].items():
        own = sorted(
            one.output_tokens
            for one in samples
            if (one.output_mode, one.outcome, one.phase) == (mode, "ok", "measure") and one.output_tokens is not None
        )
        assert part["output_tokens"] == {"n": len(own), "p50": own[(len(own) - 1) // 2]}


def test_without_text_the_first_mode_is_the_one_to_beat() -> None:
    found = compared([answer(seq, ("prompted", "tool")) for seq in range(40)], ("prompted", "tool"))
    assert found["baseline"] == "prompted"
    assert found["overhead"]["tool"]["e2e"]["ratio"] == pytest.approx(1.4 / 1.02)


def test_a_pair_counts_if_both_answers_are_ok_and_measured() -> None:
    samples = [answer(seq) for seq in range(60)]
    cut = {place: arm(place, MODES)[1] for place in (1, 7, 10, 58)}
    assert set(cut.values()) == set(MODES)
    for at, place in enumerate(cut):
        changed = {"outcome": "truncated"} if at % 2 else {"phase": "warmup"}
        samples[place] = msgspec.structs.replace(samples[place], **changed)
    found = compared(samples)["overhead"]
    lost = {mode: {place // 3 for place, its in cut.items() if its in ("text", mode)} for mode in MODES}
    assert {mode: one["ttft"]["n"] for mode, one in found.items()} == {mode: 20 - len(lost[mode]) for mode in MODES[1:]}
    assert found["tool"]["e2e"]["ratio"] == pytest.approx(1.4)


def test_too_few_pairs_have_no_ratio() -> None:
    found = compared([answer(seq) for seq in range(3 * modes.LEAST - 3)])["overhead"]["tool"]["e2e"]
    assert found == {"n": 7, "prompts": 7, "unit": "pair", "ratio": None, "ci95": None}
    assert compared([answer(seq) for seq in range(3 * modes.LEAST)])["overhead"]["tool"]["e2e"]["ratio"] is not None
    assert compared([])["overhead"]["tool"]["e2e"]["n"] == 0


def test_answers_in_one_piece_have_no_overhead_in_what_only_a_stream_has() -> None:
    samples = [answer(seq, first_token_ns=None, chunks=0, gaps=b"") for seq in range(60)]
    found = compared(samples)["overhead"]["tool"]
    assert (found["ttft"]["n"], found["tpot"]["n"], found["e2e"]["n"]) == (0, 0, 20)


def test_no_time_at_all_has_no_logarithm() -> None:
    found = modes.ratio(np.array([1.0, 0.0, np.nan, 2.0]), np.array([1.0, 1.0, 1.0, 0.0]), np.arange(4))
    assert found["n"] == 1


def test_one_mode_is_compared_with_nothing_and_its_valid_share_is_given() -> None:
    samples = [answer(seq, ("tool",), valid=seq > 0) for seq in range(10)]
    samples.append(answer(10, ("tool",), outcome="stalled", valid=None))
    for listed in ("tool", ["tool"]):
        found = summarise(run(listed), samples, PROMPTS)["endpoints"]["a"]
        assert found["modes"] is None
        assert {name: found["valid"][name] for name in ("valid", "n", "share")} == {"valid": 9, "n": 10, "share": 0.9}
        assert found["by_task"]["generation"]["valid"] == found["valid"]
    assert modes.listed({}) == ("text",)


def test_over_several_steps_each_has_its_own() -> None:
    samples = [msgspec.structs.replace(answer(seq), step=step) for seq in range(30) for step in (0, 1)]
    found = summarise(run(steps=2), samples, PROMPTS)
    assert found["endpoints"]["a"]["modes"] is None
    for step in found["steps"]:
        assert step["endpoints"]["a"]["modes"]["overhead"]["tool"]["ttft"]["n"] == 10
        assert step["endpoints"]["b"]["modes"]["arms"]["tool"]["outcomes"]["ok"] == 0


def test_the_order_of_samples_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    samples = [answer(seq, prompts=20) for seq in range(300)]
    samples = [
        msgspec.structs.replace(one, last_token_ns=(one.last_token_ns or 0) + int(rng.integers(90) * MS))
        for one in samples
    ]
    forwards = json.dumps(compared(samples)["overhead"])
    assert json.dumps(compared(samples[::-1])["overhead"]) == forwards
    assert json.dumps(compared([samples[place] for place in rng.permutation(300)])["overhead"]) == forwards


# --- the interval


TIMES = st.lists(st.floats(1, 1e12), min_size=modes.LEAST, max_size=80)


@given(TIMES, st.integers(0, 2**32))
def test_with_prompts_drawn_once_the_interval_is_the_paired_t(before: list[float], seed: int) -> None:
    low = np.array(before)
    high = low * np.exp(np.random.default_rng(seed).normal(0.1, 0.5, len(low)))
    found = modes.ratio(low, high, np.arange(len(before)))
    moved = np.log(high) - np.log(low)
    assert found["ratio"] == pytest.approx(math.exp(moved.mean()))
    interval = reference.ttest_1samp(moved, 0).confidence_interval(0.95)
    width = interval.high - interval.low
    assert np.log(found["ci95"]) == pytest.approx([interval.low, interval.high], abs=1e-3 * width + 1e-9)


@given(TIMES, TIMES, st.integers(1, 30))
def test_swapping_turns_the_ratio_over(before: list[float], after: list[float], prompts: int) -> None:
    size = min(len(before), len(after))
    first, second, prompt = np.array(before[:size]), np.array(after[:size]), np.arange(size) % prompts
    there, back = modes.ratio(first, second, prompt), modes.ratio(second, first, prompt)
    assert there["ratio"] == pytest.approx(1 / back["ratio"])
    assert there["ci95"] == pytest.approx([1 / end for end in reversed(back["ci95"])])
    assert there["ci95"][0] <= there["ratio"] * (1 + 1e-9)
    assert there["ratio"] <= there["ci95"][1] * (1 + 1e-9)
    assert (there["n"], there["prompts"]) == (size, min(size, prompts))


def test_asking_the_same_prompts_again_is_no_new_evidence_about_prompts() -> None:
    """Ten prompts that differ in their overhead, each asked once and then fifty times over."""
    rng = np.random.default_rng(6)
    effect = rng.normal(0.1, 0.2, 10)
    once = modes.ratio(np.ones(10), np.exp(effect), np.arange(10))
    often = modes.ratio(np.ones(500), np.exp(np.repeat(effect, 50)), np.repeat(np.arange(10), 50))
    assert often["ci95"] == pytest.approx(once["ci95"])
    assert (once["n"], often["n"], often["prompts"], often["unit"]) == (10, 500, 10, "prompt")
    few = modes.ratio(np.ones(300), np.exp(np.repeat(effect[:3], 100)), np.repeat(np.arange(3), 100))
    assert few["unit"] == "pair"


@pytest.mark.parametrize("prompts", [200, 15])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(prompts: int) -> None:
    rng = np.random.default_rng(prompts)
    held = 0
    for _ in range(400):
        prompt = rng.integers(0, prompts, 100)
        effect = rng.normal(math.log(1.12), 0.15, prompts)
        after = np.exp(effect[prompt] + rng.normal(0, 0.3, 100))
        low, high = modes.ratio(np.ones(100), after, prompt)["ci95"]
        held += low <= 1.12 <= high
    assert 0.9 <= held / 400 <= 0.985
