"""`summary.json` from a run and its samples: what scripts may rely on (schema 1), and all that reports show.

The samples are read once into columns; an endpoint in a step, and every slice of it, is an array of row numbers. Only
the phase `measure` enters outcomes and metrics, only `ok` the metrics. Throughput is what arrived inside the measured
window of the step, whatever phase it was due in. Nothing here prints or stores.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from latbench.analysis import stats, validity
from latbench.analysis.columns import OK, OUTCOMES, RATE_LIMITED, TOKENS, UNKNOWN_GROUP, Columns, Error, Window, gather
from latbench.metrics.catalogue import METRICS, NS_PER_S
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome, Sample

SCHEMA_VERSION = 1
THIN_BELOW_PROMPTS = 30

_LENGTH_BINS = ((500, "0-500"), (2_000, "500-2k"), (8_000, "2k-8k"), (32_000, "8k-32k"))
_LONGEST = "32k+"
_LENGTHS = (*(name for _, name in _LENGTH_BINS), _LONGEST)
_UNKNOWN = "unknown"
SHOWN_ERRORS = 3
_SLICES = ("by_task", "by_language", "by_tag", "by_input_length")


class PromptInfo(msgspec.Struct, frozen=True):
    """What slicing needs to know of a prompt. `tokens` counts its text with o200k_base."""

    task: str
    language: str
    tags: tuple[str, ...]
    tokens: int
    sha256: str


def summarise(
    run: RunRecord,
    samples: Iterable[Sample],
    prompts: Mapping[str, PromptInfo],
    *,
    planned: Mapping[tuple[str, str], int] | None = None,
) -> dict[str, Any]:
    """The summary of a run.

    `planned` gives the arrivals that became due by (phase, endpoint), counted apart from the samples and held against
    them. Without it they come from `run.engine["planned"]`, which maps `endpoint/phase`; without that, only their total
    is checked, where `run.planned` gives it.
    """
    groups = _Groups(prompts)
    cols = gather(samples, groups.of_prompt, {step.index: _window(step) for step in run.steps})
    return _Summary(run, cols, groups, _stored_plan(run) if planned is None else planned).document()


def _stored_plan(run: RunRecord) -> dict[tuple[str, str], int]:
    stored: dict[str, int] = run.engine.get("planned") or {}
    split = ((key.rpartition("/"), count) for key, count in stored.items())
    return {(phase, endpoint): count for (endpoint, _, phase), count in split}


def length_bin(tokens: int) -> str:
    """The bin of an input length; a bin holds its lower bound and not its upper one."""
    return next((name for limit, name in _LENGTH_BINS if tokens < limit), _LONGEST)


def _window(step: StepRecord) -> Window:
    """A run by requests ends with its last answer, and that one has arrived inside."""
    return step.measure_from_ns, step.measure_to_ns + (step.requests is not None)


class _Groups:
    """Prompts that no slice tells apart, numbered. Number 0 is for prompts that the run knows nothing about."""

    def __init__(self, prompts: Mapping[str, PromptInfo]) -> None:
        labels: dict[tuple[str, str, tuple[str, ...], str], int] = {(_UNKNOWN, _UNKNOWN, (), _UNKNOWN): UNKNOWN_GROUP}
        self.of_prompt = {
            prompt_id: labels.setdefault(
                (info.task, info.language, tuple(sorted(set(info.tags))), length_bin(info.tokens)), len(labels)
            )
            for prompt_id, info in prompts.items()
        }
        self.labels = list(labels)
        self.all = np.ones(len(labels), dtype=bool)

    def slices(self, present: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
        """(slice, value, member) for each value among the groups that are `present`; `member` marks its groups."""
        names = {kind: self._members(present, kind) for kind in _SLICES}
        for kind, members in names.items():
            order: Callable[[str], Any] = str
            if kind == "by_input_length":
                order = (*_LENGTHS, _UNKNOWN).index
            for name in sorted(members, key=order):
                member = np.zeros(len(self.labels), dtype=bool)
                member[members[name]] = True
                yield kind, name, member

    def _members(self, present: np.ndarray, kind: str) -> dict[str, list[int]]:
        members: dict[str, list[int]] = {}
        for group in present:
            label = self.labels[group][_SLICES.index(kind)]
            for name in (label,) if isinstance(label, str) else label:
                members.setdefault(name, []).append(int(group))
        return members


class _Summary:
    """One summary in the making: the run, its columns, and the row numbers of each endpoint and step."""

    def __init__(self, run: RunRecord, cols: Columns, groups: _Groups, planned: Mapping[tuple[str, str], int]) -> None:
        self.run = run
        self.cols = cols
        self.groups = groups
        self.planned = planned
        self.steps = _steps(run, cols)
        seen = sorted(name for name in cols.endpoints.names if name not in run.endpoints)
        self.endpoints = [*run.endpoints, *seen]

    def document(self) -> dict[str, Any]:
        """The whole summary. With one step the endpoints at the top are those of the step."""
        steps = [self._step(step) for step in self.steps]
        single = len(steps) == 1
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self._run(),
            "validity": self._validity(),
            "endpoints": steps[0]["endpoints"] if single else {name: self._over_steps(name) for name in self.endpoints},
            "providers": self._providers(),
            "steps": steps,
            "thresholds": [],
        }

    def _run(self) -> dict[str, Any]:
        run = self.run
        return {
            "id": run.id,
            "name": run.name,
            "scenario": run.scenario_name,
            "scenario_sha256": run.scenario_sha256,
            "started_at": run.started_at,
            "duration_s": run.duration_s,
            "workers": run.workers,
            "state": "complete" if run.state == "complete" else "partial",
            "window": run.window,
            "labels": dict(run.labels),
            "exit_code": run.exit_code,
            "stops": [{"endpoint": endpoint, "reason": why} for endpoint, why in run.stops],
        }

    def _validity(self) -> dict[str, Any]:
        cols = self.cols
        counts = {
            (phase, name): _outcomes(cols, np.flatnonzero(self._of_endpoint(name) & (cols.measured == measured)))
            for phase, measured in (("measure", True), ("warmup", False))
            for name in self.endpoints
        }
        verdict, reasons = validity.judge(self.run, counts, self.planned)
        measure = _outcomes(cols, np.flatnonzero(cols.measured))
        known = [count for (phase, _), count in self.planned.items() if phase == "measure"]
        planned = sum(known) if known else sum(measure.values())
        return {
            "verdict": verdict,
            "reasons": reasons,
            "planned": planned,
            "sent": planned - measure[Outcome.DROPPED],
            "ok": measure[Outcome.OK],
            "dropped": measure[Outcome.DROPPED],
            "lost": measure[Outcome.LOST],
            "reconnects": int(cols.reconnects[cols.measured].sum()),
            "warmup": {"outcomes": _outcomes(cols, np.flatnonzero(~cols.measured))},
            "send_lateness_ms": None,
            "client_lag_ms": None,
            "probe_lag_ms": None,
            "chunk_lag_ms": None,
            "engine_cpu": self.run.engine.get("cpu"),
            "null_test": None,
        }

    def _step(self, step: StepRecord) -> dict[str, Any]:
        return {
            "index": step.index,
            "shape": step.shape,
            "concurrency": step.concurrency,
            "rate": step.rate,
            "requests": step.requests,
            "phase_s": [step.measure_from_ns / NS_PER_S, step.measure_to_ns / NS_PER_S],
            "endpoints": {name: self._in_step(name, step) for name in self.endpoints},
        }

    def _in_step(self, name: str, step: StepRecord) -> dict[str, Any]:
        """An endpoint in one step, with its slices."""
        rows = np.flatnonzero(self._of_endpoint(name) & (self.cols.step == step.index))
        block = self._identity(name) | self._block(name, step, rows, self.groups.all)
        number = self.cols.endpoints.numbers.get(name, -1)
        block["errors"] = _errors(self.cols.errors.get((number, step.index), Counter()))
        block |= {kind: {} for kind in _SLICES}
        group = self.cols.group[rows]
        measured = self.cols.measured[rows]
        for kind, value, member in self.groups.slices(np.unique(group[measured])):
            part = rows[member[group]]
            prompts = len(np.unique(self.cols.prompt[part[self.cols.measured[part]]]))
            block[kind][value] = {
                **self._identity(name),
                **self._block(name, step, part, member),
                "prompts": prompts,
                "thin": prompts < THIN_BELOW_PROMPTS,
            }
        return block

    def _over_steps(self, name: str) -> dict[str, Any]:
        """An endpoint over several steps: counts are summed, what depends on the load is null."""
        rows = np.flatnonzero(self._of_endpoint(name) & self.cols.measured)
        nothing = dict.fromkeys(("metrics", "throughput", "cost", *_SLICES))
        number = self.cols.endpoints.numbers.get(name, -1)
        errors: Counter[Error] = Counter()
        for (endpoint, _), found in self.cols.errors.items():
            if endpoint == number:
                errors.update(found)
        return self._identity(name) | _counts(self.cols, rows) | {"errors": _errors(errors)} | nothing

    def _identity(self, name: str) -> dict[str, Any]:
        known = self.run.endpoints.get(name, {})
        return {key: known.get(key) for key in ("provider", "api", "model")}

    def _block(self, name: str, step: StepRecord, rows: np.ndarray, member: np.ndarray) -> dict[str, Any]:
        """Counts, metrics and throughput of some rows (both phases) of one endpoint and step."""
        cols = self.cols
        measured = rows[cols.measured[rows]]
        ok = measured[cols.outcome[measured] == OK]
        return {
            **_counts(cols, measured),
            "metrics": self._metrics(name, step, ok, member),
            "throughput": _throughput(cols, rows, self._own_window(name, step)),
            "cost": None,
        }

    def _own_window(self, name: str, step: StepRecord) -> Window:
        """The window of one endpoint: a step by requests ends for it with its own last answer, not a slower one's."""
        from_ns, to_ns = _window(step)
        if step.requests is None:
            return from_ns, to_ns
        cols = self.cols
        own = self._of_endpoint(name) & (cols.step == step.index) & (cols.outcome == OK)
        done = cols.done_ns[own]
        return from_ns, min(to_ns, int(done.max()) + 1) if len(done) else to_ns

    def _metrics(self, name: str, step: StepRecord, ok: np.ndarray, member: np.ndarray) -> dict[str, Any]:
        """Every metric of the catalogue over `ok` rows; gaps are pooled over the groups that `member` marks."""
        cols = self.cols
        found: dict[str, Any] = {}
        for metric in METRICS:
            if metric.of is None:
                groups = np.flatnonzero(member).tolist()
                pooled = cols.pooled_gaps(cols.endpoints.numbers.get(name, -1), step.index, groups)
                found[metric.json_name] = stats.describe_histogram(pooled)
            else:
                values = cols.metrics[metric.name][ok] / metric.scale
                found[metric.json_name] = stats.describe(values, higher_is_better=metric.higher_is_better)
        return found

    def _providers(self) -> dict[str, Any]:
        """Rate limits by provider, over its endpoints."""
        rows_of: dict[str, np.ndarray] = {}
        for name in self.endpoints:
            provider = self._identity(name)["provider"] or _UNKNOWN
            mine = self._of_endpoint(name)
            rows_of[provider] = rows_of[provider] | mine if provider in rows_of else mine
        cols = self.cols
        return {
            provider: {"rate_limits": _rate_limits(cols, np.flatnonzero(rows & cols.measured))}
            for provider, rows in rows_of.items()
        }

    def _of_endpoint(self, name: str) -> np.ndarray:
        mine: np.ndarray = self.cols.endpoint == self.cols.endpoints.numbers.get(name, -1)
        return mine


