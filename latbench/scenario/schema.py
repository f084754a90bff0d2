"""What may stand in a scenario file.

A key that is not here does not exist: it is an error that suggests the nearest one. Messages are ours and never repeat
a value that may be a secret; they leave here as (path, message), and the loader adds file and line.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from latbench.metrics.catalogue import BY_NAME, FIGURES
from latbench.model.errors import UserError
from latbench.model.load import Step
from latbench.model.request import PROMPTED, TEXT
from latbench.providers.base import path_in
from latbench.providers.registry import APIS, DIALECTS
from latbench.scenario.grammar import (
    ONE_OR_MORE,
    UNITS_NS,
    Count,
    Duration,
    Flag,
    KeyPath,
    PositiveDuration,
    Record,
    Size,
    Text,
    nearest,
    one_of,
    parse_duration,
    problems_at,
)
from latbench.scenario.load import LoadEntry
from latbench.scenario.needle import NeedleSettings
from latbench.scenario.thresholds import parse

TASKS = ("generation", "completion", "review", "search", "refactor", "debug")
LEADS = (*BY_NAME, *(figure.name for figure in FIGURES))
"""What may lead a summary: a metric, or a figure of the whole run."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOOL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")  # what every API takes
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
)
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look up."}},
    "required": ["query"],
}
_SECRET_WORDS = frozenset(
    {"authorization", "auth", "key", "apikey", "token", "secret", "password", "cookie", "credential", "credentials"}
)
_INSTEAD = {
    "model": "use the endpoint's model",
    "stream": "use the endpoint's stream",
    "stream_options": "use the endpoint's usage",
    "max_tokens": "use output.max_tokens and the endpoint's max_tokens_field",
    "max_completion_tokens": "use output.max_tokens and the endpoint's max_tokens_field",
    **dict.fromkeys(
        ("max_output_tokens", "maxOutputTokens", "maxTokens", "num_predict", "n_predict"), "use output.max_tokens"
    ),
    **dict.fromkeys(
        ("generationConfig", "inferenceConfig", "options"), "give a mapping, which is merged into latbench's own"
    ),
    "generation_config": "use generationConfig",
    **dict.fromkeys(
        ("n", "best_of", "candidateCount", "candidate_count"),
        "a request asks for one answer, which is what a budget counts",
    ),
}


def _plain_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("may hold only letters, digits, `.`, `_` and `-`, and starts with a letter or digit")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("must be the name of an environment variable, such as ACME_API_KEY, not its value")
    return value


def _url(value: str, alternative: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not value.isprintable() or " " in value:
        raise ValueError(f'must be "{alternative}" or a URL that starts with http:// or https://')
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials; use api_key_env, or a header with {env: NAME}")
    if parts.query or parts.fragment:
        raise ValueError("must end with its path; remove what follows `?` or `#`")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    return value if value == "sim" else _url(value, "sim")


def _proxy(value: str) -> str:
    return value if value == "env" else _url(value, "env")


def _tool_name(value: str) -> str:
    if not _TOOL.fullmatch(value):
        raise ValueError("may hold only letters, digits, `_` and `-`, starts with a letter, and has at most 64 of them")
    return value


def _known_api(value: str) -> str:
    if value not in APIS:
        raise ValueError(one_of(value, APIS))
    return value


PlainName = Annotated[str, Field(strict=True), AfterValidator(_plain_name)]
Variable = Annotated[str, Field(strict=True), AfterValidator(_variable)]
Usd = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]


class FromEnvironment(Record):
    """`{env: NAME}`: a value that is read from the environment where the engine runs."""

    env: Variable


def _header_value(value: object) -> str | FromEnvironment:
    if isinstance(value, dict) and set(value) == {"env"}:
        if not isinstance(value["env"], str):
            raise ValueError("env must be the name of an environment variable")
        return FromEnvironment(env=_variable(value["env"]))
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be text in quotes, or {env: NAME}")
    return value


class Price(Record):
    """US dollars for a million tokens."""

    input: Usd
    output: Usd
    cached_input: Usd | None = None


class Limits(Record):
    """What the provider promised: requests and tokens a minute, requests at a time, requests a day."""

    rpm: Count | None = None
    tpm: Size | None = None
    concurrency: Count | None = None
    rpd: Count | None = None


