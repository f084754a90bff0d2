"""An engine without time to spare: what has ended and is not decoded takes memory, and must not pile up."""

import asyncio

import pytest
from engine_kit import MS, endpoint, job, lab, run, until
from servers import answer_well, serving

SLOTS = 4


def test_a_closed_loop_does_not_run_away_from_its_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latbench.engine.flight._UNDECODED", 20)

    async def scenario() -> None:
        async with serving(answer_well) as server, lab(job(endpoint(server.url))) as found:
            flight = found.dispatcher._flight
            with monkeypatch.context() as no_time:
                no_time.setattr(flight, "_finish_some", lambda until_ns: None)
                loading = asyncio.create_task(found.step(range(SLOTS), requests=200))
                await until(lambda: len(flight._ended) > 20)
                later = found.clock.now_ns() + 100 * MS
                await until(lambda: found.clock.now_ns() > later)
                assert len(server.calls) <= 20 + SLOTS
            ran = await loading
        assert ran.outcomes() == {"ok": 200}

    run(scenario())
