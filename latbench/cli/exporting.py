"""Exporters of a run, from flags: a server for scrapes, pushes, and the wait after the end in which both are seen.

The exporters' library is imported when a flag asks for one, and before Locust: see `export/server.py`.
"""

import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from latbench.observed import Observed
from latbench.scenario.grammar import parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])
Address = tuple[str, int]

_LOOPBACK = "127.0.0.1"
_LOOK_S = 0.1


def address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Address | None:
    """`HOST:PORT`, or a port alone, which is one of the loopback's. Port 0 is any free one."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.strip("[]") or _LOOPBACK, int(port)


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Seconds."""
    try:
        return parse_duration(value) / 1e9
    except ValueError as fault:
        raise click.BadParameter(str(fault)) from fault


_OPTIONS = (
    click.option(
        "--metrics-addr",
        metavar="[HOST:]PORT",
        callback=address,
        help="Serve Prometheus metrics there, at /metrics; on the loopback unless a host is given.",
    ),
    click.option(
        "--metrics-keep",
        default="30s",
        show_default=True,
        callback=duration,
        help="How long the last values stay there after the end, for one more scrape; Ctrl-C ends that.",
    ),
    click.option("--pushgateway", metavar="URL", help="Push the metrics to a Pushgateway."),
    click.option(
        "--remote-write", metavar="URL", help="Push the metrics by Prometheus remote write, with native histograms."
    ),
)


def export_options(command: Command) -> Command:
    """--metrics-addr, --metrics-keep, --pushgateway, --remote-write: the arguments of `Exporter`, by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Exporter:
    """What a run is exported by; nothing where no flag asks for it. It lives as long as the process."""

    def __init__(
        self,
        metrics_addr: Address | None,
        metrics_keep: float,
        pushgateway: str | None,
        remote_write: str | None,
        say: Callable[[str], None] | None,
    ) -> None:
        """Serve from now on. Raises UserError for an address that is taken and for a URL that is none."""
        self.observed: Observed | None = None
        self._pusher = None
        self._keep_s = metrics_keep if metrics_addr is not None else 0.0
        self._say = say
        if metrics_addr is None and pushgateway is None and remote_write is None:
            return
        from latbench.export.push import Pusher, Pushgateway, RemoteWrite, Target
        from latbench.export.scrape import Scrape
        from latbench.export.server import MetricsServer

        observed = self.observed = Observed()
        if metrics_addr is not None:
            server = MetricsServer(*metrics_addr)
            server.serve(Scrape(observed.snapshot).render)
            self._tell(f"metrics at {server.url}")
        targets: list[Target] = []
        if pushgateway is not None:
            targets.append(Pushgateway(pushgateway))
        if remote_write is not None:
            targets.append(RemoteWrite(remote_write))
        if targets:
            self._pusher = Pusher(targets, observed.snapshot, say)
            self._pusher.try_all()

    def start(self) -> None:
        """The run is about to begin: Locust is imported."""
        if self._pusher is not None:
            self._pusher.start()

    def finish(self, *, wait: bool) -> None:
        """The run is over: push once more; keep serving, if anybody is to `wait` for that."""
        if self._pusher is not None:
            self._pusher.finish()
        if not wait or not self._keep_s:
            return
        self._tell(f"the last values stay for {self._keep_s:g} s; Ctrl-C ends that")
        enough = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: enough.append(True))
        until = time.monotonic() + self._keep_s
        while not enough and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def _tell(self, words: str) -> None:
        if self._say is not None:
            self._say(words)