def _steps(run: RunRecord, cols: Columns) -> list[StepRecord]:
    """The steps of the run, and those that a killed run left samples of but no record: their window is not known."""
    known = {step.index for step in run.steps}
    lost = [StepRecord(int(index), _UNKNOWN, None, None, None, 0, 0, 0) for index in np.unique(cols.step)]
    return [*run.steps, *(step for step in lost if step.index not in known)]


def _counts(cols: Columns, measured: np.ndarray) -> dict[str, Any]:
    """What is counted over rows of the measured phase."""
    ok = measured[cols.outcome[measured] == OK]
    outcomes = _outcomes(cols, measured)
    sent = len(measured) - outcomes[Outcome.DROPPED]
    failed = sent - outcomes[Outcome.OK] - outcomes[Outcome.CANCELLED]
    models = cols.model[measured]
    return {
        "reported_models": dict(sorted(_tally(models[models >= 0], cols.models.names).items())),
        "outcomes": outcomes,
        "empty": int(cols.empty[measured].sum()),
        "error_rate": failed / sent if sent else None,
        "rate_limits": _rate_limits(cols, measured),
        "tokens": _tokens(cols, ok),
    }


def _outcomes(cols: Columns, rows: np.ndarray) -> dict[str, int]:
    """Every outcome with its number, 0 included."""
    counted = np.bincount(cols.outcome[rows], minlength=len(OUTCOMES))
    return {name: int(count) for name, count in zip(OUTCOMES, counted, strict=True)}


