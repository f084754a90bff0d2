"""`latbench serve-metrics`: what is in the store, for Prometheus, when no run is going on that serves by itself."""

import signal
import time
from pathlib import Path

import click

from latbench.cli.exporting import Address, address
from latbench.cli.report import store_option
from latbench.export.scrape import Scrape
from latbench.export.server import MetricsServer
from latbench.history import History
from latbench.metrics.series import Snapshot
from latbench.observed import Observed
from latbench.store.sqlite import Store

_LOOK_S = 2.0


@click.command("serve-metrics")
@click.option(
    "--metrics-addr",
    metavar="[HOST:]PORT",
    default="9464",
    show_default=True,
    callback=address,
    help="Where to serve, at /metrics; on the loopback unless a host is given.",
)
@store_option
def serve_metrics(metrics_addr: Address, store: Path) -> None:
    """Serve Prometheus metrics of all runs in the store that are over, until Ctrl-C.

    Counters and histograms are sums over the runs and grow when one ends; verdicts, ceilings and the like are those of
    the latest run of each scenario and window. While the store is read for the first time, only the version is there.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    known: list[Snapshot] = [Observed().snapshot()]
    with MetricsServer(*metrics_addr) as server, Store(store, must_exist=True) as opened:
        server.serve(Scrape(lambda: known[-1]).render)
        click.echo(f"latbench: metrics of {store} at {server.url}", err=True)
        history = History()
        try:
            while True:
                known[:] = [history.catch_up(opened)]
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            return
