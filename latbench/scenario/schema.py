"""What may stand in a scenario file, in which grammar, and the steps its load expands to.

A key that is not here does not exist: it is an error that suggests the nearest one. Units are never guessed, so a bare
number where a unit matters is an error too. Messages are ours and never repeat a value that may be a secret; they
leave here as (path, message), and the loader adds file and line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import product
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from latbench.providers.registry import APIS

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("endpoints", 0, "model")`."""

TASKS = ("generation", "completion", "review", "search", "refactor", "debug")

_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}
_SIZES = {"": 1, "k": 1_000, "M": 1_000_000}
_NUMBER = r"\d+(?:\.\d+)?"
_LONGEST_NS = 8_760 * _NS["h"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
)
_SECRET_WORDS = frozenset(
    {"authorization", "auth", "key", "apikey", "token", "secret", "password", "cookie", "credential", "credentials"}
)
_NOT_IN_BODY = {
    "model": "use the endpoint's model",
    "messages": "the prompts make it",
    "stream": "use the endpoint's stream",
    "stream_options": "use the endpoint's usage",
    "max_tokens": "use output.max_tokens and the endpoint's max_tokens_field",
    "max_completion_tokens": "use output.max_tokens and the endpoint's max_tokens_field",
}


def parse_duration(value: object) -> int:
    """Nanoseconds of `250ms`, `30s`, `5m` or `1h`. Raises ValueError with advice; a bare number is refused."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a bare number; write {value}s")
    if not isinstance(value, str):
        raise ValueError("must be a duration such as 30s")
    if re.fullmatch(_NUMBER, value):
        raise ValueError(f"a bare number; write {value}s")
    match = re.fullmatch(rf"({_NUMBER})(ms|s|m|h)", value)
    if match is None:
        raise ValueError("not a duration; write one number and one unit (ms, s, m or h), such as 90s")
    ns = Decimal(match[1]) * _NS[match[2]]
    if ns > _LONGEST_NS:
        raise ValueError("too long; at most 8760h")
    if ns != int(ns):
        raise ValueError("finer than a nanosecond; write fewer decimals")
    return int(ns)


def format_duration(ns: int) -> str:
    """The shortest text without decimals, if there is one, that `parse_duration` reads as `ns`."""
    for unit, length in _NS.items():
        if ns and ns % length == 0:
            return f"{ns // length}{unit}"
    return f"{Decimal(ns) / _NS['ms']:f}ms" if ns else "0s"


def parse_size(value: object) -> int:
    """A count such as `256`, `10k` or `3M`. Raises ValueError with advice."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(rf"({_NUMBER})([kM]?)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size; write a whole number, or one with k or M, such as 10k")
    size = Decimal(match[1]) * _SIZES[match[2]]
    if size != int(size):
        raise ValueError("must be a whole number")
    return int(size)


def _positive_ns(ns: int) -> int:
    if ns == 0:
        raise ValueError("must be longer than 0s")
    return ns


def _one_or_more(value: object) -> object:
    """A list in a field is so many values, anything else is one; null is none."""
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("an empty list; give it a value or remove the key")
        return value
    return (value,)


def _plain_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("may hold only letters, digits, `.`, `_` and `-`, and starts with a letter or digit")
    return value


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be text that can be printed, and not empty")
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


def _known_api(value: str) -> str:
    if value not in APIS:
        raise ValueError(_one_of(value, APIS))
    return value


def nearest(word: str, among: Sequence[str]) -> str:
    """Advice for a word that is not among those: the nearest one, or all of them."""
    close = get_close_matches(word, among, n=1)
    return f'did you mean "{close[0]}"?' if close else f"there {'is' if len(among) == 1 else 'are'}: {', '.join(among)}"


def _one_of(value: object, among: Sequence[str]) -> str:
    close = get_close_matches(value, among, n=1) if isinstance(value, str) else []
    return f"must be {' or '.join(among)}" + (f'; did you mean "{close[0]}"?' if close else "")


def _at(problems: Sequence[tuple[KeyPath, str]]) -> PydanticCustomError:
    """An error that says itself where below the validated value its problems stand."""
    return PydanticCustomError("problems", "problems", {"problems": list(problems)})


Duration = Annotated[int, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[int, BeforeValidator(parse_duration), AfterValidator(_positive_ns)]
Count = Annotated[int, Field(ge=1, le=2**53, strict=True)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1, le=2**53)]
Text = Annotated[str, Field(strict=True), AfterValidator(_printable)]
PlainName = Annotated[str, Field(strict=True), AfterValidator(_plain_name)]
Variable = Annotated[str, Field(strict=True), AfterValidator(_variable)]
Usd = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
ONE_OR_MORE = BeforeValidator(_one_or_more)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FromEnvironment(_Record):
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


class Price(_Record):
    """US dollars for a million tokens."""

    input: Usd
    output: Usd
    cached_input: Usd | None = None


class Limits(_Record):
    """What the provider promised: requests and tokens a minute, requests at a time, requests a day."""

    rpm: Count | None = None
    tpm: Size | None = None
    concurrency: Count | None = None
    rpd: Count | None = None


class EndpointSettings(_Record):
    """One candidate. `provider` groups rate limits and price; it is the name where none is given."""

    name: Text
    provider: Text | None = None
    api: Annotated[str, Field(strict=True), AfterValidator(_known_api)]
    base_url: Annotated[str, Field(strict=True), AfterValidator(_base_url)]
    model: Text
    api_key_env: Annotated[tuple[Variable, ...], ONE_OR_MORE] = ()
    headers: dict[str, Annotated[str | FromEnvironment, PlainValidator(_header_value)]] = {}
    body: dict[str, Any] = {}
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
            raise _at(problems)
        return headers

    @field_validator("body")
    @classmethod
    def _nothing_of_ours(cls, body: dict[str, Any]) -> dict[str, Any]:
        problems = [((key,), f"latbench sets this field; {_NOT_IN_BODY[key]}") for key in body if key in _NOT_IN_BODY]
        if problems:
            raise _at(problems)
        return body


