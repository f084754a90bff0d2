"""What is known of a run besides its samples."""

from typing import Any

import msgspec


class StepRecord(msgspec.Struct):
    """One step of the load as it was run. Times are nanoseconds on the run's clock.

    The measured phase is [measure_from_ns, measure_to_ns); the drain comes after it. In a run by requests it ends
    with the last answer. `requests` is per endpoint, as `concurrency` is.
    """

    index: int
    shape: str
    concurrency: int | None
    rate: float | None
    requests: int | None
    started_ns: int
    measure_from_ns: int
    measure_to_ns: int


class RunRecord(msgspec.Struct):
    """A run with its provenance.

    `scenario` is the resolved scenario without secrets, `endpoints` maps a name to its provider, api and model.
    `state` is `running`, `complete` or `partial`; `stops` lists why endpoints were stopped by a guard (endpoint,
    reason), `notes` what happened that a reader of the figures must know (code, value, advice).
    """

    id: str
    name: str
    scenario_name: str
    scenario_sha256: str
    scenario: dict[str, Any]
    started_at: str
    workers: int
    seed: int
    window: str | None = None
    labels: dict[str, str] = {}
    endpoints: dict[str, dict[str, str]] = {}
    steps: list[StepRecord] = []
    state: str = "running"
    duration_s: float | None = None
    exit_code: int | None = None
    version: str = ""
    host: dict[str, str] = {}
    git_commit: str | None = None
    planned: int = 0
    stops: list[tuple[str, str]] = []
    notes: list[dict[str, Any]] = []
    engine: dict[str, Any] = {}