def _tally(codes: np.ndarray, names: list[str]) -> dict[str, int]:
    found, counts = np.unique(codes, return_counts=True)
    return {names[int(code)]: int(count) for code, count in zip(found, counts, strict=True)}


def _rate_limits(cols: Columns, measured: np.ndarray) -> dict[str, Any]:
    """Hits and the waits that were asked for, in seconds. No request waits yet, so `waited_s` is 0."""
    hits = measured[cols.outcome[measured] == RATE_LIMITED]
    waits = np.sort(cols.wait_ns[hits][np.isfinite(cols.wait_ns[hits])]) / NS_PER_S
    return {
        "hits": len(hits),
        "by_kind": dict(sorted(_tally(cols.kind[hits], cols.kinds.names).items())),
        "retry_after_s": {"p50": stats.percentile(waits, 500), "max": stats.percentile(waits, 1000)},
        "waited_s": 0.0,
    }


def _tokens(cols: Columns, ok: np.ndarray) -> dict[str, Any]:
    """Sums over `ok` rows of what is known; null where none of them says anything. `mixed`: of several sources."""
    sums: dict[str, Any] = {}
    for name in TOKENS:
        known = cols.tokens[name][ok]
        known = known[np.isfinite(known)]
        sums[name] = int(known.sum()) if len(known) or not len(ok) else None
    sources = list(_tally(cols.source[ok], cols.sources.names))
    sums["source"] = "none" if not sources else sources[0] if len(sources) == 1 else "mixed"
    return sums


def _errors(found: Counter[Error]) -> list[dict[str, Any]]:
    """The commonest failures in the endpoint's own words."""
    return [
        {"outcome": outcome, "status": status, "message": message, "count": count}
        for (outcome, status, message), count in found.most_common(SHOWN_ERRORS)
    ]


def _throughput(cols: Columns, rows: np.ndarray, window: Window) -> dict[str, Any]:
    """What arrived inside the window, per second; null for a window that is empty or not known."""
    from_ns, to_ns = window
    if to_ns <= from_ns:
        return {"requests_per_s": None, "output_tokens_per_s": None, "goodput_per_s": None}
    seconds = (to_ns - from_ns) / NS_PER_S
    done = cols.done_ns[rows[cols.outcome[rows] == OK]]
    return {
        "requests_per_s": int(np.count_nonzero((done >= from_ns) & (done < to_ns))) / seconds,
        "output_tokens_per_s": float(cols.arrived_tokens[rows].sum()) / seconds,
        "goodput_per_s": None,
    }