class EndpointSettings(Record):
    """One candidate. `provider` groups rate limits and price; it is the name where none is given."""

    name: Text
    provider: Text | None = None
    api: Annotated[str, Field(strict=True), AfterValidator(_known_api)]
    base_url: Annotated[str, Field(strict=True), AfterValidator(_base_url)]
    model: Text
    api_key_env: Annotated[tuple[Variable, ...], ONE_OR_MORE] = ()
    headers: dict[str, Annotated[str | FromEnvironment, PlainValidator(_header_value)]] = Field(default_factory=dict)
    body: dict[str, Any] = Field(default_factory=dict)
    stream: Flag = True
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    usage: Literal["auto", "off"] = "auto"
    ca_file: Text | None = None
    proxy: Annotated[str, Field(strict=True), AfterValidator(_proxy)] | None = None
    price: Price | None = None
    limits: Limits | None = None

    @field_validator("headers")
    @classmethod
    def _no_literal_secret(cls, headers: dict[str, str | FromEnvironment]) -> dict[str, str | FromEnvironment]:
        problems: list[tuple[KeyPath, str]] = []
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                problems.append(((name,), "not a header's name"))
            elif name.lower() in _FRAMING_HEADERS:
                problems.append(((name,), "latbench sets this header: it frames the request; leave it out"))
            elif isinstance(value, str) and _SECRET_WORDS & set(re.split(r"[-_.]", name.lower())):
                problems.append(((name,), "a secret must not stand in the file; use {env: NAME}"))
        if problems:
            raise problems_at(problems)
        return headers

    @model_validator(mode="after")
    def _nothing_of_ours(self) -> Self:
        problems: list[tuple[KeyPath, str]] = [
            (("body", *path), f"latbench sets this field; {_INSTEAD.get(path[-1], 'the prompts make it')}")
            for path in DIALECTS[self.api].own_in(self.body)
        ]
        if problems:
            raise problems_at(problems)
        return self


class PromptSettings(Record):
    """A pack by name, or a path of one's own; weights of tasks, their shares of the prompts where none are given."""

    pack: PlainName | None = None
    path: Text | None = None
    tasks: dict[
        Literal["generation", "completion", "review", "search", "refactor", "debug"],
        Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)],
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        problems: list[tuple[KeyPath, str]] = []
        if (self.pack is None) == (self.path is None):
            problems.append(((), "needs either pack or path"))
        if self.tasks and not any(self.tasks.values()):
            problems.append((("tasks",), "every weight is 0; give at least one task a weight"))
        if problems:
            raise problems_at(problems)
        return self


def _schema(value: object) -> dict[str, Any]:
    try:
        from latbench.scenario.json_schema import check_schema  # see there

        return check_schema(value)
    except UserError as error:
        raise ValueError(str(error)) from error


class ToolSettings(Record):
    """A mock tool of the load shape `tool_loop`. Whatever it is called with, it gives back `result` after `delay`."""

    name: Annotated[str, Field(strict=True), AfterValidator(_tool_name)]
    description: Text = "Looks up what is asked for."
    parameters: Annotated[dict[str, Any], PlainValidator(_schema)] = Field(default_factory=lambda: dict(_PARAMETERS))
    result: Text = "Done."
    delay: Duration


class OutputSettings(Record):
    """What is asked for. `max_tokens` bounds every answer.

    With several modes the same prompts go out in each. In every mode but `text` answers are held to a JSON Schema.
    """

    max_tokens: Size = 256
    mode: Annotated[
        tuple[Literal["text", "prompted", "json_schema", "tool"], ...], ONE_OR_MORE, Field(min_length=1)
    ] = ("text",)
    schema_: Annotated[dict[str, Any], PlainValidator(_schema)] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems: list[tuple[KeyPath, str]] = []
        if len(set(self.mode)) < len(self.mode):
            problems.append((("mode",), "names a mode twice"))
        if self.schema_ is not None and set(self.mode) == {"text"}:
            problems.append((("schema",), "only modes other than text are held to a schema; give such a mode, too"))
        if problems:
            raise problems_at(problems)
        return self


Named = TypeVar("Named", EndpointSettings, ToolSettings)


class TimeoutSettings(Record):
    """Limits of one exchange, nanoseconds."""

    connect: PositiveDuration = 10 * UNITS_NS["s"]
    first_output: PositiveDuration = 120 * UNITS_NS["s"]
    idle: PositiveDuration = 30 * UNITS_NS["s"]
    total: PositiveDuration = 600 * UNITS_NS["s"]


class Slices(Record):
    """How long an endpoint is loaded before it is the next one's turn, nanoseconds."""

    slice: PositiveDuration


class Alternate(Record):
    """Endpoints take turns."""

    alternate: Slices


def _order(value: object) -> object:
    """`together` is None: there is nothing to say of it."""
    if value == "together":
        return None
    if not isinstance(value, Mapping):
        raise ValueError("must be together or {alternate: {slice: 20s}}")
    return value


class Demand(Record):
    """Your peak, to be held against the ceiling that is measured: requests a minute, and tokens each of them takes."""

    rpm: Count
    tokens_per_request: Size | None = None


