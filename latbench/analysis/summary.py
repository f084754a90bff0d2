"""`summary.json` from a run and its samples: what scripts may rely on (schema 1), and all that reports show.

The samples are read once into columns; an endpoint in a step, and every slice of it, is an array of row numbers. Only
the phase `measure` enters outcomes and metrics, only `ok` the metrics. Throughput is what arrived inside the measured
window of the step, whatever phase it was due in. Nothing here prints or stores.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from latbench.analysis import client, counts, evidence, limits, modes, slo, stats, thresholds, validity
from latbench.analysis.cautions import cautions
from latbench.analysis.columns import Columns, Error, Layout, Window, gather
from latbench.analysis.cost import cost
from latbench.analysis.delivered import effective_answers
from latbench.analysis.groups import SLICES, UNKNOWN, Groups, PromptInfo
from latbench.analysis.lead import lead
from latbench.analysis.needle.trials import Trials
from latbench.analysis.repeats import repeat_of, repeats
from latbench.analysis.sessions import sessions
from latbench.analysis.tool_loops import tool_loops
from latbench.analysis.windows import loaded_ns, window
from latbench.analysis.words import OK
from latbench.metrics.catalogue import METRICS, NS_PER_S
from latbench.metrics.histogram import Histogram
from latbench.model.load import Step, ToolLoop, Trace
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome, Sample

SCHEMA_VERSION = 1
THIN_BELOW_PROMPTS = 30


def summarise(
    run: RunRecord,
    samples: Iterable[Sample],
    prompts: Mapping[str, PromptInfo],
    *,
    planned: Mapping[tuple[str, str], int] | None = None,
    efforts: client.Efforts = (),
    needle: Mapping[tuple[str, int], Trials] | None = None,
) -> dict[str, Any]:
    """The summary of a run.

    `planned` gives the arrivals that became due by (phase, endpoint), counted apart from the samples and held against
    them. Without it they come from `run.engine["planned"]`, which maps `endpoint/phase`; without that, only their total
    is checked, where `run.planned` gives it. In a run that is still `running`, `lost` stands for what is in flight: it
    is left out. `efforts` are what the engines said of themselves, `needle` has the needle trials by endpoint and step,
    where the run sent such.
    """
    groups = Groups(prompts)
    if run.state == "running":
        samples = (sample for sample in samples if sample.outcome != Outcome.LOST)
    cols = gather(samples, _layout(run, groups.of_prompt))
    windows = {step.index: (step.measure_from_ns, step.measure_to_ns) for step in run.steps}
    told = client.gather(efforts, windows)
    counted = _stored_plan(run) if planned is None else planned
    return _Summary(run, cols, groups, counted, told, needle or {}).document()


def _stored_plan(run: RunRecord) -> dict[tuple[str, str], int]:
    stored: dict[str, int] = run.engine.get("planned") or {}
    split = ((key.rpartition("/"), count) for key, count in stored.items())
    return {(phase, endpoint): count for (endpoint, _, phase), count in split}


def _layout(run: RunRecord, groups: Mapping[str, int]) -> Layout:
    return Layout(
        groups=groups,
        windows={
            (name, step.index): window(step, place) for step in run.steps for place, name in enumerate(run.endpoints)
        },
        turns={
            step.index: turns
            for step in run.steps
            if step.load is not None and (turns := step.load.most_turns) is not None
        },
        open_steps={step.index for step in run.steps if step.load is not None and step.load.open},
        limited=set(run.slo),
        modes=len(modes.listed(run.scenario)) > 1,
        pace=slo.pace(run.slo),
    )


class _Summary:
    """One summary in the making: the run, its columns, and the row numbers of each endpoint and step."""

    def __init__(
        self,
        run: RunRecord,
        cols: Columns,
        groups: Groups,
        planned: Mapping[tuple[str, str], int],
        told: client.Client,
        needle: Mapping[tuple[str, int], Trials],
    ) -> None:
        self.run = run
        self.client = told
        self.cols = cols
        self.groups = groups
        self.planned = planned
        self.needle = needle
        self.good = slo.good_rows(run, cols)
        self.steps = _steps(run, cols)
        self.words = _told_apart(self.steps)
        seen = sorted(name for name in cols.endpoints.names if name not in run.endpoints)
        self.endpoints = [*run.endpoints, *seen]

    def document(self) -> dict[str, Any]:
        """The whole summary. With one step the endpoints at the top are those of the step."""
        steps = [self._step(step) for step in self.steps]
        single = len(steps) == 1
        if not single:
            _add_speed_up(steps)
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self._run(),
            "validity": self._validity(),
            "endpoints": steps[0]["endpoints"] if single else {name: self._over_steps(name) for name in self.endpoints},
            "providers": self._providers(),
            "steps": steps,
            "slo": dict(self.run.slo) or None,
            "levels": slo.levels(self.endpoints, steps) if self.run.slo else None,
            "thresholds": thresholds.judge(self.run, steps),
            "provenance": self._provenance(),
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
            "resumes": run.engine.get("needle", {}).get("resumes"),
            "stops": [{"endpoint": endpoint, "reason": why} for endpoint, why in run.stops],
        }

    def _provenance(self) -> dict[str, Any]:
        """What two runs may differ in besides their figures; the scenario is without secrets."""
        run = self.run
        return {
            "version": run.version,
            "seed": run.seed,
            "host": {key: run.host.get(key) for key in ("name", "system", "python", "cores")},
            "prompts": run.engine.get("prompts"),
            "scenario": run.scenario,
        }

    def _validity(self) -> dict[str, Any]:
        cols = self.cols
        by_endpoint = {
            (phase, name): counts.outcomes(cols, np.flatnonzero(self._of_endpoint(name) & (cols.measured == measured)))
            for phase, measured in (("measure", True), ("warmup", False))
            for name in self.endpoints
        }
        lateness, lags = self._lateness(self.steps), self.client.whole
        verdict, reasons = validity.judge(
            self.run,
            by_endpoint,
            self.planned,
            {step.index: one for step in self.steps if (one := self._lateness([step])) is not None},
            self._found(by_endpoint),
            self._dropped(),
            {
                step.index: counts.outcomes(cols, np.flatnonzero(cols.measured & (cols.step == step.index)))
                for step in self.steps
            },
        )
        measure = counts.outcomes(cols, np.flatnonzero(cols.measured))
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
            "warmup": self._warmup(),
            "send_lateness_ms": None if lateness is None else lateness.table_ms,
            "client_lag_ms": client.table_ms(lags.worse),
            "probe_lag_ms": client.table_ms(lags.probe),
            "chunk_lag_ms": client.table_ms(lags.chunk),
            "engine_cpu": self.run.engine.get("cpu") if self.client.cpu is None else self.client.cpu,
            "null_test": self.run.engine.get("null_test"),
        }

    def _warmup(self) -> dict[str, Any]:
        """What became of the warm-up of all steps: counted, and in words, the commonest of each endpoint first."""
        cols = self.cols
        ranked = [
            (rank, -error["count"], {"endpoint": name, **error})
            for name in self.endpoints
            for rank, error in enumerate(counts.errors(self._said(cols.warmup_errors, name)))
        ]
        return {
            "outcomes": counts.outcomes(cols, np.flatnonzero(~cols.measured)),
            "errors": [error for *_, error in sorted(ranked, key=lambda one: one[:2])],
        }

    def _said(self, errors: Mapping[tuple[int, int], Counter[Error]], name: str) -> Counter[Error]:
        """An endpoint's failures over all steps."""
        number = self.cols.endpoints.numbers.get(name, -1)
        said: Counter[Error] = Counter()
        for (endpoint, _), found in errors.items():
            if endpoint == number:
                said.update(found)
        return said

    def _dropped(self) -> dict[int, Counter[str]]:
        """Why requests of each step's measured phase were never sent, as the engines said it."""
        said: dict[int, Counter[str]] = {}
        for (_, step), found in self.cols.errors.items():
            for (outcome, _, message), count in found.items():
                if outcome == Outcome.DROPPED:
                    said.setdefault(step, Counter())[message] += count
        return said

    def _found(self, by_endpoint: validity.Counts) -> list[dict[str, Any]]:
        """What speaks against the figures besides the counts and the lateness."""
        steps, cols = self.run.steps, self.cols
        gap_ns: dict[int, float] = {}
        for step in steps:
            medians = (self._gaps(name, step, self.groups.all).percentile(500) for name in self.endpoints)
            gap_ns[step.index] = min((median for median in medians if median is not None), default=0)
        return [
            *client.reasons(self.run, self.client, steps, gap_ns),
            *evidence.littles_law(self.run, by_endpoint, cols, self.client.occupied_ns),
            *evidence.answers(self.run, cols),
            *evidence.warmups(cols, steps, self.endpoints),
        ]

    def _lateness(self, steps: Sequence[StepRecord]) -> validity.Lateness | None:
        """How late what arrived in the open loops of these steps was sent; None where nothing was.

        Later turns of a conversation are due when they are sent: they are no arrivals, and are never late.
        """
        cols = self.cols
        arrived = np.zeros(len(cols.step), np.bool_)
        for step in steps:
            if step.load is not None and step.load.open:
                arrived |= (cols.step == step.index) & (cols.seq % (step.load.most_turns or 1) == 0)
        due = cols.measured & arrived
        medians = (
            stats.percentile(np.sort(values[np.isfinite(values)]), 500)
            for name in self.endpoints
            for values in [cols.metrics["ttft"][due & self._of_endpoint(name)]]
        )
        return validity.lateness(cols.late_ns[due], [median for median in medians if median is not None])

    def _step(self, step: StepRecord) -> dict[str, Any]:
        return {
            "index": step.index,
            "shape": step.shape,
            "words": self.words[step.index],
            "load": None if step.load is None else _load(step.load),
            "concurrency": step.concurrency,
            "rate": step.rate,
            "requests": step.requests,
            "slices": step.slices,
            "phase_s": [step.measure_from_ns / NS_PER_S, step.measure_to_ns / NS_PER_S],
            "endpoints": {name: self._in_step(name, step) for name in self.endpoints},
            "needle_pairs": self._needle_pairs(step),
        }

    def _in_step(self, name: str, step: StepRecord) -> dict[str, Any]:
        """An endpoint in one step, with its slices."""
        rows = np.flatnonzero(self._of_endpoint(name) & (self.cols.step == step.index))
        block = self._identity(name) | self._block(name, step, rows, self._gaps(name, step, self.groups.all))
        number = self.cols.endpoints.numbers.get(name, -1)
        block["errors"] = counts.errors(self.cols.errors.get((number, step.index), Counter()))
        block["rate_limits"] = self._limits(rows, self.run.promised.get(name, {}), fitted=len(self.steps) == 1)
        block["warnings"] = cautions(block["metrics"])
        block["speed_up"] = None
        cut = step is self.steps[-1] and any(what == "budget" for what, _ in self.run.stops)
        block["meets_slo"] = (
            None if cut else slo.meets(block["good_share"])
        )  # the budget's drops are not the endpoint's
        block["lead"] = self._lead(block, rows, step.started_ns)
        block["modes"] = self._modes(name, step, rows)
        block["repeats"] = repeats(self.cols, rows[self.cols.measured[rows]], repeat_of(self.run.scenario))
        block["needle"] = self._needle(name, step)
        block |= {kind: {} for kind in SLICES}
        group = self.cols.group[rows]
        measured = self.cols.measured[rows]
        for kind, value, member in self.groups.slices(np.unique(group[measured])):
            block[kind][value] = self._slice(name, step, rows[member[group]], self._gaps(name, step, member))
        return block | self._conversations(name, step, rows)

    def _needle(self, name: str, step: StepRecord) -> dict[str, Any] | None:
        """What the needle trials of an endpoint in one step say; null where it was sent none."""
        trials = self.needle.get((name, step.index))
        if trials is None:
            return None
        from latbench.analysis.needle.block import needle_block  # with SciPy: a second, which most runs do not need

        return needle_block(trials, self.run.seed)

    def _needle_pairs(self, step: StepRecord) -> list[dict[str, Any]] | None:
        """Each endpoint against each on the same needle trials; null where fewer than two were sent such."""
        trials = {name: of for name in self.endpoints if (of := self.needle.get((name, step.index))) is not None}
        if len(trials) < 2:
            return None
        from latbench.analysis.needle.paired import paired_block  # with SciPy, as above

        return paired_block(trials)

    def _slice(self, name: str, step: StepRecord, rows: np.ndarray, gaps: Histogram) -> dict[str, Any]:
        prompts = len(np.unique(self.cols.prompt[rows[self.cols.measured[rows]]]))
        block = self._identity(name) | self._block(name, step, rows, gaps)
        return block | {"prompts": prompts, "thin": prompts < THIN_BELOW_PROMPTS}

    def _conversations(self, name: str, step: StepRecord, rows: np.ndarray) -> dict[str, Any]:
        """The sessions or tool loops of an endpoint in one step, and its requests by turn; null for other shapes."""
        turns = None if step.load is None else step.load.most_turns
        if step.load is None or turns is None:
            return {"sessions": None, "tool_loop": None, "by_turn": None}
        number = self.cols.endpoints.numbers.get(name, -1)
        turn = self.cols.seq[rows] % turns
        by_turn = {
            str(one): self._slice(name, step, rows[turn == one], self.cols.gaps_of_turn(number, step.index, one))
            for one in np.unique(turn[self.cols.measured[rows]]).tolist()
        }
        shape, running = step.load.shape, self.run.state == "running"
        loop = isinstance(shape, ToolLoop)
        return {
            "sessions": None if loop else sessions(self.cols, rows, turns, running=running),
            "tool_loop": tool_loops(self.cols, rows, shape, running=running) if isinstance(shape, ToolLoop) else None,
            "by_turn": by_turn,
        }

    def _modes(self, name: str, step: StepRecord, rows: np.ndarray) -> dict[str, Any] | None:
        """The output modes of an endpoint in one step, each and against the first; null where there is one only."""
        cols, listed = self.cols, modes.listed(self.run.scenario)
        if len(listed) < 2:
            return None
        endpoint, arms = cols.endpoints.numbers.get(name, -1), {}
        for mode in listed:
            number = cols.modes.numbers.get(mode, -1)
            gaps = cols.gaps_of_mode(endpoint, step.index, number)
            own = rows[cols.mode[rows] == number]
            arms[mode] = self._slice(name, step, own, gaps)
            arms[mode][modes.LENGTH] = modes.length(cols, own[cols.measured[own]])
        return {
            "baseline": modes.baseline(listed),
            "arms": arms,
            "overhead": modes.overhead(cols, rows[cols.measured[rows]], listed),
        }

    def _lead(self, block: Mapping[str, Any], rows: np.ndarray, started_ns: int) -> list[dict[str, Any]]:
        """`rows` are those of a step, or of all, that began at `started_ns`."""
        done = self.cols.done_ns[rows[self.cols.outcome[rows] == OK]]
        price = block["cost"]
        figures: dict[str, float | None] = {
            "total_time": (float(done.max()) - started_ns) / NS_PER_S if len(done) else None,
            "usd_per_1k_tokens": None if price is None else price["usd_per_1k_tokens"],
        }
        figures["error_rate"] = block["error_rate"]
        if block["throughput"] is not None:
            per_s = block["throughput"]["requests_per_s"]
            figures["requests_per_min"] = None if per_s is None else per_s * 60
            figures["requests_per_s"] = per_s
            figures["output_tokens_per_s"] = block["throughput"]["output_tokens_per_s"]
            figures["goodput"] = block["throughput"]["goodput_per_s"]
        return lead(self.run.lead, self.run.slo, block["metrics"], figures)

    def _over_steps(self, name: str) -> dict[str, Any]:
        """An endpoint over several steps: counts and cost are summed, what depends on the load is null."""
        rows = np.flatnonzero(self._of_endpoint(name))
        measured = rows[self.cols.measured[rows]]
        nothing = dict.fromkeys(
            (
                "metrics",
                "throughput",
                "speed_up",
                "meets_slo",
                "sessions",
                "tool_loop",
                "by_turn",
                "modes",
                "repeats",
                "needle",
                *SLICES,
            )
        )
        errors = counts.errors(self._said(self.cols.errors, name))
        block = self._identity(name) | self._sums(name, measured) | {"errors": errors} | nothing
        block["warnings"] = []
        block["rate_limits"] = self._limits(rows, self.run.promised.get(name, {}))
        block["lead"] = self._lead(block, rows, min((step.started_ns for step in self.steps), default=0))
        return block

    def _identity(self, name: str) -> dict[str, Any]:
        known = self.run.endpoints.get(name, {})
        return {key: known.get(key) for key in ("provider", "api", "model")}

    def _block(self, name: str, step: StepRecord, rows: np.ndarray, gaps: Histogram) -> dict[str, Any]:
        """Counts, metrics and throughput of some rows (both phases) of one endpoint and step, with their `gaps`."""
        cols = self.cols
        measured = rows[cols.measured[rows]]
        ok = cols.in_due_order(measured[cols.outcome[measured] == OK])
        return {
            **self._sums(name, measured),
            "metrics": _metrics(cols, ok, gaps),
            "throughput": self._throughput(name, step, rows),
        }

    def _sums(self, name: str, measured: np.ndarray) -> dict[str, Any]:
        """What adds up over rows of the measured phase of an endpoint."""
        share = slo.share(self.cols, self.good, measured)
        return {
            **counts.counted(self.cols, measured),
            **share,
            "valid": modes.validity(self.cols, measured),
            "cost": cost(self.cols, measured, self.run.prices.get(name), self.good),
        }

    def _throughput(self, name: str, step: StepRecord, rows: np.ndarray) -> dict[str, Any]:
        """What arrived inside the endpoint's window, per second in which it was loaded; null for an empty window."""
        cols = self.cols
        from_ns, to_ns = own = self._own_window(name, step)
        if to_ns <= from_ns:
            return dict.fromkeys(("requests_per_s", "output_tokens_per_s", "goodput_per_s", "n_eff"))
        seconds = loaded_ns(step, self.endpoints.index(name), own) / NS_PER_S
        done = cols.done_ns[rows]
        inside = rows[(cols.outcome[rows] == OK) & (done >= from_ns) & (done < to_ns)]
        tokens = rows[cols.arrived_tokens[rows] > 0]
        found: dict[str, Any] = {
            "requests_per_s": len(inside) / seconds,
            "output_tokens_per_s": float(cols.arrived_tokens[tokens].sum()) / seconds,
            "goodput_per_s": None,
        }
        weights = {
            "requests_per_s": (inside, np.ones(len(inside))),
            "output_tokens_per_s": (tokens, cols.arrived_tokens[tokens]),
        }
        if self.good is not None:
            good = inside[self.good[inside]]
            found["goodput_per_s"] = len(good) / seconds
            weights["goodput_per_s"] = good, np.ones(len(good))
        last_ns = float(np.nextafter(to_ns, from_ns))  # what was still coming had its tokens until the end
        return found | {
            "n_eff": {
                figure: effective_answers(each, (np.minimum(cols.done_ns[of], last_ns) - from_ns) / (to_ns - from_ns))
                for figure, (of, each) in weights.items()
            }
        }

    def _own_window(self, name: str, step: StepRecord) -> Window:
        """The window of one endpoint: a step by requests ends for it with its own last request, not a slower one's.

        That one need not be `ok`: the time in which an endpoint refused or did not answer is part of its throughput.
        """
        from_ns, to_ns = window(step, self.endpoints.index(name))
        if step.requests is None:
            return from_ns, to_ns
        cols = self.cols
        done = cols.done_ns[self._of_endpoint(name) & (cols.step == step.index)]
        done = done[np.isfinite(done)]
        return from_ns, min(to_ns, int(done.max()) + 1) if len(done) else to_ns

    def _providers(self) -> dict[str, Any]:
        """Rate limits by provider, over its endpoints."""
        of: dict[str, list[np.ndarray]] = {}
        for name in self.endpoints:
            of.setdefault(self._identity(name)["provider"] or UNKNOWN, []).append(self._of_endpoint(name))
        return {
            provider: {"rate_limits": self._limits(np.flatnonzero(np.any(rows, axis=0)), {}, endpoints=len(rows))}
            for provider, rows in of.items()
        }

    def _limits(
        self, rows: np.ndarray, promised: Mapping[str, int], *, endpoints: int = 1, fitted: bool = True
    ) -> dict[str, Any]:
        """The rate limits that rows of both phases met, held against what was promised and what is needed.

        The rows are of so many `endpoints`. Those of one step of several are not `fitted` with a limiter: what earlier
        steps used counts for it, too.
        """
        cols, rows = self.cols, self.cols.on_limits(rows)
        measured = cols.attempts(rows[cols.measured[rows]])
        return limits.rate_limits(
            measured,
            whole=cols.attempts(rows),
            promised=promised,
            demand=_demand(self.run),
            endpoints=endpoints,
            fitted=fitted,
        )

    def _gaps(self, name: str, step: StepRecord, member: np.ndarray) -> Histogram:
        """The chunk gaps of an endpoint in a step, pooled over the groups that `member` marks."""
        number = self.cols.endpoints.numbers.get(name, -1)
        return self.cols.pooled_gaps(number, step.index, np.flatnonzero(member).tolist())

    def _of_endpoint(self, name: str) -> np.ndarray:
        mine: np.ndarray = self.cols.endpoint == self.cols.endpoints.numbers.get(name, -1)
        return mine


