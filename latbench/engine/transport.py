"""What sends one request and stamps what comes back: where to, what, and the rules that every transport keeps.

There are two. `stamped.py` takes the time in front of aiohttp's parser, `plain.py` does the same with aiohttp's public
calls where that fails. What is too slow is judged by the sweep in `flight.py`, because aiohttp's read timeout re-arms a
timer for each chunk (a third more CPU).
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from latbench.engine.lag import Turn
from latbench.engine.reads import Head, Reads
from latbench.model.errors import UserError
from latbench.providers.base import Signer

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a transport raises when an exchange cannot be finished."""

READ_BUFFER_BYTES = 1 << 18
"""How much of a body aiohttp may hold before it stops reading."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how requests of one endpoint go. `headers` hold the credentials: never log one of these.

    `url` is the address below which requests have their paths; `signer`, if any, signs each of them.
    """

    url: URL
    headers: dict[str, str] = field(repr=False)
    connect_s: float
    ca_file: str | None = None
    proxy: str | None = None
    signer: Signer | None = field(default=None, repr=False)

    def at(self, path: str) -> URL:
        """The address of a request."""
        return URL(str(self.url).rstrip("/") + path, encoded=True)


@dataclass(frozen=True, slots=True)
class Post:
    """A request ready to leave: its path below the target's address, its body, and what signs it."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Transport(Protocol):
    """Sends requests to one target. Its reads tell `turn` how long they waited."""

    turn: Turn

    async def open(self, connections: int) -> None:
        """Open that many connections ahead of use. Raises one of `BROKEN` where the target cannot be reached."""
        ...

    def sign(self, post: Post) -> Post:
        """The request with a signature of this moment, where the target wants one."""
        ...

    async def exchange(self, post: Post, reads: Reads, *, fresh: bool = False) -> None:
        """Send `post`; fill `reads`; return at the end of the answer.

        With `fresh`, no connection that was used before is taken. Raises one of `BROKEN` when the connection broke or
        what came was not HTTP: `reads` tells how far it had come.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def why_unreached(fault: Exception) -> str:
    """Why a connection could not be opened, in words of one line."""
    if isinstance(fault, TimeoutError):
        return "no connection within `timeouts.connect` (is it TLS where the other side expects it?)"
    if isinstance(fault, aiohttp.ClientConnectorError) and not isinstance(fault, aiohttp.ClientSSLError):
        cause = fault.os_error
        reason = (
            os.strerror(cause.errno) if cause.errno is not None and cause.errno > 0 else cause.strerror or str(cause)
        )
        return f"cannot connect to {fault.host}:{fault.port} ({reason.lower()})"
    return str(fault).replace("\n", " ") or type(fault).__name__


def tls_of(target: Target) -> ssl.SSLContext | bool:
    """Certificates are always verified; a private authority comes from `ca_file`.

    Raises UserError where that file cannot be used on this machine.
    """
    try:
        return ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True
    except OSError as fault:
        raise UserError(f"ca_file {target.ca_file} cannot be used on this worker's machine: {fault}") from fault


def proxy_of(target: Target) -> tuple[URL | None, dict[str, str]]:
    """The proxy to go through, and the headers it wants. The environment's only where the scenario says `env`."""
    found = target.proxy
    if found == "env":
        bypassed = target.url.host is None or proxy_bypass(target.url.host)
        found = None if bypassed else getproxies().get(target.url.scheme)
    if not found:
        return None, {}
    url = URL(found)
    key = {"proxy-authorization": aiohttp.encode_basic_auth(url.user, url.password or "")} if url.user else {}
    return url.with_user(None), key


def head_of(status: int, headers: Mapping[str, str]) -> Head:
    """aiohttp keeps bytes that are not UTF-8 as lone surrogates, which no encoder after us would take."""
    return Head(status, {name.lower(): value.encode(errors="replace").decode() for name, value in headers.items()})


def signed(target: Target, post: Post) -> Post:
    """The request with a signature of this moment, where the target wants one."""
    if target.signer is None:
        return post
    headers = target.signer(str(target.at(post.path)), target.headers, post.body)
    return replace(post, headers={name.lower(): value for name, value in headers.items()})


def host_of(url: URL) -> str:
    """The Host header: the port only where it is not the scheme's own."""
    host = url.host_subcomponent or ""
    return host if url.is_default_port() else f"{host}:{url.port}"
