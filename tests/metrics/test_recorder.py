"""The live view over samples whose figures are known."""

from typing import Any

from latbench.metrics.recorder import Recorder
from latbench.model.sample import Sample

S = 1_000_000_000
MS = 1_000_000


def ok(done_s: float, *, endpoint: str = "a", ttft_ms: int | None = 100, **fields: object) -> Sample:
    sent = int(done_s * S) - S
    first = None if ttft_ms is None else sent + ttft_ms * MS
    known: dict[str, Any] = {"output_tokens": 20, "input_tokens": 5, **fields}
    return Sample(
        endpoint, 0, 0, "p", "measure", "ok", sent_ns=sent, first_token_ns=first, done_ns=int(done_s * S), **known
    )


def test_nothing_yet() -> None:
    view = Recorder().snapshot(0, step=2, in_flight=3)
    assert (view.step, view.in_flight, view.endpoints) == (2, 3, {})
    assert view.total.outcomes == {}
    assert (view.total.requests_per_s, view.total.ttft_p50_ms) == (0.0, None)


def test_rates_are_of_the_last_ten_seconds() -> None:
    recorder = Recorder()
    for second in range(1, 31):
        recorder.add(ok(second))
    total = recorder.snapshot(30 * S).total
    assert total.outcomes == {"ok": 30}
    assert (total.input_tokens, total.output_tokens) == (150, 600)
    assert total.requests_per_s == 1.0
    assert total.output_tokens_per_s == 20.0


def test_the_first_seconds_are_divided_by_what_has_passed() -> None:
    recorder = Recorder()
    recorder.add(ok(1))
    recorder.add(ok(2))
    assert recorder.snapshot(2 * S).total.requests_per_s == 1.0


def test_order_of_arrival_does_not_matter() -> None:
    samples = [ok(second, ttft_ms=second * 10) for second in range(1, 21)]
    forwards, backwards = Recorder(), Recorder()
    for sample in samples:
        forwards.add(sample)
    for sample in reversed(samples):
        backwards.add(sample)
    assert forwards.snapshot(20 * S) == backwards.snapshot(20 * S)


def test_a_very_late_sample_is_counted_but_not_in_the_window() -> None:
    recorder = Recorder()
    recorder.add(ok(100, endpoint="b"))
    recorder.add(ok(5))
    view = recorder.snapshot(100 * S)
    assert view.total.outcomes == {"ok": 2}
    assert view.endpoints["a"].requests_per_s == 0.0


def test_percentiles_are_observed_values() -> None:
    recorder = Recorder()
    for ttft_ms in range(1, 21):
        recorder.add(ok(5, ttft_ms=ttft_ms))
    recorder.add(ok(5, ttft_ms=None))
    total = recorder.snapshot(10 * S).total
    assert (total.ttft_p50_ms, total.ttft_p95_ms) == (10.0, 19.0)


def test_failures_are_counted_by_endpoint_and_have_no_rate() -> None:
    recorder = Recorder()
    recorder.add(ok(5, output_tokens=None, chunks=7))
    recorder.add(Sample("b", 0, 1, "p", "measure", "rate_limited", done_ns=5 * S))
    recorder.add(Sample("b", 0, 2, "p", "measure", "dropped"))
    view = recorder.snapshot(10 * S)
    assert view.total.outcomes == {"ok": 1, "rate_limited": 1, "dropped": 1}
    assert view.endpoints["b"].outcomes == {"rate_limited": 1, "dropped": 1}
    assert view.endpoints["b"].requests_per_s == 0.0
    assert view.endpoints["a"].output_tokens == 7
