"""The accumulator that a dialect's decoder fills: one for each exchange.

Decoders append to arrays and lists; nothing is created for each chunk. `at_ns` is the stamp of the network read
that completed the event, taken before any decoding.
"""

from array import array
from dataclasses import dataclass, field

FINISH_REASONS = ("stop", "length", "tool", "filter", "error")
"""The one vocabulary that the finish reasons of all providers are mapped to; an unknown one is kept as it came."""

NAME_CHARS = 256
"""As much of the name of a tool is kept; APIs take 64."""


@dataclass(slots=True)
class Usage:
    """Tokens as the provider counted them, normalised.

    `input` includes cached tokens, `output` includes reasoning tokens. None where the provider said nothing.
    """

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None


@dataclass(slots=True)
class ToolCall:
    """A tool call as far as it has been streamed. `id` and `signature` are empty where the API gives none."""

    name: str = ""
    arguments: list[str] = field(default_factory=list)
    id: str = ""
    signature: str = ""


@dataclass(slots=True)
class Refusal:
    """Why an endpoint did not answer, as an outcome: from an HTTP status or from an error event in a stream.

    `kind` refines `rate_limited`; `wait_ns` is the wait that was asked for; `code` and `message` are the
    provider's own words (hostile text: escape before showing it).
    """

    outcome: str
    kind: str | None = None
    code: str | None = None
    message: str | None = None
    wait_ns: int | None = None


@dataclass(slots=True)
class Answer:
    """Everything one exchange has said so far. Stamps are nanoseconds on the engine's clock.

    `output_ns` has one entry for each output-bearing chunk (text, reasoning or a piece of a tool call); role-only and
    empty chunks have none. `complete` is the API's own sign of completion: a finish reason or a stop event.
    `around` is for a decoder that has seen what stands before and after the text in the usual event of this answer.
    """

    output_ns: "array[int]" = field(default_factory=lambda: array("q"))
    first_text_ns: int | None = None
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    finish_reason: str | None = None
    complete: bool = False
    usage: Usage | None = None
    model: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    refusal: Refusal | None = None
    around: tuple[bytes, bytes] | None = field(default=None, compare=False)

    def add_text(self, piece: str, at_ns: int) -> None:
        """Visible text. An empty piece is not output."""
        if piece:
            self.text.append(piece)
            self.output_ns.append(at_ns)
            if self.first_text_ns is None:
                self.first_text_ns = at_ns

    def add_reasoning(self, piece: str, at_ns: int) -> None:
        """Reasoning that is streamed apart from the visible text. An empty piece is not output."""
        if piece:
            self.reasoning.append(piece)
            self.output_ns.append(at_ns)

    def add_tool_call(self, index: int, name: str, arguments: str, at_ns: int) -> None:
        """A piece of tool call number `index`: a name or arguments. Nothing of either is not output."""
        if name or arguments:
            call = self.tool_calls.setdefault(index, ToolCall())
            if len(call.name) < NAME_CHARS:  # pieces without end would be copied again and again
                call.name = (call.name + name)[:NAME_CHARS]
            if arguments:
                call.arguments.append(arguments)
            self.output_ns.append(at_ns)

    def name_call(self, index: int, identity: object, signature: object = None) -> None:
        """By what tool call number `index`, if it is there, is sent back: texts, or nothing. The first stays."""
        call = self.tool_calls.get(index)
        if call is not None:
            call.id = call.id or (identity if isinstance(identity, str) else "")
            call.signature = call.signature or (signature if isinstance(signature, str) else "")
