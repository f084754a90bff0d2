"""Server-sent events: bytes in, payloads of events out.

The rules are WHATWG's: lines end with CR, LF or CRLF wherever a read may cut them; comments and the fields `event`,
`id` and `retry` carry nothing for us; several `data` lines are joined by LF; an event ends at a blank line and is
handed out in the very read that ends it, so a CR that ends the blank line does not wait for its LF.

Two rules are ours. What the end of the body leaves without its blank line is an event if it is whole (JSON, or
`[DONE]`), as SDKs have it, and otherwise was cut and is dropped: then the API's sign of completion is missing, and the
exchange is truncated, not malformed. And a body in which no event was ever found, though it has lines that no event
stream has (a page of HTML, a plain JSON error), is refused at its end rather than read as an empty answer.
"""

import msgspec

from latbench.model.errors import DecodeError

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry")
_STRAY_BYTES = 160
_PROBLEM_CHARS = 300


class SseFramer:
    """Implements `providers.base.Framer`. After a DecodeError it holds nothing and is of no more use.

    `max_event_bytes` bounds the memory one event or one line may take.
    """

    __slots__ = ("_after_cr", "_at_start", "_data", "_idle", "_line", "_max", "_seen_event", "_size", "_stray")

    def __init__(self, max_event_bytes: int = 16 * 2**20) -> None:
        self._max = max_event_bytes
        self._idle = True  # between two events, with nothing held
        self._at_start = True
        self._after_cr = False
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._seen_event = False
        self._stray = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` ends. Raises DecodeError where one is larger than the limit."""
        # The usual read is one whole event of one line; every chunk of every answer comes through here.
        if (
            self._idle
            and data[:6] == b"data: "
            and data[-2:] == b"\n\n"
            and data.find(b"\n") == len(data) - 2
            and b"\r" not in data
            and len(data) <= self._max
        ):
            self._seen_event = True
            self._at_start = False
            return [data[6:-2]]
        if not data:
            return []
        return self._feed_lines(data)

    def feed_usual(self, reads: list[bytes]) -> tuple[list[bytes], list[int]] | None:
        """The payloads that many reads end, and how many of them are each read's.

        None where there is anything but whole events of one line `data: ...` each; nothing has been fed then. What is
        here done at once for all of them takes a part of the time that `feed` takes for each.
        """
        body = b"".join(reads)
        if not self._idle or b"\r" in body or len(body) > self._max:
            return None
        lines = body.split(b"\n")
        events, counts = lines[:-1:2], [1] * len(reads)
        if len(events) != len(reads) or not all(reads):
            counts = [read.count(b"\n\n") for read in reads]
        if (
            any(lines[1::2])  # each event ends with a blank line
            or len(lines) % 2 == 0
            or lines[-1]
            or sum(counts) != len(events)
            or [event[:6] for event in events].count(b"data: ") != len(events)
            or [read[-2:] for read in reads].count(b"\n\n") + reads.count(b"") != len(reads)
        ):
            return None
        if events:
            self._seen_event = True
            self._at_start = False
        return [event[6:] for event in events], counts

    def feed_alike(self, reads: list[bytes], before: bytes, after: bytes) -> list[bytes]:
        """Of the first reads, as many as are one event `data: ...` each, what is between `before` and `after` in it.

        Nothing where that is not so, and nothing has been fed then. `before` and `after` have no line ends.
        """
        head, tail = b"data: " + before, after + b"\n\n"
        count = len(reads)
        while count and not reads[count - 1].endswith(tail):
            count -= 1
        alike = reads[:count]
        if not count or not self._idle or min(map(len, alike)) < len(head) + len(tail):
            return []
        begin, end = len(head), -len(tail)
        found = [read[begin:end] for read in alike]
        body = b"".join(alike)  # put together again, it is the same only if each of them was
        if head + (tail + head).join(found) + tail != body or b"\r" in body or len(body) > self._max:
            return []
        if body.count(b"\n") != 2 * count:
            return []
        self._seen_event = True
        self._at_start = False
        return found

    def _feed_lines(self, data: bytes) -> list[bytes]:
        """Any bytes at all. Each byte is looked at once, however small the reads are."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        events: list[bytes] = []
        for line in data.splitlines(keepends=True):
            if line.endswith((b"\n", b"\r")):
                ended = line.rstrip(b"\r\n")
                if self._line:
                    ended = bytes(self._line) + ended
                    self._line.clear()
                self._end_line(ended, events)
            else:
                self._line += line
                self._check_size(self._size + len(self._line))
        self._after_cr = data.endswith(b"\r")
        self._idle = not (self._line or self._data or self._after_cr)
        return events

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
                self._seen_event = True
        elif line.startswith(b"data:"):
            self._add_data(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._add_data(b"")
        elif not self._seen_event and len(self._stray) < _STRAY_BYTES and (self._stray or _is_stray(line)):
            # With the lines that follow: an error in JSON often says nothing in its first one.
            self._stray = (self._stray + b" " + line.strip()).strip()[:_STRAY_BYTES]

    def _add_data(self, value: bytes) -> None:
        self._size += len(value) + 1
        self._check_size(self._size)
        self._data.append(value)

    def _check_size(self, size: int) -> None:
        if size > self._max:
            self._line.clear()
            self._data.clear()
            raise DecodeError(f"an event of the stream is larger than {self._max} bytes")

    def close(self) -> list[bytes]:
        """The last event, if only its blank line is missing.

        Raises DecodeError for a body that holds no event and is not an event stream.
        """
        line = bytes(self._line)
        self._line.clear()
        if line and not _BOM.startswith(line):
            self._end_line(line, [])
        if self._data:
            payload = b"\n".join(self._data)
            self._data.clear()
            return [payload] if _is_whole(payload) else []
        if self._stray and not self._seen_event:
            problem = f"the body is not a stream of server-sent events: it has the line {self._stray!r}"
            raise DecodeError(problem[:_PROBLEM_CHARS])  # each byte of noise is four characters
        return []


def _is_stray(line: bytes) -> bool:
    """Whether no event stream has such a line. A comment has an empty name; the end may have cut a field's name."""
    name = line.partition(b":")[0]
    return not any(field.startswith(name) for field in _FIELDS)


def _is_whole(payload: bytes) -> bool:
    """Whether the end of the body cannot have cut this payload."""
    if payload.strip() == b"[DONE]":
        return True
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
