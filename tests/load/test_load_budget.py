"""Budgets over several workers, with the oracle's count as the judge: never more, and hardly less."""

from collections.abc import Callable

import pytest
from harness import Cli, Served
from load_kit import at, measure, step

pytestmark = pytest.mark.timeout(110)

QUICK = ("--ttft-ms", "10", "--itl-ms", "0")
CLOSED = step("closed", concurrency=6, duration="60s")
POISSON = step("poisson", rate="80/s", duration="60s")


@pytest.mark.long
@pytest.mark.parametrize(
    ("load", "workers"),
    [
        pytest.param(POISSON, "3", id="poisson-3"),
        pytest.param(CLOSED, "3", id="closed-3"),
        pytest.param(POISSON, "1", id="poisson-1"),
        pytest.param(CLOSED, "1", id="closed-1"),
    ],
)
def test_exactly_so_many_requests(
    cli: Cli, start_oracle: Callable[..., Served], load: dict[str, object], workers: str
) -> None:
    served = start_oracle(*QUICK)
    done = measure(cli, [at(served)], [load], "--workers", workers, budget={"requests": 100})
    assert (done.code, served.get("/oracle/stats")["requests"]) == (96, 100), done.err
    assert done.summary["run"]["state"] == "partial"


@pytest.mark.long
@pytest.mark.parametrize("load", [pytest.param(CLOSED, id="closed"), pytest.param(POISSON, id="poisson")])
@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_tokens_and_dollars_are_never_exceeded_and_made_use_of(
    cli: Cli, start_oracle: Callable[..., Served], load: dict[str, object], unit: str
) -> None:
    """A worst case is ten times what a request takes: only refunds can make use of the budget."""
    served = start_oracle(*QUICK, "--tokens", "20", "--tokens-fixed")
    price = {"input": 1.0, "output": 4.0}
    limit = {"tokens": 30_000, "usd": 0.05}[unit]
    keys = {"output": {"max_tokens": 300}, "budget": {unit: limit}}
    done = measure(cli, [at(served, price=price)], [load], "--workers", "3", **keys)
    assert done.code == 96, done.err
    rows = cli.rows("SELECT count(*), sum(input_tokens), sum(output_tokens) FROM samples WHERE outcome = 'ok'")
    count, taken, given = rows[0]
    assert count == served.get("/oracle/stats")["requests"], "all of them are known"
    used = taken + given if unit == "tokens" else (taken * price["input"] + given * price["output"]) / 1e6
    assert 0.9 * limit <= used <= limit


@pytest.mark.long
def test_what_the_budget_kept_back_is_not_put_down_to_the_cap(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    """At least one arrival waits for what is not there any more: of so few that is more than 1 %."""
    served = start_oracle(*QUICK)
    done = measure(cli, [at(served)], [POISSON | {"max_in_flight": 500}], budget={"requests": 30})
    assert done.code == 96, done.err
    (dropped,) = (one for one in done.summary["validity"]["reasons"] if one["code"] == "dropped")
    assert dropped["value"] == done.summary["validity"]["dropped"] / done.summary["validity"]["planned"]
    assert "the budget had nothing left" in dropped["advice"]
