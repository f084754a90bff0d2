"""HTTP's chunked transfer coding: bytes of the wire in, bytes of the body out, at any split of them.

The rules are RFC 9112's (section 7.1), and lenient where aiohttp's parser is: a line may end with LF alone, and blanks
may follow a chunk's size. Extensions and trailers are skipped. What is no size where one must be, or no line's end
after a chunk, raises DecodeError: a body that has lost its framing has no bytes that one could trust.
"""

import re

from latbench.model.errors import DecodeError

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_USUAL = {b"%x" % size: size for size in range(1, 4096)}  # a size as nearly all servers write it
_LINE_OF = {len(line) + size + 4: line for line, size in _USUAL.items()}  # by the bytes of the whole chunk: one has one
_LONGEST_LINE = 8190
_SHOWN = 40


class ChunkedBody:
    """One body. `ended` is set by its last chunk and its trailers; `rest` is what came after them."""

    __slots__ = ("_held", "_in_trailers", "_left", "_line_ends", "ended", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self._left = 0  # bytes of the current chunk that have not come yet
        self._line_ends = False  # the line's end after a chunk has not come yet
        self._in_trailers = False
        self._held = b""  # of a line that has not ended

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in `data`. Raises DecodeError where the framing is broken."""
        # The usual read is whole chunks, most often one; every chunk of every answer comes through here.
        if self._left or self._line_ends or self._held or self._in_trailers:
            return self._feed_any(data)
        end = data.find(b"\r\n")
        size = _USUAL.get(data[:end])
        if size is not None and len(data) == end + size + 4 and data[-2:] == b"\r\n":
            return data[end + 2 : -2]
        return self._feed_whole(data)

    def feed_many(self, reads: list[bytes]) -> list[bytes] | None:
        """What `feed` gives for each of the reads, where each is one whole chunk, or None, and nothing has been fed."""
        if self.ended or self._left or self._line_ends or self._held or self._in_trailers:
            return None
        lines = [_LINE_OF.get(len(read), b"") for read in reads]
        if not all(lines):
            return None
        pieces = [read[len(line) + 2 : -2] for line, read in zip(lines, reads, strict=True)]
        parts = [b""] * (2 * len(reads))
        parts[::2], parts[1::2] = lines, pieces
        if b"\r\n".join(parts) + b"\r\n" != b"".join(reads):  # put together again, each read is the same
            return None
        return pieces

    def _feed_whole(self, data: bytes) -> bytes:
        """Several whole chunks; what is not one, with all that follows it, is left to `_feed_any`."""
        found: list[bytes] = []
        at, length = 0, len(data)
        while at < length:
            end = data.find(b"\r\n", at)
            size = _USUAL.get(data[at:end])
            stop = end + 2 + (size or 0)
            if size is None or data[stop : stop + 2] != b"\r\n":
                found.append(self._feed_any(data[at:] if at else data))
                break
            found.append(data[end + 2 : stop])
            at = stop + 2
        return b"".join(found)

    def _feed_any(self, data: bytes) -> bytes:
        """Any bytes at all."""
        if self.ended:
            self.rest += data
            return b""
        if self._held:
            data, self._held = self._held + data, b""
        found: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                found.append(piece)
                self._left -= len(piece)
                self._line_ends = not self._left
                at += len(piece)
                continue
            end = data.find(b"\n", at) + 1
            if not end:
                self._hold(data[at:])
                break
            self._end_line(data[at:end])
            at = end
        if self.ended:
            self.rest = data[at:]
        return b"".join(found)

    def _hold(self, line: bytes) -> None:
        """Half a line, unless no line can begin like that."""
        if self._line_ends and line != b"\r":
            raise _broken("the end of a chunk", line)
        if len(line) > _LONGEST_LINE:
            raise _broken("the end of a line", line)
        self._held = line

    def _end_line(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE:
            raise _broken("the end of a line", line)
        if self._in_trailers:
            self.ended = line in (b"\r\n", b"\n")
        elif self._line_ends:
            if line not in (b"\r\n", b"\n"):
                raise _broken("the end of a chunk", line)
            self._line_ends = False
        else:
            size_line = _SIZE.fullmatch(line)
            if size_line is None:
                raise _broken("a chunk's size", line)
            self._left = int(size_line[1], 16)
            self._in_trailers = not self._left


def _broken(expected: str, line: bytes) -> DecodeError:
    return DecodeError(f"the body's chunked framing is broken: expected {expected}, got {line[:_SHOWN]!r}")
