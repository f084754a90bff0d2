"""AWS event stream (`application/vnd.amazon.eventstream`): bytes in, messages out.

A message is a prelude (its whole length, the length of its headers, a CRC-32 of these two), headers, a payload, and a
CRC-32 of all that stands before it; integers are big-endian. Both checksums are checked, the prelude's before a length
is believed. All types of header are read; only the strings that say what a message is are used (Amazon Transcribe
developer guide, "Event stream encoding"; botocore 1.44 source, `eventstream.py`).

A payload alone does not say what it is: that is in the headers. So what is handed out is one line of it, and then the
payload as it came:

    event contentBlockDelta\\n{"delta":{"text":"Hi"},"contentBlockIndex":0}
    exception throttlingException\\n{"message":"Too many requests"}
    error InternalError\\nwhat the header :error-message says, as UTF-8; its payload is empty

The first word is the header `:message-type`, the second `:event-type`, `:exception-type` or `:error-code`.

Half a message at the end of the body is dropped: the exchange is truncated. Bytes that cannot be a message raise
DecodeError as soon as that is certain, for there is no finding the next one.
"""

import struct
from functools import lru_cache
from zlib import crc32

from latbench.model.errors import DecodeError

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LEAST_BYTES = _PRELUDE.size + _CRC.size
_MAX_HEADERS_BYTES = 128 * 1024  # the format's own limit

_NAMED_BY = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}

# The length of a value by the number of its type; None where two bytes before it say so.
_VALUE_BYTES: dict[int, int | None] = {
    0: 0,  # true
    1: 0,  # false
    2: 1,  # byte
    3: 2,  # short
    4: 4,  # integer
    5: 8,  # long
    6: None,  # bytes
    7: None,  # string
    8: 8,  # timestamp
    9: 16,  # uuid
}
_STRING = 7


class EventStreamFramer:
    """Implements `providers.base.Framer`. After a DecodeError it holds nothing and is of no more use.

    `max_event_bytes` bounds the memory one message may take.
    """

    __slots__ = ("_data", "_max", "_need")

    def __init__(self, max_event_bytes: int = 16 * 2**20) -> None:
        self._max = max_event_bytes
        self._data = bytearray()
        self._need = 1  # so many bytes have to be there before it is worth looking again

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises DecodeError for what cannot be a message, or is too large."""
        self._data += data
        if len(self._data) < self._need:
            return []
        try:
            return self._messages()
        except DecodeError:
            self._data.clear()
            raise

    def _messages(self) -> list[bytes]:
        data, events, at = bytes(self._data), [], 0
        while True:
            size = self._size(data[at : at + _PRELUDE.size])
            if len(data) - at < size:
                break
            events.append(_message(data[at : at + size]))
            at += size
        del self._data[:at]
        self._need = size
        return events

    def _size(self, prelude: bytes) -> int:
        """The length of the message that begins so, or how much of it has to be there to say."""
        # The smallest length that can begin so: garbage need not wait for a whole prelude to be known as such.
        least = int.from_bytes(prelude[:4].ljust(4, b"\0"), "big")
        if least > self._max:
            raise DecodeError(f"a message of {least} bytes or more: too large, or not an AWS event stream")
        if len(prelude) < _PRELUDE.size:
            return len(prelude) + 1 if len(prelude) < 4 else _PRELUDE.size
        size, headers, checksum = _PRELUDE.unpack(prelude)
        if checksum != crc32(prelude[:-4]):
            raise DecodeError("not an AWS event stream: the checksum of a prelude is wrong")
        if headers > min(size - _LEAST_BYTES, _MAX_HEADERS_BYTES):
            raise DecodeError(f"not an AWS event stream: {headers} bytes of headers in a message of {size}")
        return int(size)

    def close(self) -> list[bytes]:
        """Nothing: a message is handed out by its last byte, and what was cut is dropped."""
        self._data.clear()
        return []


def _message(message: bytes) -> bytes:
    """A line that says what the message is, and its payload."""
    (checksum,) = _CRC.unpack_from(message, len(message) - _CRC.size)
    if checksum != crc32(message[: -_CRC.size]):
        raise DecodeError("not an AWS event stream: the checksum of a message is wrong")
    (headers_bytes,) = _CRC.unpack_from(message, 4)
    end = _PRELUDE.size + headers_bytes
    line, said = _line(message[_PRELUDE.size : end])
    return line + (message[end : -_CRC.size] if said is None else said)


# The messages of a stream have the same few headers again and again; reading them anew took half of the time.
@lru_cache(maxsize=32)
def _line(data: bytes) -> tuple[bytes, bytes | None]:
    """The line that headers come to; and the text of an error, which they hold as well."""
    headers = _headers(data)
    kind = headers.get(":message-type", "")
    named_by = _NAMED_BY.get(kind)
    if named_by is None:
        raise DecodeError(f"a message of the event stream is of no known type: {kind[:40]!r}")
    name = headers.get(named_by, "")
    # It goes into a line of its own, which an endpoint must not be able to forge.
    if not (name.isascii() and name.isprintable() and name):
        raise DecodeError(f"a message of the event stream has no name that could be read: {name[:40]!r}")
    said = headers.get(":error-message", "").encode() if kind == "error" else None
    return f"{kind} {name}\n".encode(), said


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are strings; the others are checked and passed over."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    at = 0
    try:
        while at < len(data):
            at, name = _counted(data, at + 1, data[at])
            if name in seen:
                raise DecodeError("a message of the event stream has a header twice")
            seen.add(name)
            kind = data[at]
            size = _VALUE_BYTES[kind]
            at += 1
            if kind == _STRING:
                at, found[name] = _counted(data, at + 2, int.from_bytes(data[at : at + 2], "big"))
            else:
                at += int.from_bytes(data[at : at + 2], "big") + 2 if size is None else size
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise DecodeError("a message of the event stream has headers that cannot be read") from error
    if at != len(data):
        raise DecodeError("a message of the event stream has headers that cannot be read")
    return found


def _counted(data: bytes, at: int, size: int) -> tuple[int, str]:
    """The place after a text of `size` bytes, which may be past the end, and the text."""
    return at + size, data[at : at + size].decode()
