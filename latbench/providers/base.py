"""The shape every dialect has: sans-IO, so that it can be tested with nothing but bytes.

A dialect says how to build a request, how the body of a streamed answer is framed, what one event of it means, how
a plain answer reads, and what a refusal (a status that is not 200) amounts to. Adding one is a file with a `DIALECT`
and a line in `registry.py`.

Decoders write into an `Answer` and raise `DecodeError` for what is not the protocol. Yielding nothing without a word is
a bug.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from latbench import __version__
from latbench.model.answer import Answer, Refusal
from latbench.model.request import Ask, Endpoint, HttpRequest

SCHEMA_NAME = "answer"
"""What the schema of a structured answer is called, and the tool that has to be called with it."""

SCHEMA_PURPOSE = "Give the answer."
"""What that tool says of itself."""

PAST_BUDGET = frozenset({"n", "best_of", "n_predict"})
"""Fields with which a request to a server of OpenAI's older APIs asks for more than a budget counts: several answers
at once, or llama.cpp's own limit, which beats `max_tokens` there."""


class Framer(Protocol):
    """Cuts the bytes of a streamed body into the payloads of its events, at any split of the bytes."""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes. Raises DecodeError where no framing can be found."""
        ...

    def close(self) -> list[bytes]:
        """The payload that the end of the body completes, if any. Half an event is dropped: the exchange is truncated.

        Raises DecodeError for a body that is not this framing at all.
        """
        ...


Signer = Callable[[str, Mapping[str, str], bytes], dict[str, str]]
"""Headers that sign one request: from its whole URL, the headers it has, and its body."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API.

    `build(endpoint, ask)` gives the request without credentials; `auth(key)` the headers that carry a key.
    `decode(payload, at_ns, answer)` takes one event, `decode_plain(body, at_ns, answer)` a whole answer that was not
    streamed. `refusal(status, headers, body)` classifies any status but 200, `headers` having lower-case names.

    `decode_many(payloads, stamps, answer)`, where there is one, takes many events at once, none of which has a line end
    in it. It does what `decode` does for each, or returns false and has done nothing: what is not JSON is left to
    `decode`, which says which payload it was. `decode_alike(pieces, stamps, answer)` does the same for events of which
    only what stood between the two parts of `answer.around` is given.

    `own` are the fields of a body that a scenario may not set, because `build` sets them or because they ask for more
    than a budget counts; a field inside another has a dotted name. `modes` are the output modes that the API enforces,
    `fills` whether it fills gaps (`Ask.fill`), `tools` the field in which it is offered tools to call (`Ask.tools`),
    empty where it has none. `signer(endpoint, environ)` makes what signs each request, for an API that wants that and
    an endpoint that names no key; it raises UserError where it cannot.
    """

    api: str
    build: Callable[[Endpoint, Ask], HttpRequest]
    auth: Callable[[str], dict[str, str]]
    framer: Callable[[], Framer]
    decode: Callable[[bytes, int, Answer], None]
    decode_plain: Callable[[bytes, int, Answer], None]
    refusal: Callable[[int, Mapping[str, str], bytes], Refusal]
    own: frozenset[str] = frozenset({"model", "messages", "stream"})
    modes: frozenset[str] = frozenset()
    fills: bool = False
    tools: str = ""
    signer: Callable[[Endpoint, Mapping[str, str]], Signer] | None = None
    decode_many: Callable[[list[bytes], Sequence[int], Answer], bool] | None = None
    decode_alike: Callable[[list[bytes], Sequence[int], Answer], bool] | None = None

    def own_in(self, body: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """The fields of `body` that a scenario may not set, as paths, sorted.

        What is no mapping where a field of `own` would be inside it counts as well: it would take the place of ours.
        """
        found = {path_in(body, tuple(name.split("."))) for name in self.own}
        return sorted(path for path in found if path)


def path_in(body: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """As much of `path` as `body` sets; nothing where it leaves the field alone."""
    inner: Any = body
    for depth, name in enumerate(path):
        if not isinstance(inner, Mapping):
            return path[:depth]
        if name not in inner:
            return ()
        inner = inner[name]
    return path


def json_post(
    endpoint: Endpoint, path: str, fields: dict[str, Any], streamed_as: str = "text/event-stream"
) -> HttpRequest:
    """A request with a JSON body: our `fields`, the endpoint's own merged into them, and the headers that fit both."""
    return HttpRequest(
        path=path,
        headers={
            "content-type": "application/json",
            "accept": streamed_as if endpoint.stream else "application/json",
            "accept-encoding": "identity",
            "user-agent": f"latbench/{__version__}",
        },
        body=msgspec.json.encode(_merged(fields, endpoint.body)),
    )


def _merged(fields: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` has the last word; where both have a mapping, key by key."""
    merged = dict(fields)
    for name, value in extra.items():
        ours = merged.get(name)
        merged[name] = _merged(ours, value) if isinstance(ours, dict) and isinstance(value, dict) else value
    return merged
