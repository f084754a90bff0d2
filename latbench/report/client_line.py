"""What reports say of the client itself: how late and how busy it was, and what its null test found."""

from collections.abc import Iterator, Mapping
from typing import Any


def lines(validity: Mapping[str, Any]) -> Iterator[str]:
    """None of a run that says nothing of its client."""
    lag = validity["client_lag_ms"]
    said = []
    if lag is not None:
        said.append(f"lag p50 {_ms(lag['p50'])}, p99 {_ms(lag['p99'])}")
    if validity["engine_cpu"] is not None and lag is not None:
        said.append(f"engine CPU {validity['engine_cpu']:.2f} of a core")
    if said:
        yield f"client: {'; '.join(said)}"
    if validity["null_test"] is not None:
        yield null_test(validity["null_test"])


def null_test(block: Mapping[str, Any]) -> str:
    """The client's own error, as the null test found it."""
    error, lag = block["ttft_error_ms"], block["lag_ms"]
    workers = f" on {block['workers']} workers" if block["workers"] > 1 else ""
    said = (
        f"null test with {block['streams']} streams{workers}: TTFT +{_ms(error['p50'])} (p99 +{_ms(error['p99'])}),"
        f" chunks late by {_ms(lag['p50'])} (p99 {_ms(lag['p99'])})"
    )
    if "worst" in block:
        worst = block["worst"]
        said += f"; the worst worker p99 +{_ms(worst['ttft_error_ms']['p99'])} and {_ms(worst['lag_ms']['p99'])}"
    return said


def _ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"
