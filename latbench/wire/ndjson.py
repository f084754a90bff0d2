"""Lines of JSON (NDJSON): bytes in, lines out.

A line ends with LF or CRLF, wherever a read may cut it; blank lines carry nothing. A line is handed out as it stands
in the very read that ends it: whether it is JSON, and what it means, is for the dialect to say.

What the end of the body leaves without its newline is an event if it is a whole object, and otherwise was cut and is
dropped: then the API's sign of completion is missing, and the exchange is truncated, not malformed. But what does not
even begin as an object (a page of HTML on one line) is refused, rather than read as an answer that was cut.
"""

import msgspec

from latbench.model.errors import DecodeError

_BOM = b"\xef\xbb\xbf"
_STRAY_BYTES = 60


class NdjsonFramer:
    """Implements `providers.base.Framer`. After a DecodeError it holds nothing and is of no more use.

    `max_event_bytes` bounds the memory that one line may take.
    """

    __slots__ = ("_at_start", "_line", "_max")

    def __init__(self, max_event_bytes: int = 16 * 2**20) -> None:
        self._max = max_event_bytes
        self._at_start = True
        self._line = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends. Raises DecodeError where one is larger than the limit."""
        # Each byte is looked at once, however small the reads are.
        *ended, rest = data.split(b"\n")
        events: list[bytes] = []
        for line in ended:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            self._check_size(len(line))
            if payload := self._stripped(line):
                events.append(payload)
        self._line += rest
        self._check_size(len(self._line))
        return events

    def _stripped(self, line: bytes) -> bytes:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        return line.strip()

    def _check_size(self, size: int) -> None:
        if size > self._max:
            self._line.clear()
            raise DecodeError(f"a line of the stream is larger than {self._max} bytes")

    def close(self) -> list[bytes]:
        """The last line, if only its newline is missing. Raises DecodeError for what is not the beginning of one."""
        line = bytes(self._line)
        self._line.clear()
        if self._at_start and _BOM.startswith(line):
            return []
        payload = self._stripped(line)
        if payload and not payload.startswith(b"{"):
            raise DecodeError(f"the body is not a stream of JSON lines: it ends with {payload[:_STRAY_BYTES]!r}")
        return [payload] if _is_whole(payload) else []


def _is_whole(payload: bytes) -> bool:
    """Whether the end of the body cannot have cut this line."""
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
