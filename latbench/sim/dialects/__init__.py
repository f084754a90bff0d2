"""One file per API that the simulated endpoint speaks: sans-IO, bytes in and bytes out.

A dialect reads a request (`read` gives an `Ask` or raises `Refused`) and writes what is answered: a `Reply` for one
answer, an error's body, the headers of rate limits. What is answered, and when, is the server's business: it decides on
reasoning, text or tool calls, cuts them into tokens, counts them and keeps the time. So a dialect is only about shape.

To add one: a file here with a class of the shape `Dialect`, and one line in `registry.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Finish = Literal["stop", "length", "tool"]
"""Why an answer ends: by itself, at its limit of tokens, or to wait for the results of tools."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A request as it came. `path` has what the route's pattern names (`{model}`); names of headers are lower case."""

    body: bytes
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called, with the JSON schema of its arguments."""

    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, whatever the API.

    `max_tokens` is null where the request sets no limit (reasoning is within it); `to_the_limit` is true where the
    answer must not end before it. `prompt_tokens` is estimated at 4 bytes a token. `prompt` is the text of the whole
    prompt in its order: what the prompt cache compares; `cacheable` is false where the API caches on demand and was not
    asked. `reasoning` is false where the request does without. `tools` are those that may be called: none where the
    request forbids it, only the one where it names it. `must_call`: the answer has to be a tool call. `parallel`: it
    may hold several. `tool_rounds` is how many turns of the conversation called tools already. `schema` is the JSON
    schema that the answer's text has to follow (true: any JSON object), or null. `fill`: the text between a prefix and
    a suffix is wanted. `reasoning_shown` is false where reasoning is only counted.
    """

    model: str
    stream: bool
    max_tokens: int | None
    to_the_limit: bool
    prompt_tokens: int
    include_usage: bool
    prompt: bytes = b""
    cacheable: bool = True
    reasoning: bool = True
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    parallel: bool = True
    tool_rounds: int = 0
    schema: Any = None
    fill: bool = False
    reasoning_shown: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of an answer before its first token.

    `number` names the request, `created` is in seconds since 1970. Of the prompt's tokens, `cached_tokens` were read
    from the cache and `written_tokens` written to it; the rest is neither.
    """

    ask: Ask
    number: int
    created: int
    cached_tokens: int = 0
    written_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `arguments` is JSON text; `id` is unique and made of letters, digits and `_`."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended. `output_tokens` is everything that was generated, `reasoning_tokens` among it.

    `first_ns` (to the first token) and `total_ns` count from the moment a slot took the request.
    """

    finish: Finish
    output_tokens: int
    reasoning_tokens: int = 0
    first_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, for a request that is not streamed."""

    end: End
    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """What one limit leaves. `reset_s`: until it leaves everything again. `kind` is the unit that is limited."""

    kind: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A limit that refused a request. `wait_s` is null where waiting does not help: the request exceeds the limit.

    `concurrency` counts requests in flight, the others count per minute.
    """

    kind: Literal["requests", "tokens", "concurrency"]
    limit: int
    used: int
    requested: int
    wait_s: float | None


class Refused(Exception):
    """A request that gets an error instead of an answer. `kind`, `param` and `code` are the API's own words.

    `headers` go with the error, `details` into its body where the API has a place for more.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Any = None,  # noqa: ANN401  whatever JSON the API puts there
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        self.details = details


class Reply(Protocol):
    """The bytes of one answer, which it remembers as far as the API needs it (blocks, sequence numbers).

    A stream is `greeting`, `opening`, then any number of `reasoning`, of `token`, and for each tool call
    `call_opening`, `call_piece` once or more, `call_closing`, in this order; at last `closing`. Each gives whole
    events; empty bytes mean that nothing is sent then. A tool call that the API sends whole is sent by `call_closing`.
    A stream may break off with `error_event` or `garbage` instead.
    """

    @property
    def content_type(self) -> str:
        """Of the stream."""

    def greeting(self) -> bytes:
        """What leaves right after the headers, before any token."""

    def opening(self) -> bytes:
        """What leaves right before the first token."""

    def reasoning(self, piece: str) -> bytes:
        """One token of reasoning."""

    def token(self, piece: str) -> bytes:
        """One token of the visible text."""

    def call_opening(self, index: int, call: Call) -> bytes:
        """The begin of tool call number `index`, from 0."""

    def call_piece(self, index: int, piece: str) -> bytes:
        """One token of its arguments."""

    def call_closing(self, index: int, call: Call) -> bytes:
        """Its end."""

    def closing(self, end: End) -> list[bytes]:
        """The events after the last token."""

    def error_event(self, refused: Refused) -> bytes:
        """What is sent in the middle of a stream when the endpoint fails."""

    def garbage(self) -> bytes:
        """An event in the right place that cannot be decoded."""

    def plain(self, answer: Answer) -> bytes:
        """The body of a request that is not streamed."""


class Dialect(Protocol):
    """An API."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it takes POST: patterns in aiohttp's syntax, whose names (`{model}`) arrive in `Parts.path`."""

    @property
    def id_header(self) -> str:
        """The header that says the request's id."""

    def pages(self, model: str, created: int) -> Mapping[str, bytes]:
        """Path -> JSON of what GET gives: the list of models, say. It asks for a key as all else."""

    def key(self, parts: Parts) -> str:
        """The key that the request bears, in whatever header the API accepts; empty if there is none."""

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""

    def error(self, refused: Refused, request_id: str) -> bytes:
        """The body of an error."""

    def limit_headers(self, rooms: Sequence[Room], now_s: float) -> Mapping[str, str]:
        """The headers that every response bears where limits are set. `now_s` is the time in seconds since 1970."""

    def limited(self, hit: Hit) -> Refused:
        """What a request over a limit gets, its own headers (retry-after) included."""

    def failure(self, status: int) -> Refused:
        """What a server error looks like: 500, or 503 and 529 when it is overloaded. Also for `Reply.error_event`."""

    def bad_key(self) -> Refused:
        """What a request without the right key gets."""

    def unknown_model(self, model: str) -> Refused:
        """What a request for a model that is not there gets."""

    def too_large(self, limit_bytes: int) -> Refused:
        """What a request with too long a body gets."""
