"""What must hold of the summary of any run, whatever its samples: section 16 of the statistics reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.groups import PromptInfo
from latbench.analysis.stats import PERCENTILES
from latbench.analysis.summary import summarise
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample, encode_gaps

S = 1_000_000_000
MS = 1_000_000
PROMPTS = {f"p{i}": PromptInfo("generation" if i % 2 else "review", "python", (), 100, "h") for i in range(4)}
STEP = StepRecord(0, "closed", 4, None, None, 0, 0, 60 * S)
SLO = {"ttft": 500.0, "tpot": 50.0}

Request = tuple[int, int, int, bool]
requests = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(1, 2000), st.integers(1, 120), st.booleans()), min_size=1, max_size=60
)
"""When it is due, its TTFT and its TPOT in ms, and whether it is answered."""


def samples(made: list[Request]) -> list[Sample]:
    return [sample(seq, *one) for seq, one in enumerate(made)]


def sample(seq: int, due_ms: int, ttft_ms: int, tpot_ms: int, answered: bool) -> Sample:
    known: dict[str, Any] = {"due_ns": due_ms * MS, "sent_ns": due_ms * MS, "done_ns": (due_ms + 10_000) * MS}
    if answered:
        stamps = (due_ms + ttft_ms + tpot_ms * np.arange(6, dtype=np.int64)) * MS
        known |= {"first_token_ns": int(stamps[0]), "first_text_ns": int(stamps[0]), "last_token_ns": int(stamps[-1])}
        known |= {"done_ns": int(stamps[-1]), "gaps": encode_gaps(stamps), "chunks": 6, "output_tokens": 6}
    return Sample("e", 0, seq, f"p{seq % 4}", "measure", "ok" if answered else "timeout", **known)


def summary(given_samples: list[Sample]) -> dict[str, Any]:
    run = RunRecord("i", "n", "s", "h", {}, "t", 1, 0, endpoints={"e": {}}, steps=[STEP], state="complete", slo=SLO)
    found: dict[str, Any] = summarise(run, given_samples, PROMPTS)["endpoints"]["e"]
    return found


@given(requests, st.integers(1, 5), st.randoms())
def test_the_split_over_workers_changes_nothing(made: list[Request], workers: int, random: Any) -> None:
    """Each worker hands over what is its own, in the order in which it ended there."""
    whole = samples(made)
    parts = [whole[worker::workers] for worker in range(workers)]
    for part in parts:
        random.shuffle(part)
    merged = summary([one for part in parts for one in part])
    plain = summary(whole)
    for name in ("outcomes", "good", "good_share", "error_rate", "warnings"):
        assert merged[name] == plain[name]
    assert merged["throughput"].pop("n_eff") == pytest.approx(plain["throughput"].pop("n_eff"))
    assert merged["throughput"] == pytest.approx(plain["throughput"])
    assert merged["metrics"] == plain["metrics"]


@given(requests)
def test_percentiles_rise_are_inside_their_intervals_and_count_for_no_more_than_they_are(made: list[Request]) -> None:
    for table in summary(samples(made))["metrics"].values():
        shown = [table[name] for name in PERCENTILES if table[name] is not None]
        assert shown == sorted(shown)
        for name in PERCENTILES:
            ends, n_eff = table["ci95"][name], table["n_eff"][name]
            assert ends is None or ends[0] <= table[name] <= ends[1]
            assert n_eff is None or 0 < n_eff <= table["n"]
            assert (name in table["need"]) == (table[name] is None)


@given(requests)
def test_goodput_is_no_more_than_throughput_and_both_than_what_was_sent(made: list[Request]) -> None:
    found = summary(samples(made))
    good, answered = found["throughput"]["goodput_per_s"], found["throughput"]["requests_per_s"]
    assert 0 <= good <= answered <= len(made) / 60


@given(requests, st.data())
def test_a_success_that_becomes_a_timeout_improves_nothing(made: list[Request], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(made) - 1))
    worse = [*made[:place], (*made[place][:3], False), *made[place + 1 :]]
    before, after = summary(samples(made)), summary(samples(worse))
    assert after["good_share"] <= before["good_share"]
    assert after["throughput"]["goodput_per_s"] <= before["throughput"]["goodput_per_s"]
    assert after["error_rate"] >= before["error_rate"]


@given(requests.filter(lambda made: any(one[3] for one in made)))
def test_a_success_slower_than_all_lowers_no_percentile(made: list[Request]) -> None:
    slower = [*made, (50_001, 3000, 130, True)]
    before, after = summary(samples(made)), summary(samples(slower))
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        for at, value in before["metrics"][name]["raw"].items():
            assert after["metrics"][name]["raw"][at] >= value


def test_goodput_of_the_reference() -> None:
    """Eight sent in four seconds, one fails, three miss a limit: four are good, half of what was sent, one a second."""
    ttft, tpot = (200, 300, 900, 400, 500, 600, 300, 200), (20, 30, 20, 90, 30, 20, 30, 40)
    made = [(500 * i, ttft[i], tpot[i], i != 6) for i in range(8)]
    step = StepRecord(0, "closed", 4, None, None, 0, 0, 6 * S)
    run = RunRecord("i", "n", "s", "h", {}, "t", 1, 0, endpoints={"e": {}}, steps=[step], state="complete", slo=SLO)
    found = summarise(run, samples(made), PROMPTS)["endpoints"]["e"]
    assert (found["good"], found["good_share"]) == (4, 0.5)
    assert found["throughput"]["goodput_per_s"] == pytest.approx(4 / 6)
