"""What is to be sent, and where to: plain records that cross process borders.

The scenario file is validated elsewhere; in here the types are trusted. No secret is ever a field of these
records: they name environment variables, and the engine reads those where it runs.
"""

from typing import Any

import msgspec

TEXT = "text"
PROMPTED = "prompted"
MODES = (TEXT, PROMPTED, "json_schema", "tool")
"""How an answer may be asked for: as it comes, by a schema in the prompt, held to a schema, as a tool's arguments."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A tool call of the model's, and what the tool gave back.

    `arguments` is JSON as the model wrote it: hostile text, maybe no JSON at all. `id` is empty where the API has none.
    `signature` is what some models want to see again beside the call.
    """

    id: str
    name: str
    arguments: str
    result: str
    signature: str = ""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One turn of a conversation. With `calls` it is the model's turn that made them, and the results that followed."""

    role: str
    content: str
    calls: tuple[Call, ...] = ()


class Tool(msgspec.Struct, frozen=True):
    """A mock tool that the model may call: it gives back `result` after `delay_ns`, whatever it is called with."""

    name: str
    description: str
    parameters: dict[str, Any]
    result: str
    delay_ns: int


class Fill(msgspec.Struct, frozen=True):
    """A gap to be filled in: the code before it and the code after it."""

    prefix: str
    suffix: str


class Prompt(msgspec.Struct, frozen=True):
    """A prompt as a scenario draws it. With `fill`, `messages` say the same in words, for APIs that know no gaps.

    `tokens` counts the text of all messages with o200k_base: a unit of our own for slicing by input length, not
    what a provider will bill. `max_tokens` overrides the scenario's where it is smaller. `expect` and `extra` are
    kept as they came: what is not scored is not lost.
    """

    id: str
    task: str
    language: str
    messages: tuple[Message, ...]
    tokens: int
    sha256: str
    tags: tuple[str, ...] = ()
    complexity: str | None = None
    tier: int | None = None
    max_tokens: int | None = None
    expect: Any = None
    extra: dict[str, Any] = {}
    fill: Fill | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """A candidate: where requests go and how they are shaped.

    `header_env` maps a header's name to the environment variable that holds its value, `api_key_env` names the
    variables that hold keys; both are resolved by the engine, on the machine where it runs.
    """

    name: str
    provider: str
    api: str
    base_url: str
    model: str
    api_key_env: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    header_env: dict[str, str] = {}
    body: dict[str, Any] = {}
    stream: bool = True
    max_tokens_field: str = "auto"
    usage: str = "auto"
    ca_file: str | None = None
    proxy: str | None = None


class Ask(msgspec.Struct, frozen=True):
    """What one request asks for, whatever the API.

    `mode` is `text`, `json_schema` (the answer's text is held to `schema`) or `tool` (one tool with `schema` as its
    parameters has to be called). A mode of `prompted` never comes here: the schema then stands in the messages. Where
    the API fills gaps, `fill` is sent instead of `messages`. With `tools`, which go with `text` only, the model may
    call these, or not.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    mode: str = "text"
    schema: dict[str, Any] | None = None
    fill: Fill | None = None
    tools: tuple[Tool, ...] = ()


class HttpRequest(msgspec.Struct, frozen=True):
    """What a dialect asks the engine to post: `path` is appended to the endpoint's base_url, and may hold a query."""

    path: str
    headers: dict[str, str]
    body: bytes


class Timeouts(msgspec.Struct, frozen=True):
    """Limits of one exchange in nanoseconds. Pings reset neither `first_output_ns` nor `idle_ns`."""

    connect_ns: int
    first_output_ns: int
    idle_ns: int
    total_ns: int