class PromptSettings(_Record):
    """A pack by name, or a path of one's own; weights of tasks, their shares of the prompts where none are given."""

    pack: PlainName | None = None
    path: Text | None = None
    tasks: dict[
        Literal["generation", "completion", "review", "search", "refactor", "debug"],
        Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)],
    ] = {}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        problems: list[tuple[KeyPath, str]] = []
        if (self.pack is None) == (self.path is None):
            problems.append(((), "needs either pack or path"))
        if self.tasks and not any(self.tasks.values()):
            problems.append((("tasks",), "every weight is 0; give at least one task a weight"))
        if problems:
            raise _at(problems)
        return self


class OutputSettings(_Record):
    """What is asked for. `max_tokens` bounds every answer."""

    max_tokens: Size = 256
    mode: Literal["text"] = "text"


class TimeoutSettings(_Record):
    """Limits of one exchange, nanoseconds."""

    connect: PositiveDuration = 10 * _NS["s"]
    first_output: PositiveDuration = 120 * _NS["s"]
    idle: PositiveDuration = 30 * _NS["s"]
    total: PositiveDuration = 600 * _NS["s"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the load. Whichever of `requests` (per endpoint) and `duration_ns` is reached first ends it.

    `warmup_ns` precedes `duration_ns` and is not part of it.
    """

    shape: str
    concurrency: int
    requests: int | None
    duration_ns: int | None
    warmup_ns: int
    think_ns: int


def default_warmup_ns(requests: int | None, duration_ns: int | None) -> int:
    """Nothing for a step that counts requests; else max(10 s, 10 %), but at most a third of the duration."""
    if requests is not None or duration_ns is None:
        return 0
    return min(max(10 * _NS["s"], duration_ns // 10), duration_ns // 3)


class LoadEntry(_Record):
    """An entry of `load`. Each field holds one value or several; their product, in the order written, is the steps."""

    shape: Annotated[tuple[Literal["closed"], ...], ONE_OR_MORE]
    concurrency: Annotated[tuple[Count, ...], ONE_OR_MORE]
    duration: Annotated[tuple[PositiveDuration, ...], ONE_OR_MORE] = ()
    requests: Annotated[tuple[Count, ...], ONE_OR_MORE] = ()
    warmup: Annotated[tuple[Duration, ...], ONE_OR_MORE] = ()
    think: Annotated[tuple[Duration, ...], ONE_OR_MORE] = (0,)
    _written: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        entry = handler(data)
        problems: list[tuple[KeyPath, str]] = []
        if not entry.duration and not entry.requests:
            problems.append(((), "needs duration or requests"))
        empty = [key for key in ("shape", "concurrency") if not getattr(entry, key)]
        problems += [((key,), "is empty; give it a value") for key in empty]
        if problems:
            raise _at(problems)
        if isinstance(data, Mapping):
            entry._written = tuple(data)
        return entry

    def steps(self) -> list[Step]:
        """The product of all lists; the first written varies slowest."""
        lists = {key: getattr(self, key) for key in self._written}
        lists = {key: values for key, values in lists.items() if values}
        return [_step(dict(zip(lists, values, strict=True))) for values in product(*lists.values())]


def _step(given: Mapping[str, Any]) -> Step:
    requests, duration_ns = given.get("requests"), given.get("duration")
    warmup_ns = given.get("warmup")
    if warmup_ns is None:
        warmup_ns = default_warmup_ns(requests, duration_ns)
    return Step(given["shape"], given["concurrency"], requests, duration_ns, warmup_ns, given.get("think", 0))


class Scenario(_Record):
    """A scenario file. Durations are nanoseconds."""

    name: PlainName
    version: Text = "1"
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    endpoints: Annotated[tuple[EndpointSettings, ...], Field(min_length=1)]
    prompts: PromptSettings
    output: OutputSettings = OutputSettings()
    cache: Literal["cold", "warm"] = "cold"
    timeouts: TimeoutSettings = TimeoutSettings()
    drain: Duration = 60 * _NS["s"]
    load: Annotated[tuple[LoadEntry, ...], ONE_OR_MORE, Field(min_length=1)]
    labels: dict[Text, Annotated[str, Field(strict=True)]] = {}

    @field_validator("endpoints")
    @classmethod
    def _names_differ(cls, endpoints: tuple[EndpointSettings, ...]) -> tuple[EndpointSettings, ...]:
        first: dict[str, int] = {}
        problems: list[tuple[KeyPath, str]] = []
        for index, endpoint in enumerate(endpoints):
            if first.setdefault(endpoint.name, index) != index:
                problems.append(((index, "name"), f"endpoints[{first[endpoint.name]}] has the same name"))
        if problems:
            raise _at(problems)
        return endpoints

    def steps(self) -> list[Step]:
        """All steps, one after the other."""
        return [step for entry in self.load for step in entry.steps()]


def format_key(path: KeyPath) -> str:
    """`endpoints[0].model`, as messages name a place."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


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
        return _one_of(given, re.findall(r"'([^']*)'", str(context["expected"])))
    if kind == "string_type":
        return "must be text" + ("; put it in quotes" if type(given) in (int, float) else "")
    return _MESSAGES.get(kind, "not valid here").format(**context)


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that may stand in the mapping at `path`."""
    for part in path:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
