"""Pushing: for runs that are over before anybody has scraped them.

A pusher sends the snapshot every few seconds and once more at the end. What is wrong from the start (nobody there, a
refusal) is an error before the run begins; what fails later costs the dashboard a few points and is said once, and
never harms the run.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from prometheus_client import generate_latest

from latbench.export.prometheus import registry_of
from latbench.export.remote_write import HEADERS, write_request
from latbench.metrics.series import Snapshot
from latbench.model.errors import UserError

EVERY_S = 5.0
_TIMEOUT_S = 5.0
JOB = "latbench"


class PushFailed(Exception):
    """A push that was not taken: why, in a few words."""


class Target(Protocol):
    """Where snapshots are pushed to."""

    @property
    def name(self) -> str:
        """The flag and what it says."""
        ...

    def send(self, snapshot: Snapshot) -> None:
        """Push a snapshot. Raises PushFailed."""
        ...


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """Not followed: a redirect is a failure."""


# Of the environment's proxies nothing is known here; redirects are not followed.
_OPENER = build_opener(ProxyHandler({}), _NoRedirect)


class Pushgateway:
    """A Pushgateway: the group of job and instance is replaced by each push."""

    def __init__(self, url: str) -> None:
        self.name = f"--pushgateway {_checked(url, '--pushgateway')}"
        self._url = f"{url.rstrip('/')}/metrics/job/{JOB}/instance/{_instance()}"

    def send(self, snapshot: Snapshot) -> None:
        """Replace what is there."""
        body = generate_latest(registry_of(lambda: snapshot))
        _send("PUT", self._url, body, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


class RemoteWrite:
    """A receiver of Prometheus' remote write; native histograms go with the plain ones."""

    def __init__(self, url: str) -> None:
        self.name = f"--remote-write {_checked(url, '--remote-write')}"
        self._url = url
        self._more = {"job": JOB, "instance": _instance()}

    def send(self, snapshot: Snapshot) -> None:
        """Write all of it at this moment."""
        _send("POST", self._url, write_request(snapshot, round(time.time() * 1000), self._more), HEADERS)


class Pusher:
    """Pushes what `take` gives. It runs in a thread, or in a greenlet where Locust has made threads that."""

    def __init__(
        self, targets: Sequence[Target], take: Callable[[], Snapshot], say: Callable[[str], None] | None
    ) -> None:
        self._targets = targets
        self._take = take
        self._say = say
        self._over = threading.Event()
        self._told: set[str] = set()

    def try_all(self) -> None:
        """Push once. Raises UserError for a target that does not take it."""
        for target in self._targets:
            try:
                target.send(self._take())
            except PushFailed as fault:
                raise UserError(f"{target.name}: {fault}; is it up, and does it take pushes?") from fault

    def start(self) -> None:
        """Push every few seconds, until `finish`."""
        threading.Thread(target=self._push, daemon=True).start()

    def finish(self) -> None:
        """The last values."""
        self._over.set()
        self._each()

    def _push(self) -> None:
        while not self._over.wait(EVERY_S):
            self._each()

    def _each(self) -> None:
        for target in self._targets:
            try:
                target.send(self._take())
            except PushFailed as fault:
                if target.name not in self._told and self._say is not None:
                    self._told.add(target.name)
                    self._say(f"{target.name}: {fault}; the run is not affected")


def _send(method: str, url: str, body: bytes, headers: dict[str, str]) -> None:
    request = Request(url, body, headers, method=method)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S):
            pass
    except HTTPError as error:
        with error:
            said = error.read(200).decode(errors="replace")
        raise PushFailed(f"HTTP {error.code} {_printable(said)}".rstrip()) from error
    except (OSError, HTTPException) as error:
        raise PushFailed(_printable(str(getattr(error, "reason", error)))) from error


def _checked(url: str, flag: str) -> str:
    """What of a URL may be shown: not its query. Raises UserError for what is no URL, and for one with a password."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise UserError(f"{flag}: must be a URL that starts with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"{flag}: must not hold credentials: every process list shows them")
    return url.partition("?")[0]


def _instance() -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in socket.gethostname()) or "here"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:200]).strip()
