"""From a name on the command line to a validated scenario with the one-off flags applied.

YAML is read as a tree of nodes, so that every message can name the true line; what YAML 1.1 makes of `off` or `1:30`
is taken as the text it is. All mistakes in a file are reported at once, one a line. Reading sends nothing and resolves
no secret: what a scenario says of the environment is checked by `check_environment`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from latbench.model.errors import UserError
from latbench.model.request import Endpoint, Timeouts
from latbench.scenario.schema import (
    EndpointSettings,
    FromEnvironment,
    KeyPath,
    LoadEntry,
    OutputSettings,
    PromptSettings,
    Scenario,
    Step,
    format_duration,
    format_key,
    nearest,
    problems_of,
)

MAX_FILE_BYTES = 20 * 2**20
_MAX_NODES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_Validated = TypeVar("_Validated", bound=BaseModel)

# The parser in C reads a whole prompt pack in a fraction of a second; both give the same nodes.
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def shown(path: Path) -> str:
    """A path as messages name it: relative where it lies below the working directory."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises UserError for what is missing, unreadable, huge or not text."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{shown(path)}: larger than {MAX_FILE_BYTES // 2**20} MB; split it")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{shown(path)}:{line}: not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{shown(path)}: a binary file; only text can be read")
    return text


@dataclass(frozen=True)
class Document:
    """The data of a YAML file, and the line of each value in it (a key's line for what stands in a mapping)."""

    path: Path
    data: Any
    lines: Mapping[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """`file:line: key`. An index into what is written as a single value is left out."""
        kept: KeyPath = ()
        line = self.lines[()]
        for part in key:
            if (*kept, part) in self.lines:
                line = self.lines[(*kept, part)]
            elif isinstance(part, int):
                continue
            kept = (*kept, part)
        return f"{shown(self.path)}:{line}" + (f": {format_key(kept)}" if kept else "")


def read_yaml(path: Path) -> Document:
    """A file with one YAML document of plain data. Raises UserError with the line of each mistake."""
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=_YAML_LOADER)
        if node is None:
            raise UserError(f"{shown(path)}: the file is empty")
        reader = _NodeReader()
        data = reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_error(path, text, error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{shown(path)}:{line}: a control character, which YAML does not allow; remove it") from error
    except RecursionError as error:
        raise UserError(f"{shown(path)}: nested too deeply") from error
    document = Document(path, data, reader.lines)
    if reader.problems:
        raise UserError("\n".join(_located(document, reader.problems)))
    return document


def _syntax_error(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    line = error.problem_mark.line if error.problem_mark else 0
    lines = text.splitlines()
    # The parser may see a tab's harm only on the line after it.
    for index in (line, line - 1):
        if 0 <= index < len(lines) and "\t" in lines[index][: len(lines[index]) - len(lines[index].lstrip())]:
            return f"{shown(path)}:{index + 1}: a tab at the start of a line; indent with spaces"
    return f"{shown(path)}:{line + 1}: not YAML: {error.problem}"


def _located(document: Document, problems: list[tuple[KeyPath, str]]) -> list[str]:
    return [f"{document.where(key)}: {message}" for key, message in problems]


class _NodeReader:
    """Turns YAML nodes into plain data (what JSON can say), collecting lines and problems on the way."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[KeyPath, str]] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:  # noqa: ANN401 - any plain data
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(self.lines) > _MAX_NODES:
            raise yaml.MarkedYAMLError(problem="too many values", problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.remove(id(node))
        self._refuse_tag(node, path)
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name is None or name == "<<" or key_node.tag == _TAG + "null":
                line = key_node.start_mark.line + 1
                self.lines.setdefault((*path, f"line {line}"), line)
                self.problems.append(((*path, f"line {line}"), "not a key; write it as text"))
                continue
            key = (*path, name)
            if name in result:
                self.problems.append((key, f"written twice, again in line {key_node.start_mark.line + 1}; keep one"))
                continue
            self.lines[key] = key_node.start_mark.line + 1
            result[name] = self.value(value_node, key)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | int | float | bool | None:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return bool(text.lower() == "true")
        if kind in ("int", "float"):
            try:
                return int(text, 16 if text.lower().startswith("0x") else 10) if kind == "int" else float(text)
            except ValueError:
                # Octals, binaries, base 60 and `.inf` are what nobody meant here.
                return str(text)
        if kind in ("str", "bool", "timestamp", "value"):
            return str(text)
        self._refuse_tag(node, path)
        return None

    def _refuse_tag(self, node: yaml.Node, path: KeyPath) -> None:
        self.problems.append((path, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed; write plain data"))


def shipped_folder() -> Path:
    """The scenarios that come with latbench: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_shipped"
    return installed if installed.is_dir() else package.parent / "scenarios"


def find_scenario(name: str, cwd: Path) -> Path:
    """The file of a scenario: a path where the name says so, else one of ./scenarios or of those that come with us."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = cwd / name
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
    """The one-off flags of `run`; None is a flag that was not given. They are in the grammar of the file."""

    url: str | None = None
    model: str | None = None
    api: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration: str | None = None
    max_tokens: int | str | None = None
    prompts: str | Path | None = None
    seed: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


NO_FLAGS = Flags()


@dataclass(frozen=True)
class Loaded:
    """A scenario with the flags applied. `from_flags` names, for each key that a flag set, that flag."""

    scenario: Scenario
    source_path: Path
    sha256: str
    document: Document
    from_flags: Mapping[KeyPath, str]

    def where(self, *key: str | int) -> str:
        """The place of a key, as messages begin: `file:line: key`, or the flag that set it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.from_flags:
                return self.from_flags[key[:length]]
        return self.document.where(key)

    def resolved(self) -> dict[str, Any]:
        """The scenario as JSON can say it, defaults written out, without secrets. It is itself a scenario."""
        return _resolved(self.scenario)

    def endpoints(self) -> list[Endpoint]:
        """The endpoints as the engine takes them."""
        return [_endpoint(settings, self.source_path.parent) for settings in self.scenario.endpoints]

    def timeouts(self) -> Timeouts:
        """The limits of one exchange."""
        limits = self.scenario.timeouts
        return Timeouts(limits.connect, limits.first_output, limits.idle, limits.total)

    def steps(self) -> list[Step]:
        """The steps of the load, one after the other."""
        return self.scenario.steps()

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
        raise UserError("\n".join(_located(document, found))) from error
    scenario, from_flags = _Override(scenario, flags).apply()
    text = json.dumps(_resolved(scenario), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Loaded(scenario, path, hashlib.sha256(text.encode()).hexdigest(), document, from_flags)


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

    def _load(self) -> None:
        flags, first = self._flags, self._scenario.steps()[0]
        given = {"concurrency": flags.concurrency, "requests": flags.requests, "duration": flags.duration}
        given = {key: value for key, value in given.items() if value is not None}
        if not given:
            return
        entry: dict[str, Any] = {
            "shape": "closed",
            "concurrency": first.concurrency,
            "think": format_duration(first.think_ns),
        }
        ended_by_flag = "requests" in given or "duration" in given
        if not ended_by_flag:
            entry |= _end_of(first)
        # A warm-up is the first step's where the step still ends in the same way; else the rule decides.
        if "requests" not in given or first.requests is not None:
            entry |= self._written_warmup()
        names = {key: f"--{key}" for key in given}
        self._changes["load"] = (_validate(LoadEntry, entry | given, names),)
        self._from_flags[("load",)] = " ".join(names.values())

    def _written_warmup(self) -> dict[str, str]:
        written = self._scenario.load[0].warmup
        return {"warmup": format_duration(written[0])} if written else {}

    def _rest(self) -> None:
        flags = self._flags
        if flags.max_tokens is not None:
            names = {"max_tokens": "--max-tokens"}
            self._changes["output"] = _validate(OutputSettings, {"max_tokens": flags.max_tokens}, names)
            self._from_flags[("output", "max_tokens")] = "--max-tokens"
        if flags.prompts is not None:
            self._changes["prompts"] = _validate(PromptSettings, {"path": str(flags.prompts)}, {"path": "--prompts"})
            self._from_flags[("prompts",)] = "--prompts"
        if flags.seed is not None:
            self._top_level("seed", flags.seed, "--seed")
        if flags.labels:
            self._top_level("labels", self._scenario.labels | dict(flags.labels), "--label")

    def _top_level(self, key: str, value: object, flag: str) -> None:
        data = _resolved(self._scenario) | {key: value}
        self._changes[key] = getattr(_validate(Scenario, data, {key: flag}), key)
        self._from_flags[(key,)] = flag


def _end_of(step: Step) -> dict[str, Any]:
    duration = None if step.duration_ns is None else format_duration(step.duration_ns)
    return {key: value for key, value in (("requests", step.requests), ("duration", duration)) if value is not None}


# Flags whose values may hold a secret, by mistake or by nature, are not repeated.
_REPEATED = ("--duration", "--concurrency", "--requests", "--max-tokens", "--seed", "--api")


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


def _resolved(scenario: Scenario) -> dict[str, Any]:
    data = scenario.model_dump(mode="json", exclude={"endpoints", "timeouts", "load"}, exclude_none=True)
    timeouts = {key: format_duration(ns) for key, ns in scenario.timeouts.model_dump().items()}
    endpoints = []
    for settings in scenario.endpoints:
        endpoint = settings.model_dump(mode="json", exclude={"body", "headers"}, exclude_none=True)
        if not settings.api_key_env:
            del endpoint["api_key_env"]
        endpoint["provider"] = settings.provider or settings.name
        endpoint["headers"] = {
            name: {"env": value.env} if isinstance(value, FromEnvironment) else value
            for name, value in settings.headers.items()
        }
        # Not with the rest, because a null in the body is meant.
        endpoints.append(endpoint | {"body": dict(settings.body)})
    load = []
    for step in scenario.steps():
        times = {"warmup": format_duration(step.warmup_ns), "think": format_duration(step.think_ns)}
        load.append({"shape": step.shape, "concurrency": step.concurrency, **_end_of(step), **times})
    return data | {
        "endpoints": endpoints,
        "timeouts": timeouts,
        "drain": format_duration(scenario.drain),
        "load": load,
    }


def check_environment(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Raises UserError where an environment variable or a CA file that the scenario names is not there."""
    lines: list[str] = []
    for index, settings in enumerate(loaded.scenario.endpoints):
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
                place = loaded.where("endpoints", index, *key)
                lines.append(f"{place}: the environment variable {variable} is not set; export it")
        ca_file = loaded.endpoints()[index].ca_file
        if ca_file is not None and not Path(ca_file).is_file():
            place = loaded.where("endpoints", index, "ca_file")
            lines.append(f"{place}: no such file: {settings.ca_file}; it is relative to the scenario's folder")
    if lines:
        raise UserError("\n".join(lines))
