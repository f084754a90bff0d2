"""`latbench run`: from flags to a plan, and from a result to the terminal."""

import os
import signal
import sys
from pathlib import Path

import click

from latbench.cli.exporting import Address, Exporter, export_options
from latbench.cli.launch import Setup, launch, launch_trials, say, trials_of
from latbench.cli.options import endpoint_options, keep_options, load_options
from latbench.cli.plan import check_budget, estimate_of
from latbench.cli.report import check_junit, show, write_junit
from latbench.cluster.handshake import SECRET_ENV, SHORTEST_SECRET, is_loopback, secret_from
from latbench.model.errors import ExitCode, UserError
from latbench.plan.estimate import price_line
from latbench.scenario.check import load_whole
from latbench.scenario.loader import Flags, find_scenario


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@click.command()
@click.argument("scenario", default="quickstart")
@endpoint_options
@load_options
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Local worker processes.")
@click.option("--join", type=click.IntRange(0), default=0, help="Wait for this many `latbench worker`s from elsewhere.")
@click.option("--listen", metavar="HOST:PORT", callback=_address, help="Where workers from elsewhere join.")
@click.option(
    "--on-worker-loss",
    type=click.Choice(["continue", "abort"]),
    default="continue",
    show_default=True,
    help="When a worker is lost: the others take over, or the run stops.",
)
@keep_options("RUN")
@export_options
def run(
    scenario: str,
    labels: dict[str, str],
    workers: int,
    join: int,
    listen: tuple[str, int] | None,
    on_worker_loss: str,
    window: str | None,
    store: Path,
    out: Path | None,
    as_json: bool,
    junit: Path | None,
    no_abort: bool,
    no_null_test: bool,
    quiet: bool,
    metrics_addr: Address | None,
    metrics_keep: float,
    pushgateway: str | None,
    remote_write: str | None,
    **flags: str | int | Path | tuple[str, ...] | None,
) -> None:
    """Measure the endpoints of SCENARIO, a file or a name (default: quickstart, which starts a simulated endpoint)."""
    if join and listen is None:
        raise UserError("--join: workers from elsewhere need an address to join: add --listen HOST:PORT")
    if workers + join < 1:
        raise UserError("--workers 0: nobody would send anything; add --join N or leave it out")
    if listen is not None and not join:
        raise UserError(f"--listen {listen[0]}:{listen[1]}: nobody is to join there: add --join N or leave it out")
    check_junit(junit)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run has handlers of its own
    secret = secret_from(os.environ)
    if listen is not None and secret is None and not is_loopback(listen[0]):
        raise UserError(
            f"--listen {listen[0]}:{listen[1]}: others can reach that port: set {SECRET_ENV} to a secret of at least"
            f" {SHORTEST_SECRET} characters, here and where the workers run"
        )
    if listen is not None and not quiet:
        where = f"`latbench worker --master {listen[0]}:{listen[1]}`"
        click.echo(f"latbench: {join} workers are to join with {where}; they are awaited for ten minutes", err=True)
    exporter = Exporter(metrics_addr, metrics_keep, pushgateway, remote_write, None if quiet else say)
    given = Flags(labels=labels, **flags)  # type: ignore[arg-type]
    loaded, prompts = load_whole(find_scenario(scenario, Path.cwd()), given, os.environ)
    setup = Setup(
        *(workers, store, out, window, quiet, not no_abort, on_worker_loss == "abort", join, listen, secret),
        exporter=exporter,
        null_test=not no_null_test,
    )
    if loaded.scenario.needle is not None:
        result = launch_trials(setup, loaded, trials_of(loaded))
    else:
        check_budget(loaded, prompts)
        if not quiet:
            click.echo(f"latbench: {price_line(estimate_of(loaded, prompts))}", err=True)
        result = launch(setup, loaded, prompts)
    show(result.summary, (f"store {store}", f"run directory {result.directory}"), as_json=as_json)
    if junit is not None:
        write_junit(result.summary, junit)
    sys.stdout.flush()
    exporter.finish(wait=result.exit_code != ExitCode.INTERRUPTED)
    sys.exit(result.exit_code)
