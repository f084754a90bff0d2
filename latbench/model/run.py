"""What is known of a run besides its samples."""

import secrets
from datetime import datetime
from typing import Any

import msgspec

from latbench.model.load import Step


class StepRecord(msgspec.Struct):
    """One step of the load as it was run. Times are nanoseconds on the run's clock.

    The measured phase is [measure_from_ns, measure_to_ns); the drain comes after it. In a run by requests it ends
    with the last answer. `requests` is per endpoint, as `concurrency` and `rate` (per second) are. `load` is the step
    as it was planned, `plan/arrivals.py` makes the arrivals of an open loop from it. With `slices`, that many endpoints
    took turns, and each was loaded for that part of the measured phase. While a step is under way its record is stored
    with the end that it is to have.
    """

    index: int
    shape: str
    concurrency: int | None
    rate: float | None
    requests: int | None
    started_ns: int
    measure_from_ns: int
    measure_to_ns: int
    load: Step | None = None
    slices: int = 1


class RunRecord(msgspec.Struct):
    """A run with its provenance.

    `scenario` is the resolved scenario without secrets, `endpoints` maps a name to its provider, api and model.
    `state` is `running`, `complete` or `partial`; `stops` lists why endpoints were stopped by a guard (endpoint,
    reason), `notes` what happened that a reader of the figures must know (code, value, advice). `slo` maps a metric to
    its limit in the metric's unit, `prices` an endpoint to US dollars for a million tokens (`input`, `output`, and
    `cached_input` where it is known); `promised` an endpoint to the limits that its provider promised (`rpm`, `tpm`,
    `concurrency`, `rpd`), and `demand` is the peak that is needed (`rpm`, `tokens_per_request`). `lead` names the
    metrics that lead the summary. `thresholds` are what the run is held to, in the grammar of
    `scenario/thresholds.py`; `out_of_reach` are those of them for which it was stopped, because they could not be met
    any more (`threshold`, `endpoint`, `step`, `why`). `directory` is the run directory.
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
    slo: dict[str, float] = {}
    promised: dict[str, dict[str, int]] = {}
    demand: dict[str, int] = {}
    prices: dict[str, dict[str, float]] = {}
    lead: list[str] = []
    thresholds: list[str] = []
    out_of_reach: list[dict[str, Any]] = []
    directory: str | None = None
    stops: list[tuple[str, str]] = []
    notes: list[dict[str, Any]] = []
    engine: dict[str, Any] = {}

    @property
    def started_s(self) -> float:
        """The start in seconds since 1970. It is the only moment of a run that is of the wall clock."""
        return datetime.fromisoformat(self.started_at).timestamp()


def new_id() -> str:
    """The id of a run that has none yet."""
    return secrets.token_hex(5)
