"""What reports say of rate limits and of output modes, in words; and that they say nothing where there is nothing."""

import json
from typing import Any

import pytest

from latbench.report import limits, lines, modes

NONE = {"p50": None, "max": None}
QUIET: dict[str, Any] = {
    "hits": 0,
    "by_kind": {},
    "retry_after_s": NONE,
    "waited_s": 0.0,
    "per_second": {"max": 0, "bin_s": 1, "series": []},
    "audit": {"asked": 0, "followed": 0, "long_enough": 0, "too_short": 0},
    "headroom": {"requests": {"limit": 500.0, "least_remaining": 12.0}},
    "ceiling": {},
    "keys": {"count": 2, "kind": "requests", "verdict": "unknown", "why": "too little", "by": None},
    "promised": {"rpm": 600},
    "demand": None,
}
HIT = QUIET | {"hits": 1_200, "by_kind": {"requests": 1_200}, "per_second": {"max": 17}}
MEASURED = {
    "behaviour": "bucket",
    "why": "w",
    "rate_per_min": 598.4,
    "ci95": [590.0, 606.21],
    "burst": 20.5,
    "window_s": None,
    "accepted_per_min": 597.0,
}


def test_nothing_is_said_of_limits_that_nobody_met() -> None:
    assert list(limits.lines(QUIET)) == []


def test_hits_and_what_waiting_was_good_for() -> None:
    assert dict(limits.lines(HIT))["rate limits"] == "1,200 hits (requests 1,200), at most 17 in a second"
    told = HIT | {
        "retry_after_s": {"p50": 1.5, "max": 20.0},
        "audit": {"asked": 9, "followed": 5, "long_enough": 4, "too_short": 1},
        "waited_s": 31.25,
        "per_second": {"max": 0},
    }
    assert dict(limits.lines(told))["rate limits"] == (
        "1,200 hits (requests 1,200); asked to wait p50 1.50 s, max 20.0 s; that was long enough 4 of 5 times;"
        " waited 31.2 s in all"
    )
    ignored = told | {"audit": {"asked": 9, "followed": 0, "long_enough": 0, "too_short": 0}}
    assert "long enough" not in dict(limits.lines(ignored))["rate limits"], "nobody waited, nobody knows"
    assert dict(limits.lines(told))["headroom"] == "requests at least 12 of 500 left"
    assert "headroom" not in dict(limits.lines(HIT | {"headroom": {}}))


@pytest.mark.parametrize(
    ("kind", "found", "promised", "line"),
    [
        ("requests", MEASURED, {}, "598.4 requests/min (590 to 606.2), a bucket with a burst of 20.5"),
        (
            "input_tokens",
            MEASURED | {"behaviour": "fixed_window", "window_s": 60.0, "ci95": [5_000.0, 6_000.0]},
            {"rpm": 1},
            "598.4 input tokens/min (5,000 to 6,000), a fixed window of 60 s",
        ),
        (
            "unknown",
            MEASURED | {"behaviour": "unknown", "rate_per_min": None},
            {"rpm": 600},
            "not measured: w; 597/min were taken meanwhile; promised 600",
        ),
        (
            "tokens",
            MEASURED | {"behaviour": "unknown", "rate_per_min": None, "accepted_per_min": None},
            {"tpm": 90_000},
            "not measured: w; promised 90,000",
        ),
        ("concurrency", None, {"concurrency": 8}, "promised 8"),
        ("ramp", None, {"rpm": 8}, None),
    ],
)
def test_the_ceiling_stands_beside_what_was_promised(
    kind: str, found: dict[str, Any] | None, promised: dict[str, int], line: str | None
) -> None:
    block = HIT | {"by_kind": {kind: 3}, "ceiling": {kind: found} if found else {}, "promised": promised or None}
    assert dict(limits.lines(block)).get(f"ceiling, {kind.replace('_', ' ')}") == line


@pytest.mark.parametrize(
    ("verdict", "words"), [("unknown", "2, not known whether they share limits: w"), ("shared", "2, shared limits: w")]
)
def test_keys(verdict: str, words: str) -> None:
    assert dict(limits.lines(HIT | {"keys": {"count": 2, "verdict": verdict, "why": "w"}}))["keys"] == words
    assert "keys" not in dict(limits.lines(HIT | {"keys": None}))


def test_a_ceiling_of_several_keys_is_not_taken_for_that_of_one() -> None:
    def line(together: int | None) -> str:
        return dict(limits.lines(HIT | {"ceiling": {"requests": MEASURED | {"keys_together": together}}}))[
            "ceiling, requests"
        ]

    assert "a bucket with a burst of 20.5, 3 keys together" in line(3)
    assert "together" not in line(None)
    unmeasured = {"rate_per_min": None, "accepted_per_min": None, "why": "w", "keys_together": 3}
    found = dict(limits.lines(HIT | {"ceiling": {"requests": unmeasured}}))["ceiling, requests"]
    assert found.startswith("not measured for 3 keys together: w")


def test_a_step_that_no_limiter_was_fitted_to_has_what_was_promised() -> None:
    assert dict(limits.lines(HIT | {"ceiling": None, "keys": None}))["ceiling, requests"] == "promised 600"


def test_a_demand_is_answered_even_without_a_hit() -> None:
    needs = [
        {"kind": kind, "verdict": verdict}
        for kind, verdict in (("requests", "holds"), ("tokens", "falls_short"), ("x", "inconclusive"), ("y", "unknown"))
    ]
    found = dict(limits.lines(QUIET | {"demand": {"words": "your peak", "needs": needs}}))
    assert found == {"demand": "your peak; enough requests; too few tokens; x: too close to tell"}