class BudgetSettings(Record):
    """What a run may use up, over all endpoints and workers."""

    usd: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] | None = None
    requests: Size | None = None
    tokens: Size | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.usd is None and self.requests is None and self.tokens is None:
            raise problems_at([((), "needs usd, requests or tokens")])
        return self


def _limit(name: str, value: object) -> float:
    """The limit of a metric: nanoseconds where the metric is a time, else in the metric's unit."""
    metric = BY_NAME.get(name)
    if metric is None:
        raise ValueError(f"no metric; {nearest(name, tuple(BY_NAME))}")
    if metric.unit == "ms":
        limit: object = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        limit = value
    else:
        raise ValueError(f"must be a number of {metric.unit}")
    if not 0 < limit < float("inf"):  # type: ignore[operator] # a number by now
        raise ValueError("must be more than 0, and finite")
    return limit  # type: ignore[return-value]


def _limits(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping of `metric: limit`, such as {ttft: 800ms}")
    limits: dict[str, float] = {}
    problems: list[tuple[KeyPath, str]] = []
    for name, written in value.items():
        try:
            limits[name] = _limit(name, written)
        except ValueError as error:
            problems.append(((name,), "is empty; give it a value or remove the key" if written is None else str(error)))
    if "fluidity" in limits and not {"ttft", "tpot"} <= set(value):
        problems.append((("fluidity",), "needs limits on ttft and tpot beside it: the pace of the reader"))
    if problems:
        raise problems_at(problems)
    return limits


def _lead(name: str) -> str:
    if name not in LEADS:
        raise ValueError(f"nothing that can lead a summary; {nearest(name, LEADS)}")
    return name


def _thinks_aloud(endpoint: EndpointSettings) -> bool:
    """Whether Claude is asked for extended thinking: it then refuses a tool's result without the thoughts before it."""
    body = endpoint.body if endpoint.api == "anthropic" else endpoint.body.get("additionalModelRequestFields")
    thinking = body.get("thinking") if isinstance(body, Mapping) else None
    return isinstance(thinking, Mapping) and thinking.get("type") != "disabled"


def _threshold(written: str) -> str:
    return parse(written).text


class Scenario(Record):
    """A scenario file. Durations are nanoseconds, and limits of `slo` that are times."""

    name: PlainName
    version: Text = "1"
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    endpoints: Annotated[tuple[EndpointSettings, ...], Field(min_length=1)]
    needle: NeedleSettings | None = None
    prompts: Annotated[PromptSettings | None, Field(validate_default=True)] = None
    output: OutputSettings = OutputSettings()
    tools: tuple[ToolSettings, ...] = ()
    repeat: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    cache: Literal["cold", "warm"] = "cold"
    timeouts: TimeoutSettings = TimeoutSettings()
    drain: Duration = 60 * UNITS_NS["s"]
    load: Annotated[tuple[LoadEntry, ...], ONE_OR_MORE] = Field(default=None, validate_default=True)
    endpoints_order: Annotated[Alternate | None, BeforeValidator(_order)] = None
    rate_limits: Literal["observe", "respect"] = "observe"
    demand: Demand | None = None
    slo: Annotated[dict[str, float], PlainValidator(_limits)] = Field(default_factory=dict)
    lead: Annotated[tuple[Annotated[str, Field(strict=True), AfterValidator(_lead)], ...], ONE_OR_MORE] = ()
    thresholds: Annotated[tuple[Annotated[str, Field(strict=True), AfterValidator(_threshold)], ...], ONE_OR_MORE] = ()
    budget: BudgetSettings | None = None
    labels: dict[Text, Annotated[str, Field(strict=True)]] = Field(default_factory=dict)

    @field_validator("prompts", "load")
    @classmethod
    def _there(cls, value: object, info: ValidationInfo) -> object:
        """Needle trials are what is sent, and come with a load; everything else needs both keys."""
        needle = info.data.get("needle")
        if not value and needle is None and "needle" in info.data:
            raise problems_at([((), "missing; add it")])
        if value and info.field_name == "prompts" and needle is not None:
            raise problems_at([((), "not with needle, whose trials are what is sent; remove one of the two")])
        return value

    @field_validator("endpoints", "tools")
    @classmethod
    def _names_differ(cls, named: tuple[Named, ...], info: ValidationInfo) -> tuple[Named, ...]:
        first: dict[str, int] = {}
        problems: list[tuple[KeyPath, str]] = []
        for index, one in enumerate(named):
            if first.setdefault(one.name, index) != index:
                problems.append(((index, "name"), f"{info.field_name}[{first[one.name]}] has the same name"))
        if problems:
            raise problems_at(problems)
        return named

    @model_validator(mode="after")
    def _all_fits(self) -> Self:
        problems = self.misfits()
        if self.tools and not self.loops:
            problems.append((("tools",), "only the load shape tool_loop calls tools; add one, or remove them"))
        if problems:
            raise problems_at(problems)
        return self

    @property
    def loops(self) -> bool:
        """Whether the load has tool loops."""
        return any("tool_loop" in entry.shape for entry in self.load)

    def misfits(self) -> list[tuple[KeyPath, str]]:
        """What load, tools and output modes ask for and an API does not have, or one another rules out."""
        problems: list[tuple[KeyPath, str]] = []
        for index, endpoint in enumerate(self.endpoints):
            can = {TEXT, PROMPTED, *DIALECTS[endpoint.api].modes}
            for mode in sorted(set(self.output.mode) - can):
                problems.append((("endpoints", index, "api"), f"{endpoint.api} has no output mode {mode}"))
        if len(self.output.mode) > 1 and any({"sessions", "trace"} & set(entry.shape) for entry in self.load):
            problems.append((("output", "mode"), "one mode only where the load has sessions or a trace"))
        if self.needle is not None:
            problems += self._needle_misfits()
        if self.repeat > 1 and any({"sessions", "tool_loop", "trace"} & set(entry.shape) for entry in self.load):
            problems.append((("repeat",), "only 1 where the load has sessions, tool loops or a trace"))
        return problems + (self._loop_misfits() if self.loops else [])

    def _needle_misfits(self) -> list[tuple[KeyPath, str]]:
        """A trial is the whole of a request, is sent once, and its answer is text."""
        problems: list[tuple[KeyPath, str]] = []
        for index, entry in enumerate(self.load):
            if found := {"sessions", "tool_loop"} & set(entry.shape):
                problems.append((("load", index, "shape"), f"{min(found)} has conversations; a needle trial is none"))
        if set(self.output.mode) != {TEXT}:
            problems.append((("output", "mode"), "only text with needle: its answers have a form of their own"))
        if self.repeat > 1:
            problems.append((("repeat",), "only 1 with needle: each trial is sent once"))
        return problems

    def _loop_misfits(self) -> list[tuple[KeyPath, str]]:
        problems: list[tuple[KeyPath, str]] = []
        if not self.tools:
            problems.append((("load",), "tool_loop needs tools: [{name: look_up, delay: 200ms}] at the top level"))
        if set(self.output.mode) != {TEXT}:
            problems.append((("output", "mode"), "only text where the load has a tool_loop: the answer ends the loop"))
        for index, endpoint in enumerate(self.endpoints):
            field = DIALECTS[endpoint.api].tools
            if not field:
                problems.append((("endpoints", index, "api"), f"{endpoint.api} has no tools, which tool_loop needs"))
            elif path := path_in(endpoint.body, tuple(field.split("."))):
                problems.append((("endpoints", index, "body", *path), "tool_loop sets this field; use tools"))
            elif _thinks_aloud(endpoint):
                why = "wants its thinking back with the results of tools, and latbench keeps none; leave it out"
                problems.append((("endpoints", index, "body"), f"{endpoint.api} {why}"))
        return problems

    def steps(self) -> list[Step]:
        """All steps, one after the other; a trace without its arrivals, which are in a file of its own."""
        if not self.load and self.needle is not None:
            return [self.needle.load()]
        return [step for entry in self.load for step in entry.steps()]


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[tuple[KeyPath, str]]:
    """What is wrong, and where below `model`, in our words."""
    found: list[tuple[KeyPath, str]] = []
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if part != "[key]")
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic also counts the items that are wrong as missing
        if detail["type"] == "problems":
            found += [((*path, *below), message) for below, message in detail["ctx"]["problems"]]
        else:
            found.append((path, _message(detail, path, model)))
    return found


_MESSAGES = {
    "missing": "missing; add it",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list, each item after a `-`",
    "dict_type": "must be a mapping of `key: value`",
    "model_type": "must be a mapping of `key: value`",
    "too_short": "an empty list; give it at least one item",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
}


def _message(detail: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> str:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(path[-1]), _keys_at(model, path[:-1]))}"
    if given is None and kind != "missing":
        return "is empty; give it a value or remove the key"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return one_of(given, re.findall(r"'([^']*)'", str(context["expected"])))
    if kind == "string_type":
        return "must be text" + ("; put it in quotes" if type(given) in (int, float) else "")
    return _MESSAGES.get(kind, "not valid here").format(**context)


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that may stand in the mapping at `path`."""
    for part in path:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return keys_of(model)


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a mapping as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