def _demand(run: RunRecord) -> limits.Demand | None:
    return limits.Demand(run.demand["rpm"], run.demand.get("tokens_per_request")) if run.demand else None


def _words(step: StepRecord) -> str:
    """How hard a step pushed. Runs of older versions have no `load`."""
    if step.load is not None:
        return step.load.words
    if step.concurrency is not None:
        return f"{step.shape} {step.concurrency}"
    return step.shape if step.rate is None else f"{step.shape} {step.rate:g}/s"


def _told_apart(steps: Sequence[StepRecord]) -> dict[int, str]:
    """The words for each step, by index: to those that several steps share, what these differ in is added."""
    words = {step.index: _words(step) for step in steps}
    parts = {step.index: _parts(step) for step in steps}
    found = {}
    for index, mine in words.items():
        alike = [parts[other] for other, its in words.items() if its == mine]
        more = [part for at, part in enumerate(parts[index]) if part and len({one[at] for one in alike}) > 1]
        found[index] = ", ".join([mine, *more])
    return found


def _parts(step: StepRecord) -> tuple[str, ...]:
    """What the words for a step leave out: what ends it, its warm-up, its cap."""
    load = step.load
    if load is None:
        return ("" if step.requests is None else f"{step.requests} requests", "", "", "", "")
    return (
        "" if load.requests is None else f"{load.requests} {load.arrive}",
        "" if load.duration_ns is None else f"{load.duration_ns / NS_PER_S:g} s",
        f"warm-up {load.warmup_ns / NS_PER_S:g} s" if load.warmup_ns else "no warm-up",
        "" if load.max_in_flight is None else f"at most {load.max_in_flight} in flight",
        f"up to {load.shape.max_rounds} round trips" if isinstance(load.shape, ToolLoop) else "",
    )


