"""A small HTTP server for scrapes, in threads of the operating system's.

A scrape must be answered within a second whatever the run is doing: while Locust is imported, which takes a second
and patches the standard library; while a summary is computed; while an engine dies. So the server starts before that
import, and takes what it needs from `socket` and `_thread` as they are then: its threads never become greenlets and
never wait for one. Importing this module after Locust gives a server of greenlets, which works and promises less.

It answers GET and HEAD of `/metrics`, one request a connection, and holds no more than a few connections, none of
them for longer than it takes to say so little.
"""

import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from socket import AF_INET, AF_INET6, SHUT_RDWR, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from types import TracebackType
from typing import Self

from latbench.model.errors import UserError

Render = Callable[[str], tuple[str, bytes]]
"""From an `Accept` header to content type and body."""

LONGEST_HEAD = 16_384
PATIENCE_S = 2.0
_MOST_CONNECTIONS = 16
_BACKLOG = 64
_now, _pause = time.monotonic, time.sleep  # as they are before Locust patches them

_PLAIN = "text/plain; charset=utf-8"


class MetricsServer:
    """Listens from the start, answers from `serve` on. A context that closes it."""

    def __init__(self, host: str, port: int, flag: str = "--metrics-addr") -> None:
        """Raises UserError where nobody can listen at `host`:`port`; port 0 is any free one."""
        self._listener = socket(AF_INET6 if ":" in host else AF_INET, SOCK_STREAM)
        self._listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self._listener.close()
            why = error.strerror or str(error)
            raise UserError(f"{flag} {host}:{port}: cannot listen there ({why}); name a free address") from error
        self._host = f"[{host}]" if ":" in host else host
        self._lock = allocate_lock()
        self._connections = 0

    @property
    def url(self) -> str:
        """Where metrics are."""
        return f"http://{self._host}:{self._listener.getsockname()[1]}/metrics"

    def serve(self, render: Render) -> None:
        """Answer scrapes, until it is closed."""
        start_new_thread(self._accept, (render,))

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):  # nobody ever waited
            self._listener.shutdown(SHUT_RDWR)  # wakes the thread that waits for a connection
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, render: Render) -> None:
        family = self._listener.family
        while True:
            try:
                descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # `accept` looks `socket` up anew
            except OSError:
                if self._listener.fileno() < 0:
                    return
                _pause(0.05)  # no open files left, say
                continue
            connection = socket(family, SOCK_STREAM, 0, descriptor)
            with self._lock:
                full = self._connections >= _MOST_CONNECTIONS
                self._connections += not full
            if full:
                connection.close()
            else:
                start_new_thread(self._answer, (connection, render))

    def _answer(self, connection: socket, render: Render) -> None:
        try:
            connection.settimeout(PATIENCE_S)
            head = _read_head(connection)
            if head is not None:
                connection.sendall(answer(head, render))
        except OSError:
            pass  # gone, or too slow
        finally:
            connection.close()
            with self._lock:
                self._connections -= 1


def _read_head(connection: socket) -> bytes | None:
    """The head of a request; None for one that is too long, too slow or never ends."""
    head, until = b"", _now() + PATIENCE_S
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(0.01, until - _now()))
        data = connection.recv(4096)
        head += data
        if not data or len(head) > LONGEST_HEAD or _now() > until:
            return None
    return head


def answer(head: bytes, render: Render) -> bytes:
    """The response to the head of a request."""
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    headers = dict(_header(line) for line in lines[1:])
    if method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", _PLAIN, b"GET only\n")
    if path != "/metrics":
        return _response("404 Not Found", _PLAIN, b"metrics are at /metrics\n")
    content_type, body = render(headers.get("accept", ""))
    return _response("200 OK", content_type, body, with_body=method == "GET")


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _response(status: str, content_type: str, body: bytes, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