def against(ratio: float | None, low: float = 0.0, high: float = 0.0, n: int = 120) -> dict[str, Any]:
    return {"n": n, "ratio": ratio, "ci95": None if ratio is None else [low, high]}


SHARE = {"n": 100, "share": 0.98, "ci95": [0.93, 0.995]}
FEWER = {"n": 100, "share": 0.61, "ci95": [0.512, 0.7]}


@pytest.mark.parametrize(
    ("e2e", "words"),
    [
        (against(1.12, 1.03, 1.22), "tool costs 12 % (3 to 22 %) more end to end than text, 120 pairs"),
        (against(0.88, 0.80, 0.975), "tool takes 12 % (2.5 to 20 %) less end to end than text, 120 pairs"),
        (against(1.01, 0.97, 1.05), "tool: no difference shown end to end from text, 1.0 % (-3 to 5 %), 120 pairs"),
        (against(13.5, 10.0, 18.0), "tool costs 1,250 % (900 to 1,700 %) more end to end than text, 120 pairs"),
        (against(None, n=5), "tool against text: 5 pairs of answers, 8 are needed"),
    ],
)
def test_what_structure_costs(e2e: dict[str, Any], words: str) -> None:
    overhead = {"ttft": against(1.05, 1.03, 1.07), "tpot": against(None, n=3), "e2e": e2e}
    overhead["output_tokens"] = against(1.09, 0.9, 1.3)
    found = {"baseline": "text", "arms": {"text": {"valid": None}, "tool": {"valid": SHARE}}}
    (line,) = modes.verdicts(found | {"overhead": {"tool": overhead}})
    assert line == f"{words} (TTFT 5 % (3 to 7 %)); valid 98.0 % (93 to 100 %)"


@pytest.mark.parametrize(("ratio", "words"), [(0.76, "24 % shorter"), (2.5, "150 % longer"), (0.91, ""), (None, "")])
def test_answers_of_another_length_are_named(ratio: float | None, words: str) -> None:
    overhead = {name: against(1.5, 1.4, 1.6) for name in ("ttft", "tpot", "e2e")} | {"output_tokens": against(ratio)}
    arms = {"text": {"valid": None}, "tool": {"valid": None}}
    (line,) = modes.verdicts({"baseline": "text", "arms": arms, "overhead": {"tool": overhead}})
    assert line.endswith(f"60 %)); answers are {words}" if words else "TPOT 50 % (40 to 60 %))")


def test_what_it_buys_is_held_against_asking_in_words() -> None:
    nothing = dict.fromkeys(("ttft", "tpot", "e2e", "output_tokens"), against(None, n=0))
    arms = {"text": {"valid": None}, "prompted": {"valid": FEWER}, "tool": {"valid": SHARE}}
    overhead = {"prompted": nothing, "tool": nothing}
    prompted, tool = modes.verdicts({"baseline": "text", "arms": arms, "overhead": overhead})
    assert prompted.endswith("8 are needed; valid 61.0 % (51 to 70 %)")
    assert tool.endswith("; valid 98.0 % (93 to 100 %) against 61.0 % (51 to 70 %) prompted")
    arms["tool"] = {"valid": None}
    assert list(modes.verdicts({"baseline": "text", "arms": arms, "overhead": overhead}))[1].endswith("are needed")


def said(summary: dict[str, Any], **changed: object) -> dict[str, str]:
    spoiled = json.loads(json.dumps(summary))
    (name,) = spoiled["endpoints"]
    endpoint = spoiled["endpoints"][name] | changed
    many = endpoint["metrics"] is None
    return dict(lines.lines(name, endpoint, spoiled, every_step=spoiled["steps"] if many else ()))


def test_one_mode_says_what_share_was_valid_and_as_expected(conversations: dict[str, Any]) -> None:
    assert not {"valid", "expected", "output modes"} & set(said(conversations, completed=61))
    found = said(conversations, valid=SHARE, completed=61, expected=32, met=3)
    assert found["valid"] == "98.0 % (93 to 100 %) of 100 answers satisfy the schema"
    assert found["expected"] == "3 of 32 answers with an expectation met it"
    every = said(conversations, valid={"n": 4, "share": 1.0, "ci95": [0.51, 1.0]})["valid"]
    assert every.startswith("100 % (51 to 100 %) of 4")


def test_with_several_steps_modes_are_held_against_one_another_in_each(
    three_steps: dict[str, Any], compared: dict[str, Any]
) -> None:
    spoiled = json.loads(json.dumps(three_steps))
    for step in spoiled["steps"]:
        step["endpoints"]["acme-large"]["modes"] = compared["endpoints"]["acme-large"]["modes"]
    found = said(spoiled, valid=SHARE, expected=2, met=1)
    assert {f"output modes in step {index}" for index in range(3)} <= set(found)
    assert not {"valid", "expected", "output modes"} & set(found), "all modes taken together say nothing"


def test_limits_of_a_provider_are_said_once(one_step: dict[str, Any], limited: dict[str, Any]) -> None:
    assert list(lines.shared(one_step)) == []
    found = list(lines.shared(limited))
    assert {provider for provider, _, _ in found} == {"acme"}
    assert found[0][1:] == ("rate limits", limits.hits(limited["providers"]["acme"]["rate_limits"]))
    assert "demand" not in {what for _, what, _ in found}
