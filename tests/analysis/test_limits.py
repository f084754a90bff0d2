"""The `rate_limits` block: hits, waits and their audit, headroom, ceilings, keys, and demand in words."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.limits import MOST_BARS, Attempts, Demand, rate_limits
from latbench.analysis.words import OUTCOMES

S = 1e9
NAN = float("nan")
KINDS = ("requests", "tokens", "daily", "unknown")
NOTHING = {"p50": None, "max": None}


def attempts(*rows: dict[str, Any], **columns: Any) -> Attempts:
    """Attempts from rows of what matters; an `ok` one second after the other by default."""

    def column(name: str, default: Any, dtype: Any = np.float64) -> np.ndarray:
        return np.array([row.get(name, default(place)) for place, row in enumerate(rows)], dtype=dtype)

    return Attempts(
        sent_ns=column("at", float) * S,
        outcome=np.array([OUTCOMES.index(row.get("outcome", "ok")) for row in rows], dtype=np.int64),
        kind=np.array([KINDS.index(row.get("kind", "unknown")) for row in rows], dtype=np.int64),
        kinds=KINDS,
        asked_ns=column("asked", lambda _: NAN) * S,
        waited_ns=column("waited", lambda _: NAN) * S,
        next_outcome=np.array([OUTCOMES.index(row["next"]) if "next" in row else -1 for row in rows], dtype=np.int64),
        key=column("key", lambda _: 0, np.int64),
        **columns,
    )


def hit(kind: str = "requests", **more: Any) -> dict[str, Any]:
    return {"outcome": "rate_limited", "kind": kind, **more}


def bucket(
    rate: float, burst: float, n: int, cost: np.ndarray | None = None, *, kind: str = "requests", gap_s: float = 0.2
) -> Attempts:
    """`n` attempts at random times at a bucket."""
    rng = np.random.default_rng(4)
    at = np.cumsum(rng.exponential(gap_s, n))
    prices = np.ones(n) if cost is None else cost
    level, last, rows = burst, 0.0, []
    for now, price in zip(at.tolist(), prices, strict=True):
        level, last = min(burst, level + rate * (now - last)), now
        rows.append({"at": now} if level >= price else hit(kind, at=now))
        level -= price if level >= price else 0
    return attempts(*rows)


def test_nothing_was_refused() -> None:
    found = rate_limits(attempts({}, {}))
    assert found == {
        "hits": 0,
        "by_kind": {},
        "retry_after_s": NOTHING,
        "waited_s": 0.0,
        "per_second": {"max": 0, "bin_s": 1, "series": []},
        "audit": {"asked": 0, "followed": 0, "long_enough": 0, "too_short": 0},
        "headroom": {},
        "ceiling": {},
        "keys": None,
        "promised": None,
        "demand": None,
    }
    assert rate_limits(attempts())["hits"] == 0


def test_hits_and_waits() -> None:
    found = rate_limits(
        attempts(
            hit("tokens", asked=2.0, waited=2.5),
            hit("tokens", asked=4.0),
            hit("requests", asked=1.0, waited=1.0),
            hit("daily"),
            {"asked": 50.0},  # not a hit: not one of the waits
            {"outcome": "overloaded", "asked": 99.0, "waited": 1.0},
        )
    )
    assert found["hits"] == 4
    assert list(found["by_kind"].items()) == [("daily", 1), ("requests", 1), ("tokens", 2)]
    assert found["retry_after_s"] == {"p50": 2.0, "max": 4.0}
    assert found["waited_s"] == 4.5
    assert list(found["ceiling"]) == ["requests"]  # no tokens are known, and a daily limit has no rate
    assert found["ceiling"]["requests"]["behaviour"] == "unknown"


def test_hits_per_second() -> None:
    found = rate_limits(attempts(hit(at=0.1), hit(at=0.9), hit(at=1.0), {"at": 1.5}, hit(at=70.2), hit(at=NAN)))
    assert found["per_second"] == {"max": 2, "bin_s": 1, "series": [[0, 2], [1, 1], [70, 1]]}
    assert found["hits"] == 5


@pytest.mark.parametrize("n", [MOST_BARS, MOST_BARS + 1, 5 * MOST_BARS])
def test_a_long_series_gets_wider_bins(n: int) -> None:
    found = rate_limits(attempts(*(hit("daily", at=second) for second in range(n))))["per_second"]
    assert found["max"] == 1
    assert len(found["series"]) <= MOST_BARS
    assert sum(count for _, count in found["series"]) == n
    assert all(begin % found["bin_s"] == 0 for begin, _ in found["series"])
    assert (found["bin_s"] == 1) == (n == MOST_BARS)


def test_the_audit_of_waits() -> None:
    found = rate_limits(
        attempts(
            hit(asked=1.0, waited=1.0, next="ok"),
            hit(asked=1.0, waited=1.2, next="truncated"),
            hit(asked=1.0, waited=1.2, next="rate_limited"),
            hit(asked=1.0, waited=1.2, next="connect_error"),
            hit(asked=1.0, waited=0.5, next="rate_limited"),
            hit(asked=1.0),
            hit(asked=1.0, waited=2.0),
            hit(waited=2.0, next="ok"),
            {"asked": 1.0, "waited": 1.0, "next": "ok"},
        )
    )
    assert found["audit"] == {"asked": 7, "followed": 4, "long_enough": 2, "too_short": 1}


def test_headroom() -> None:
    columns = {
        "requests": (np.array([60.0, NAN, 50.0]), np.array([5.0, 3.0, NAN])),
        "tokens": (np.full(3, NAN), np.array([7.0, NAN, NAN])),
        "input_tokens": (np.full(3, NAN), np.full(3, NAN)),
    }
    assert rate_limits(attempts({}, {}, {}, headroom=columns))["headroom"] == {
        "requests": {"limit": 50.0, "least_remaining": 3.0},
        "tokens": {"limit": None, "least_remaining": 7.0},
    }


def test_a_ceiling_of_requests_and_what_is_left_out_of_it() -> None:
    plain = bucket(2.0, 20.0, 900)
    found = rate_limits(plain)["ceiling"]["requests"]
    assert found["behaviour"] == "bucket"
    assert found["rate_per_min"] == pytest.approx(120, rel=0.01)
    assert found["ci95"][0] <= 120 <= found["ci95"][1]
    msgspec.json.encode(rate_limits(plain))
    # Neither refusals of another limit, nor what never arrived or may have been refused for another reason, nor order.
    others = attempts(
        *(hit("daily", at=3.0 * n) for n in range(30)),
        *({"outcome": "connect_error", "at": 3.0 * n} for n in range(30)),
        *({"outcome": "overloaded", "at": 3.0 * n} for n in range(30)),
        *({"outcome": "dropped", "at": NAN} for n in range(30)),
    )
    assert rate_limits(joined(others, plain))["ceiling"]["requests"] == found


def joined(*parts: Attempts) -> Attempts:
    names = ("sent_ns", "outcome", "kind", "asked_ns", "waited_ns", "next_outcome", "key")
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_a_ceiling_of_tokens_with_some_unknown() -> None:
    rng = np.random.default_rng(2)
    cost = np.exp(rng.normal(7, 0.5, 900)).round()
    plain = bucket(3000, 40_000, 900, cost, kind="tokens")
    found = rate_limits(replace(plain, tokens={"tokens": cost}))["ceiling"]["tokens"]
    assert found["behaviour"] == "bucket"
    assert found["ci95"][0] <= 180_000 <= found["ci95"][1]
    refused = plain.outcome != OUTCOMES.index("ok")
    guessed = rate_limits(replace(plain, tokens={"tokens": np.where(refused, NAN, cost)}))["ceiling"]["tokens"]
    assert guessed["behaviour"] in ("bucket", "unknown")
    assert rate_limits(replace(plain, tokens={"tokens": np.full(900, NAN)}))["ceiling"] == {}


def test_attempts_without_a_cost_cost_what_the_others_do() -> None:
    plain = bucket(3000, 40_000, 900, np.full(900, 1500.0), kind="tokens")
    assert rate_limits(replace(plain, tokens={"tokens": np.zeros(900)}))["ceiling"] == {}
    some = np.where(np.arange(900) % 3, 0.0, 1500.0)
    found = rate_limits(replace(plain, tokens={"tokens": some}))["ceiling"]["tokens"]
    assert found["behaviour"] == "bucket"
    assert found["ci95"][0] <= 180_000 <= found["ci95"][1]


def test_overloaded_attempts_that_the_limiter_counted() -> None:
    plain = bucket(2.0, 5.0, 900)
    ok = np.flatnonzero(plain.outcome == OUTCOMES.index("ok"))
    outcome = plain.outcome.copy()
    outcome[ok[::20]] = OUTCOMES.index("overloaded")
    found = rate_limits(replace(plain, outcome=outcome))["ceiling"]["requests"]
    assert (found["behaviour"], found["disagreements"]) == ("bucket", 0)
    assert found["ci95"][0] <= 120 <= found["ci95"][1]
    assert found["burst"] == pytest.approx(5, abs=0.5)
    assert found["why"].endswith(", overloaded ones counted as taken")


def test_overloaded_attempts_that_the_limiter_did_not_count() -> None:
    plain = bucket(2.0, 5.0, 900)
    refused = np.flatnonzero(plain.outcome == OUTCOMES.index("rate_limited"))
    outcome = plain.outcome.copy()
    outcome[refused[100]] = OUTCOMES.index("ok")  # one that no bucket explains
    plain = replace(plain, outcome=outcome)
    found = rate_limits(plain)["ceiling"]["requests"]
    assert found["disagreements"] > 0
    others = attempts(*({"outcome": "overloaded", "at": 3.0 * n} for n in range(50)))
    assert rate_limits(joined(others, plain))["ceiling"]["requests"] == found


def test_a_limit_that_is_not_named_is_tried_as_one_of_requests() -> None:
    found = rate_limits(bucket(2.0, 20.0, 900, kind="unknown"), demand=Demand(300))
    assert found["ceiling"]["unknown"]["behaviour"] == "bucket"
    assert found["demand"]["needs"][0]["verdict"] == "falls_short"
    assert found["demand"]["words"] == "your peak of 300 requests/min; measured ceiling 120"


def test_demand_in_words() -> None:
    rng = np.random.default_rng(2)
    cost = np.exp(rng.normal(7, 0.5, 900)).round()
    limited = replace(bucket(3000, 40_000, 900, cost, kind="tokens"), tokens={"tokens": cost})
    found = rate_limits(limited, promised={"rpm": None, "tpm": 200_000}, demand=Demand(300, 2100))
    assert found["promised"] == {"rpm": None, "tpm": 200_000}
    requests, tokens = found["demand"]["needs"]
    assert requests == {
        "kind": "requests",
        "needs_per_min": 300,
        "ceiling_per_min": None,
        "promised_per_min": None,
        "verdict": "unknown",
    }
    assert (tokens["needs_per_min"], tokens["promised_per_min"], tokens["verdict"]) == (630_000, 200_000, "falls_short")
    assert found["demand"]["words"] == (
        "your peak of 300 requests/min at 2,100 tokens needs 630K TPM; measured ceiling 180K"
    )
    assert rate_limits(limited, demand=Demand(20, 2100))["demand"]["needs"][1]["verdict"] == "holds"
    low, high = found["ceiling"]["tokens"]["ci95"]
    inside = rate_limits(limited, demand=Demand(1, (low + high) / 2))
    assert inside["demand"]["needs"][1]["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("demand", "promised", "words"),
    [
        (Demand(300, 2100), None, "your peak of 300 requests/min at 2,100 tokens needs 630K TPM; no ceiling measured"),
        (
            Demand(12_345, 100),
            {"tpm": 2e6},
            "your peak of 12.3K requests/min at 100 tokens needs 1.23M TPM; no ceiling measured, promised 2M",
        ),
        (
            Demand(9_999.9, 100),
            {"tpm": 5},
            "your peak of 10,000 requests/min at 100 tokens needs 1M TPM; no ceiling measured, promised 5",
        ),
        (Demand(300), {"rpm": 500}, "your peak of 300 requests/min; no ceiling measured, promised 500"),
        (Demand(0), None, "your peak of 0 requests/min; no ceiling measured"),
    ],
)
def test_demand_without_a_ceiling(demand: Demand, promised: dict[str, float | None] | None, words: str) -> None:
    assert rate_limits(attempts({}), promised=promised, demand=demand)["demand"]["words"] == words


def test_keys() -> None:
    plain = bucket(2.0, 20.0, 900)
    key = np.random.default_rng(1).integers(0, 2, 900)
    found = rate_limits(replace(plain, key=key))["keys"]
    assert (found["count"], found["kind"], found["verdict"], found["by"]) == (2, "requests", "shared", "acceptance")
    left = 5000.0 - np.cumsum(plain.outcome == OUTCOMES.index("ok"))
    headers = {"requests": (np.full(900, 5000.0), left)}
    found = rate_limits(replace(plain, key=key, headroom=headers))["keys"]
    assert (found["verdict"], found["by"]) == ("shared", "headers")
    unhit = attempts(*({} for _ in range(100)))
    quiet = replace(unhit, key=np.arange(100) % 2)
    assert rate_limits(quiet)["keys"]["verdict"] == "unknown"
    # Most hits were at a limit without a rate: the next one is asked.
    daily = attempts(*(hit("daily", at=900.0 + n, key=n % 2) for n in range(890)))
    assert rate_limits(joined(replace(plain, key=key), daily))["keys"]["kind"] == "requests"


def test_keys_with_limits_of_their_own_have_a_ceiling_together() -> None:
    one = bucket(2.0, 20.0, 900)
    other = replace(one, sent_ns=one.sent_ns + 0.1 * S)
    both = replace(joined(one, other), key=np.repeat([0, 1], 900))
    found = rate_limits(both)
    assert found["keys"]["verdict"] == "separate"
    assert found["ceiling"]["requests"]["keys_together"] == 2
    assert found["ceiling"]["requests"]["accepted_per_min"] == pytest.approx(240, rel=0.05)
    # The endpoints of a provider count their keys each from 0: the same number need not be the same key.
    provider = rate_limits(both, endpoints=2)
    assert (provider["keys"], provider["ceiling"]["requests"]["keys_together"]) == (None, None)
    assert rate_limits(one)["ceiling"]["requests"]["keys_together"] is None


def test_what_is_not_fitted_is_null() -> None:
    plain = replace(bucket(2.0, 20.0, 900), key=np.arange(900) % 2)
    found = rate_limits(plain, demand=Demand(300), fitted=False)
    assert (found["ceiling"], found["keys"], found["demand"]) == (None, None, None)
    assert found | {"ceiling": 0, "keys": 0, "demand": 0} == rate_limits(plain) | {"ceiling": 0, "keys": 0, "demand": 0}


def test_picking_rows() -> None:
    columns = np.array([1.0, 2.0, 3.0])
    whole = attempts(
        hit("tokens"), hit("daily"), {}, tokens={"tokens": columns}, headroom={"requests": (columns, columns * 2)}
    )
    some = whole.pick(np.array([True, False, True]))
    assert rate_limits(some)["by_kind"] == {"tokens": 1}
    assert some.tokens["tokens"].tolist() == [1.0, 3.0]
    assert rate_limits(whole.pick(np.array([1, 2])))["headroom"] == {"requests": {"limit": 2.0, "least_remaining": 4.0}}


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "at": st.floats(0, 1e6),
                "outcome": st.sampled_from(OUTCOMES),
                "kind": st.sampled_from(KINDS),
                "key": st.integers(0, 2),
                "asked": st.floats(0, 1e4) | st.just(NAN),
                "waited": st.floats(0, 1e4) | st.just(NAN),
                "next": st.sampled_from(OUTCOMES),
            }
        ),
        max_size=60,
    )
)
def test_counts_agree_whatever_comes(rows: list[dict[str, Any]]) -> None:
    found = rate_limits(attempts(*rows), demand=Demand(60, 10))
    audit = found["audit"]
    assert found["hits"] == sum(found["by_kind"].values()) == sum(n for _, n in found["per_second"]["series"])
    assert found["hits"] >= audit["asked"] >= audit["followed"] >= audit["long_enough"] + audit["too_short"]
    msgspec.json.encode(found)
