"""The shape every dialect has: sans-IO, so that it can be tested with nothing but bytes.

A dialect says how to build a request, how the body of a streamed answer is framed, what one event of it means, how
a plain answer reads, and what a refusal (a status that is not 200) amounts to. Adding one is a file with a `DIALECT`
and a line in `registry.py`.

Decoders write into an `Answer` and raise `DecodeError` for what is not the protocol. Yielding nothing without a word is
a bug.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from latbench.model.answer import Answer, Refusal
from latbench.model.request import Endpoint, HttpRequest, Message


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


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API.

    `build(endpoint, messages, max_tokens)` gives the request without credentials; `auth(key)` the headers that carry a
    key. `decode(payload, at_ns, answer)` takes one event, `decode_plain(body, at_ns, answer)` a whole answer that was
    not streamed. `refusal(status, headers, body)` classifies any status but 200, `headers` having lower-case names.
    """

    api: str
    build: Callable[[Endpoint, Sequence[Message], int], HttpRequest]
    auth: Callable[[str], dict[str, str]]
    framer: Callable[[], Framer]
    decode: Callable[[bytes, int, Answer], None]
    decode_plain: Callable[[bytes, int, Answer], None]
    refusal: Callable[[int, Mapping[str, str], bytes], Refusal]
