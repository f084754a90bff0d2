"""From a name on the command line to a validated scenario with the one-off flags applied.

All mistakes in a file are reported at once, one a line. Traces are read with the scenario, because what they hold is
part of what it means; which prompts they stand for is settled once the prompts are there (`Loaded.steps`). Reading
sends nothing and resolves no secret: what a scenario says of the environment is checked by `check_environment`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from latbench.metrics.catalogue import BY_NAME
from latbench.model.errors import UserError
from latbench.model.load import Ramp, Step, Trace
from latbench.model.request import Endpoint, Timeouts, Tool
from latbench.scenario.files import Document, located, read_yaml, shipped_folder
from latbench.scenario.grading import DEFAULT_SCHEMA
from latbench.scenario.grammar import KeyPath, format_duration, format_key, nearest
from latbench.scenario.load import LoadEntry, end_of, written
from latbench.scenario.needle import NeedleSettings
from latbench.scenario.prompts import PromptSet
from latbench.scenario.resolved import resolved
from latbench.scenario.schema import (
    TASKS,
    BudgetSettings,
    EndpointSettings,
    FromEnvironment,
    OutputSettings,
    PromptSettings,
    Scenario,
    problems_of,
)
from latbench.scenario.thresholds import misplaced, parse
from latbench.scenario.trace import TraceFile, read_trace

_Validated = TypeVar("_Validated", bound=BaseModel)


def find_scenario(name: str, cwd: Path) -> Path:
    """The file of a scenario: a path where the name says so, else one of ./scenarios or of those that come with us."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = cwd / name
        if path.is_dir():
            raise UserError(f"{name}: a folder; name a file of it")
        if not path.is_file():
            there = sorted(f.name for f in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
            raise UserError(f"{name}: no such file" + (f"; {nearest(path.name, there)}" if there else ""))
        return path
    known: dict[str, Path] = {}
    for folder in (shipped_folder(), cwd / "scenarios"):
        known |= {file.stem: file for suffix in ("*.yml", "*.yaml") for file in sorted(folder.glob(suffix))}
    if name not in known:
        names = sorted(known)
        advice = nearest(name, names)
        listed = "" if advice.startswith("there") else f" there are: {', '.join(names)}"
        raise UserError(f'no scenario "{name}"; {advice}{listed}')
    return known[name]


@dataclass(frozen=True)
class Flags:
    """The one-off flags of `run` and `needle`; None is a flag that was not given. They are in the grammar of the file.

    `needle` holds keys of that section, as they are written there.
    """

    url: str | None = None
    model: str | None = None
    api: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    rate: str | None = None
    requests: int | None = None
    duration: str | None = None
    max_tokens: int | str | None = None
    prompts: str | Path | None = None
    seed: int | None = None
    repeat: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    needle: Mapping[str, Any] = field(default_factory=dict)
    thresholds: tuple[str, ...] = ()
    budget: Mapping[str, str] = field(default_factory=dict)


NO_FLAGS = Flags()


@dataclass(frozen=True)
class Loaded:
    """A scenario with the flags applied. `from_flags` names, for each key that a flag set, that flag.

    `traces` are by path as written. What they hold is part of the scenario's `sha256`.
    """

    scenario: Scenario
    source_path: Path
    sha256: str
    document: Document
    from_flags: Mapping[KeyPath, str]
    traces: Mapping[str, TraceFile]

    def where(self, *key: str | int) -> str:
        """The place of a key, as messages begin: `file:line: key`, or the flag that set it."""
        return _where(self.document, self.from_flags, key)

    def resolved(self) -> dict[str, Any]:
        """The scenario as JSON can say it, defaults written out, without secrets. It is itself a scenario."""
        return resolved(self.scenario, _digests(self.traces))

    def endpoints(self) -> list[Endpoint]:
        """The endpoints as the engine takes them."""
        return [_endpoint(settings, self.source_path.parent) for settings in self.scenario.endpoints]

    def timeouts(self) -> Timeouts:
        """The limits of one exchange."""
        limits = self.scenario.timeouts
        return Timeouts(limits.connect, limits.first_output, limits.idle, limits.total)

    def steps(self, prompts: PromptSet) -> list[Step]:
        """The steps of the load, one after the other, with the arrivals of traces.

        Raises UserError where a trace names a prompt that is not among `prompts`.
        """
        return [self._complete(step, prompts) for step in self.scenario.steps()]

    def _complete(self, step: Step, prompts: PromptSet) -> Step:
        order = self.scenario.endpoints_order
        if order is not None and len(self.scenario.endpoints) > 1:
            step = msgspec.structs.replace(step, slice_ns=order.alternate.slice)
        if self.scenario.needle is not None and prompts.prompts:
            most = len(prompts.prompts)
            step = msgspec.structs.replace(step, requests=min(most, step.requests or most))
        if not isinstance(step.shape, Trace):
            return step
        trace = self.traces[step.shape.path]
        shape = trace.resolve(step.shape.path, prompts, self.scenario.seed)
        # Its last line ends a trace, unless something has cut it short before.
        count = len(trace.offsets_ns) if step.requests is None else min(step.requests, len(trace.offsets_ns))
        return msgspec.structs.replace(step, shape=shape, requests=count)

    def slo(self) -> dict[str, float]:
        """The limits by metric, each in the metric's unit."""
        return {name: limit / BY_NAME[name].scale for name, limit in self.scenario.slo.items()}

    def budget(self) -> BudgetSettings | None:
        """What the run may use up."""
        return self.scenario.budget

    def prices(self) -> dict[str, dict[str, float]]:
        """US dollars for a million tokens, by endpoint, of those that have a price."""
        prices = {settings.name: settings.price for settings in self.scenario.endpoints}
        return {name: price.model_dump(exclude_none=True) for name, price in prices.items() if price is not None}

    def schema(self) -> dict[str, Any]:
        """What answers are held to in every output mode but `text`."""
        return self.scenario.output.schema_ or DEFAULT_SCHEMA

    def tools(self) -> tuple[Tool, ...]:
        """The mock tools of the tool loops."""
        return tuple(
            Tool(tool.name, tool.description, tool.parameters, tool.result, tool.delay) for tool in self.scenario.tools
        )

    def promised(self) -> dict[str, dict[str, int]]:
        """The limits that providers promised, by endpoint, of those of which something is known."""
        limits = {settings.name: settings.limits for settings in self.scenario.endpoints}
        return {name: limit.model_dump(exclude_none=True) for name, limit in limits.items() if limit is not None}

    def demand(self) -> dict[str, int]:
        """The peak that is needed; empty where the scenario names none."""
        demand = self.scenario.demand
        return {} if demand is None else demand.model_dump(exclude_none=True)

    @property
    def drain_ns(self) -> int:
        """How long answers are awaited after the end of a step."""
        return self.scenario.drain

    @property
    def prompts_base(self) -> Path:
        """The folder that `prompts.path` is relative to: the scenario's, or the working directory for a flag's."""
        return Path.cwd() if ("prompts",) in self.from_flags else self.source_path.parent


def load_scenario(path: Path, flags: Flags = NO_FLAGS) -> Loaded:
    """Read and validate a scenario, then apply the flags. Raises UserError, one line for each mistake."""
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise UserError(f"{document.where(())}: the top level must be a mapping; begin with `name:`")
    try:
        scenario = Scenario.model_validate(document.data)
    except ValidationError as error:
        found = problems_of(error, Scenario)
        found.sort(key=lambda problem: _line(document, problem[0]))
        raise UserError("\n".join(located(document, found))) from error
    scenario, from_flags = _Override(scenario, flags).apply()
    problems = [f"{_where(document, from_flags, path)}: {what}" for path, what in scenario.misfits()]
    problems += _prices_missing(scenario, document, from_flags)
    problems += _thresholds_misplaced(scenario, document, from_flags)
    traces: dict[str, TraceFile] = {}
    try:
        traces = read_traces(dict(enumerate(scenario.load)), document, from_flags)
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    meant = resolved(scenario, _digests(traces))
    text = json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Loaded(scenario, path, hashlib.sha256(text.encode()).hexdigest(), document, from_flags, traces)


def _where(document: Document, from_flags: Mapping[KeyPath, str], key: KeyPath) -> str:
    for length in range(len(key), 0, -1):
        if key[:length] in from_flags:
            return from_flags[key[:length]]
    return document.where(key)


def _digests(traces: Mapping[str, TraceFile]) -> dict[str, str]:
    return {name: trace.sha256 for name, trace in traces.items()}


def _prices_missing(scenario: Scenario, document: Document, from_flags: Mapping[KeyPath, str]) -> list[str]:
    """A line where dollars are to be counted and an endpoint has no price."""
    if scenario.budget is None or scenario.budget.usd is None:
        return []
    free = [settings.name for settings in scenario.endpoints if settings.price is None]
    if not free:
        return []
    place = _where(document, from_flags, ("budget", "usd"))
    return [
        f"{place}: needs a price of every endpoint, and {', '.join(free)} has none; give it one "
        "(price: {input: 3.00, output: 15.00}), or limit requests or tokens instead"
    ]


def _thresholds_misplaced(scenario: Scenario, document: Document, from_flags: Mapping[KeyPath, str]) -> list[str]:
    """A line for each threshold that this scenario cannot be held to, by its endpoints, steps, prices or SLO."""
    names = [settings.name for settings in scenario.endpoints]
    unpriced = [settings.name for settings in scenario.endpoints if settings.price is None]
    steps, lines = len(scenario.steps()), []
    for index, text in enumerate(scenario.thresholds):
        found = parse(text)
        why = misplaced(
            found,
            endpoints=names,
            unpriced=unpriced,
            tasks=TASKS,
            steps=steps,
            slo=bool(scenario.slo),
            needle=scenario.needle is not None,
        )
        if why is not None:
            place = _where(document, from_flags, ("thresholds", index))
            lines.append(f'{place}: "{text}": {why}')
    return lines


def read_traces(
    entries: Mapping[int, LoadEntry], document: Document, from_flags: Mapping[KeyPath, str]
) -> dict[str, TraceFile]:
    """The traces of entries of `load`, by path as written. Raises UserError, one line for each mistake."""
    traces: dict[str, TraceFile] = {}
    problems: list[str] = []
    for index, entry in entries.items():
        for number, name in enumerate(entry.path):
            place = _where(document, from_flags, ("load", index, "path", number))
            file = document.path.parent / name
            if not file.is_file():
                problems.append(f"{place}: no such file: {name}; it is relative to the scenario's folder")
                continue
            try:
                traces[name] = traces.get(name) or read_trace(file)
            except UserError as error:
                problems.append(str(error))
                continue
            if entry.sha256 not in (None, traces[name].sha256):
                place = _where(document, from_flags, ("load", index, "sha256"))
                problems.append(f"{place}: {name} has changed: its SHA-256 is {traces[name].sha256}")
    if problems:
        raise UserError("\n".join(problems))
    return traces


def _line(document: Document, key: KeyPath) -> int:
    while key not in document.lines:
        key = key[:-1]
    return document.lines[key]


class _Override:
    """Applies flags to a scenario and keeps which key came from which flag."""

    def __init__(self, scenario: Scenario, flags: Flags) -> None:
        self._scenario = scenario
        self._flags = flags
        self._changes: dict[str, Any] = {}
        self._from_flags: dict[KeyPath, str] = {}

    def apply(self) -> tuple[Scenario, dict[KeyPath, str]]:
        self._endpoints()
        self._needle()
        self._load()
        self._rest()
        return self._scenario.model_copy(update=self._changes), self._from_flags

    def _endpoints(self) -> None:
        flags, endpoints = self._flags, self._scenario.endpoints
        names = {"base_url": "--url", "model": "--model", "api": "--api", "api_key_env": "--api-key-env"}
        values = {"base_url": flags.url, "model": flags.model, "api": flags.api, "api_key_env": flags.api_key_env}
        given = {key: value for key, value in values.items() if value is not None}
        if not given:
            return
        if "base_url" in given:
            base = EndpointSettings(name="unnamed", api="openai-chat", base_url="sim", model=self._model_for_url())
        elif len(endpoints) == 1:
            base = endpoints[0]
        else:
            several = ", ".join(endpoint.name for endpoint in endpoints)
            raise UserError(f"{names[next(iter(given))]}: there are several endpoints ({several}); give --url as well")
        # Validated by themselves: the other settings come from the file and have been.
        checked = _validate(
            EndpointSettings, {"name": "-", "api": base.api, "base_url": "sim", "model": "-", **given}, names
        )
        new = {key: getattr(checked, key) for key in given}
        if "base_url" in given:
            new["name"] = new.get("model", base.model)
        self._changes["endpoints"] = (base.model_copy(update=new),)
        self._from_flags |= {("endpoints", 0, key): names[key] for key in given}
        if "base_url" in given:
            self._from_flags[("endpoints",)] = "--url"

    def _model_for_url(self) -> str:
        first = self._scenario.endpoints[0]
        if self._flags.model is None and first.base_url == "sim" != self._flags.url:
            raise UserError(f"--url: the scenario's endpoint is simulated ({first.model}); name the model with --model")
        return self._flags.model or first.model

    def _needle(self) -> None:
        """The section `needle` with the keys of the flags; a preset among them replaces all of it, and the load."""
        given = dict(self._flags.needle)
        if not given:
            return
        written = self._scenario.needle
        base = {} if written is None or "preset" in given else written.model_dump(mode="json")
        names = {key: f"--{key.replace('_', '-')}" for key in given}
        needle = _validate(NeedleSettings, base | given, names)
        changes: dict[str, Any] = {"needle": needle, "prompts": None}
        self._from_flags |= {("needle", key): name for key, name in names.items()}
        if "preset" in given or written is None:
            changes["load"] = ()
            self._from_flags[("load",)] = names.get("preset", "needle")
        self._scenario = self._scenario.model_copy(update=changes)

    def _load(self) -> None:
        flags, first = self._flags, self._scenario.steps()[0]
        values = {"concurrency": flags.concurrency, "rate": flags.rate}
        values |= {"requests": flags.requests, "duration": flags.duration}
        given = {key: value for key, value in values.items() if value is not None}
        if not given:
            return
        if "concurrency" in given and "rate" in given:
            raise UserError(
                "--rate: not with --concurrency: a rate makes an open loop, a concurrency a closed one; leave one out"
            )
        names = {key: f"--{key}" for key in given}
        entry = self._how(given, first) | self._until(given, first)
        # A warm-up is the first step's where the step still ends in the same way; else the rule decides.
        if "requests" not in given or first.requests is not None:
            entry |= self._written_warmup()
        if not {"requests", "duration"} & {*entry, *given} and entry["shape"] != "trace":
            flag = " ".join(names.values())
            raise UserError(f"{flag}: needs --requests or --duration: the first step is only as long as its trace")
        self._changes["load"] = (_validate(LoadEntry, entry | given, names),)
        self._from_flags[("load",)] = " ".join(names.values())

    def _how(self, given: Mapping[str, Any], first: Step) -> dict[str, Any]:
        """How hard the one step pushes: as the first one does, unless a flag makes another shape of it."""
        entry = {key: value for key, value in written(first).items() if key not in ("requests", "duration", "warmup")}
        kept = {"concurrency": ("think",), "rate": ("max_in_flight",)}
        for flag, shape in (("concurrency", "closed"), ("rate", "poisson")):
            if flag in given:
                entry = {key: value for key, value in entry.items() if key in kept[flag]} | {"shape": shape}
        if isinstance(first.shape, Trace) and entry["shape"] == "trace" and self._scenario.load[0].sha256 is not None:
            entry["sha256"] = self._scenario.load[0].sha256
        return entry

    def _until(self, given: Mapping[str, Any], first: Step) -> dict[str, Any]:
        """What ends it: the flags, else what ends the first one. A ramp has a duration in any case."""
        end = end_of(first)
        if not {"requests", "duration"} & set(given):
            return end
        still_ramp = isinstance(first.shape, Ramp) and not {"concurrency", "rate"} & set(given)
        return {"duration": end["duration"]} if still_ramp else {}

    def _written_warmup(self) -> dict[str, str]:
        entries = self._scenario.load
        written = entries[0].warmup if entries else ()
        return {"warmup": format_duration(written[0])} if written else {}

    def _rest(self) -> None:
        flags = self._flags
        if flags.max_tokens is not None:
            names = {"max_tokens": "--max-tokens"}
            written = resolved(self._scenario, {})["output"] | {"max_tokens": flags.max_tokens}
            self._changes["output"] = _validate(OutputSettings, written, names)
            self._from_flags[("output", "max_tokens")] = "--max-tokens"
        if flags.prompts is not None:
            if self._scenario.needle is not None:
                raise UserError("--prompts: not with needle, whose trials are what is sent; leave it out")
            self._changes["prompts"] = _validate(PromptSettings, {"path": str(flags.prompts)}, {"path": "--prompts"})
            self._from_flags[("prompts",)] = "--prompts"
        if flags.seed is not None:
            self._top_level("seed", flags.seed, "--seed")
        if flags.repeat is not None:
            self._top_level("repeat", flags.repeat, "--repeat")
        if flags.thresholds:
            self._thresholds()
        if flags.budget:
            named = {key: f"--budget: {key}" for key in flags.budget}
            self._changes["budget"] = _validate(BudgetSettings, _with_dollars(flags.budget), named)
            self._from_flags[("budget",)] = "--budget"
        if flags.labels:
            self._top_level("labels", self._scenario.labels | dict(flags.labels), "--label")

    def _thresholds(self) -> None:
        """Those of the flags are held to as well as the scenario's."""
        own = self._scenario.thresholds
        self._top_level("thresholds", [*own, *self._flags.thresholds], "--threshold")
        del self._from_flags[("thresholds",)]
        self._from_flags |= {("thresholds", len(own) + at): "--threshold" for at in range(len(self._flags.thresholds))}

    def _top_level(self, key: str, value: object, flag: str) -> None:
        data = resolved(self._scenario, {}) | {key: value}
        self._changes[key] = getattr(_validate(Scenario, data, {key: flag}), key)
        self._from_flags[(key,)] = flag


def _with_dollars(budget: Mapping[str, str]) -> dict[str, Any]:
    """A budget of words with its dollars as the number that they are, if they are one."""
    written: dict[str, Any] = dict(budget)
    with suppress(KeyError, ValueError):
        written["usd"] = float(written["usd"])
    return written


# Flags whose values may hold a secret, by mistake or by nature, are not repeated.
_REPEATED = ("--duration", "--concurrency", "--rate", "--requests", "--max-tokens", "--seed", "--repeat", "--api")


def _validate(model: type[_Validated], data: dict[str, Any], names: Mapping[str, str]) -> _Validated:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for path, message in problems_of(error, model):
            flag = names.get(str(path[0]), format_key(path)) if path else " ".join(names.values())
            value = f" {data[str(path[0])]}" if flag in _REPEATED else ""
            lines.append(f"{flag}{value}: {message}")
        raise UserError("\n".join(lines)) from error


def _endpoint(settings: EndpointSettings, base: Path) -> Endpoint:
    headers = settings.headers.items()
    return Endpoint(
        name=settings.name,
        provider=settings.provider or settings.name,
        api=settings.api,
        base_url=settings.base_url,
        model=settings.model,
        api_key_env=settings.api_key_env,
        headers={name: value for name, value in headers if isinstance(value, str)},
        header_env={name: value.env for name, value in headers if isinstance(value, FromEnvironment)},
        body=dict(settings.body),
        stream=settings.stream,
        max_tokens_field=settings.max_tokens_field,
        usage=settings.usage,
        ca_file=None if settings.ca_file is None else str((base / settings.ca_file).absolute()),
        proxy=settings.proxy,
    )


def check_environment(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Raises UserError where an environment variable or a CA file that the scenario names is not there."""
    settings = dict(enumerate(loaded.scenario.endpoints))
    lines = not_there(settings, loaded.source_path.parent, loaded.where, environ)
    if lines:
        raise UserError("\n".join(lines))


def not_there(
    endpoints: Mapping[int, EndpointSettings],
    base: Path,
    where: Callable[..., str],
    environ: Mapping[str, str],
) -> list[str]:
    """A line for each variable and each file that endpoints name and that is not there; `where` names a key's place."""
    lines: list[str] = []
    for index, settings in endpoints.items():
        keys: list[tuple[KeyPath, str]] = [
            (("api_key_env", number), name) for number, name in enumerate(settings.api_key_env)
        ]
        keys += [
            (("headers", name, "env"), value.env)
            for name, value in settings.headers.items()
            if isinstance(value, FromEnvironment)
        ]
        for key, variable in keys:
            if not environ.get(variable, "").strip():
                place = where("endpoints", index, *key)
                lines.append(f"{place}: the environment variable {variable} is not set; export it")
        ca_file = _endpoint(settings, base).ca_file
        if ca_file is not None and not Path(ca_file).is_file():
            place = where("endpoints", index, "ca_file")
            lines.append(f"{place}: no such file: {settings.ca_file}; it is relative to the scenario's folder")
    return lines
