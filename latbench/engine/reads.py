"""What one exchange has received: raw reads with their stamps, and how far the body in them has been framed.

A chunked body is kept as it came off the wire, and framed when somebody wants its bytes: the handler, where a read may
have ended it, and whoever decodes, after the fact. So a chunk costs its stamp and two appends while others wait to be
stamped.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from latbench.model.errors import DecodeError
from latbench.wire.chunked import ChunkedBody

MAX_ANSWER_BYTES = 64 << 20
"""An answer that is larger is no answer: the connection is closed and the exchange malformed."""


@dataclass(slots=True)
class Head:
    """Status and headers of an answer; header names in lower case."""

    status: int
    headers: dict[str, str]


@dataclass(slots=True)
class Reads:
    """What one exchange has received: bytes of the body with the raw stamp of the read that brought each piece.

    Several events in one read share its stamp. `any_bytes` is set by the first byte of an answer of any kind: until
    then a broken connection may be replaced without the endpoint having done anything.

    With `chunked`, pieces from number `framed` on are still as they came off the wire, and `on_end` is to be called
    when the last one has been found; `broken` says why none can be found any more. `first_byte_ns` is that of the
    body's first byte, as far as it is framed.
    """

    data: list[bytes] = field(default_factory=list)
    at_ns: "array[int]" = field(default_factory=lambda: array("q"))
    connected_ns: int | None = None
    headers_ns: int | None = None
    first_byte_ns: int | None = None
    end_ns: int | None = None
    head: Head | None = None
    size: int = 0
    any_bytes: bool = False
    new_connection: bool = False
    chunked: ChunkedBody | None = None
    framed: int = 0
    broken: DecodeError | None = None
    on_end: Callable[[], None] | None = None

    def add(self, piece: bytes, now_ns: int) -> None:
        """Keep a piece of the body; of one that is too large, nothing more."""
        self.size += len(piece)
        if self.size <= MAX_ANSWER_BYTES:
            self.data.append(piece)
            self.at_ns.append(now_ns)

    def frame(self, until: int) -> None:
        """Turn the pieces before number `until` into bytes of the body. Raises DecodeError for broken framing."""
        body = self.chunked
        if body is None:
            if self.first_byte_ns is None:
                self.first_byte_ns = self._at(0)
            return
        if self.broken is not None and until > self.framed:
            raise self.broken
        data, number, feed = self.data, self.framed, body.feed
        for stop in (until, until - 1):  # the last one may be the end of the body
            if stop - number > 1 and (pieces := body.feed_many(data[number:stop])) is not None:
                data[number:stop] = pieces
                if self.first_byte_ns is None:
                    self.first_byte_ns = self._at(number)
                self.framed = number = stop
                break
        try:
            while number < until:
                data[number] = piece = feed(data[number])
                if self.first_byte_ns is None and piece:
                    self.first_byte_ns = self._at(number)
                if body.ended and self.on_end is not None:
                    self.end_ns = self._at(number)
                    ended, self.on_end = self.on_end, None
                    ended()
                number += 1
        except DecodeError as fault:
            self.broken = fault
            raise
        finally:
            self.framed = number

    def _at(self, number: int) -> int | None:
        """The stamp of a piece; None where the hooks have lost it, which their self-test will notice."""
        return self.at_ns[number] if number < len(self.at_ns) else None

    def body(self) -> bytes:
        """Everything so far. Raises DecodeError for broken framing."""
        self.frame(len(self.data))
        return b"".join(self.data)