def _load(load: Step) -> dict[str, Any]:
    """A step as it was planned, without the arrivals of a trace."""
    shape = load.shape
    if isinstance(shape, Trace):
        shape = msgspec.structs.replace(shape, offsets_ns=b"", prompt=b"", max_tokens=b"", prompt_ids=())
    found: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(load, shape=shape))
    for name in ("offsets_ns", "prompt", "max_tokens", "prompt_ids"):
        found["shape"].pop(name, None)
    return found


def _add_speed_up(steps: list[dict[str, Any]]) -> None:
    """Throughput of each step against the first, by endpoint; null where the first had none."""
    for step in steps:
        for name, block in step["endpoints"].items():
            first = steps[0]["endpoints"][name]["throughput"]["requests_per_s"]
            own = block["throughput"]["requests_per_s"]
            block["speed_up"] = own / first if first and own is not None else None


def _metrics(cols: Columns, ok: np.ndarray, gaps: Histogram) -> dict[str, Any]:
    """Every metric of the catalogue over `ok` rows in due order; `gaps` are their chunk gaps, pooled."""
    found: dict[str, Any] = {}
    for metric in METRICS:
        if metric.of is None and metric.of_pace is None:
            found[metric.json_name] = stats.describe_histogram(gaps)
        else:
            column = cols.metrics.get(metric.name)  # None: nobody set the limits that it is held against
            values = np.empty(0) if column is None else column[ok] / metric.scale
            found[metric.json_name] = stats.describe(values, higher_is_better=metric.higher_is_better)
    return found


def _steps(run: RunRecord, cols: Columns) -> list[StepRecord]:
    """The steps of the run, and those that a killed run left samples of but no record: their window is not known."""
    known = {step.index for step in run.steps}
    lost = [StepRecord(int(index), UNKNOWN, None, None, None, 0, 0, 0) for index in np.unique(cols.step)]
    return [*run.steps, *(step for step in lost if step.index not in known)]
